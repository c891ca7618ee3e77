import type { BlobReference, Component, World } from "#core";
import { MANIFEST_TYPE, type ComponentStore } from "#repository";
import type { Carried, CarryOptions, RegistryAccess, RegistryReference } from "./contract.ts";
import { referenceInvalid } from "./errors.ts";
import { putManifest } from "./manifests.ts";
import { formatReference, tagOf } from "./reference.ts";
import { Session } from "./session.ts";
import { putSignatures } from "./signatures.ts";
import { hasBlob, uploadBlob } from "./upload.ts";

/**
 * Sends a held component to a registry: its blobs that the registry lacks, then its manifest, under
 * the reference's tag or its own version as one. What is there already does not travel again.
 *
 * @throws `registry.access-refused`, `registry.protocol`, `registry.unreachable`
 */
export async function pushComponent(
  world: World,
  store: ComponentStore,
  component: Component,
  { target, access }: { readonly target: RegistryReference; readonly access: RegistryAccess },
  options: CarryOptions = {},
): Promise<Carried> {
  if (target.digest !== undefined) {
    throw referenceInvalid(formatReference(target), "names a digest: what is sent gets a tag");
  }
  const tag = target.tag ?? tagOf(component.description.version);
  const { host, name } = target;
  const session = new Session(world, { host, name, writes: true }, access, options);
  try {
    let movedBytes = 0;
    for (const blob of await store.blobsOf(component.manifest)) {
      movedBytes += await pushBlob(session, store, blob, options);
    }
    const content = await readBlob(store, component.manifest);
    await putManifest(session, tag, { content, mediaType: MANIFEST_TYPE });
    await putSignatures(session, component, await store.signatures(component.id));
    return { component, reference: formatReference({ host, name, tag }), movedBytes };
  } finally {
    session.close();
  }
}

async function pushBlob(
  session: Session,
  store: ComponentStore,
  blob: BlobReference,
  { onProgress }: CarryOptions,
): Promise<number> {
  const tell = (doneBytes: number): void =>
    onProgress?.({ blob: blob.digest, doneBytes, totalBytes: blob.sizeBytes });
  if (await hasBlob(session, blob)) {
    tell(blob.sizeBytes);
    return 0;
  }
  const source = await store.openBlob(blob.digest);
  try {
    return await uploadBlob(session, blob, source, tell);
  } finally {
    await source.close();
  }
}

async function readBlob(store: ComponentStore, blob: BlobReference): Promise<Uint8Array> {
  const source = await store.openBlob(blob.digest);
  try {
    const content = new Uint8Array(blob.sizeBytes);
    await source.read(content, 0);
    return content;
  } finally {
    await source.close();
  }
}
