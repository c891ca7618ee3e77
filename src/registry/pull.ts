import {
  hasCode,
  type BlobReference,
  type Component,
  type ComponentSignature,
  type Digest,
  type World,
} from "#core";
import {
  MANIFEST_BYTES_MAX,
  MANIFEST_TYPE,
  readManifest,
  type ComponentStore,
  type Ingest,
} from "#repository";
import type { Carried, CarryOptions, RegistryAccess, RegistryReference } from "./contract.ts";
import { downloadBlob } from "./download.ts";
import { fetchManifest, type FetchedManifest } from "./manifests.ts";
import { formatReference } from "./reference.ts";
import { Session } from "./session.ts";
import { findSignatures } from "./signatures.ts";

/** Bytes after which what has come is made durable. */
const CHECKPOINT_BYTES = 32 * 2 ** 20;

/** What a registry offers, before its bytes are fetched. */
export interface OfferedComponent {
  readonly id: Digest;
  readonly manifest: BlobReference;
  readonly sizeBytes: number;
}

export interface PullOptions extends CarryOptions {
  /** Throws when the component is not to be had; nothing but manifests was fetched then. */
  readonly admits?: (
    offered: OfferedComponent,
    signatures: readonly ComponentSignature[],
  ) => Promise<void>;
}

/**
 * Fetches a component into the repository. A pull that was cut off, by a crash too, goes on with
 * what is there; the component exists when every digest is right.
 *
 * @throws `registry.manifest-not-found`, `registry.manifest-corrupt`, `registry.protocol`,
 *   `registry.access-refused`, `registry.unreachable`, and those of the repository's `ingest`
 */
export async function pullComponent(
  world: World,
  store: ComponentStore,
  { target, access }: { readonly target: RegistryReference; readonly access: RegistryAccess },
  options: PullOptions = {},
): Promise<Carried> {
  const { host, name } = target;
  const session = new Session(world, { host, name, writes: false }, access, options);
  try {
    const wish = { mediaTypes: [MANIFEST_TYPE], bytesMax: MANIFEST_BYTES_MAX };
    const manifest = await fetchManifest(session, target, wish);
    const reference = formatReference({ host, name, digest: manifest.digest });
    return { reference, ...(await take(session, store, manifest, options)) };
  } finally {
    session.close();
  }
}

async function take(
  session: Session,
  store: ComponentStore,
  fetched: FetchedManifest,
  options: PullOptions,
): Promise<{ readonly component: Component; readonly movedBytes: number }> {
  const { content, digest, sizeBytes } = fetched;
  const manifest = { digest, sizeBytes };
  const { config, image, fragments } = readManifest(manifest, content);
  const offered = { id: image.digest, manifest, sizeBytes: image.sizeBytes };
  const signatures = await findSignatures(session, offered);
  await options.admits?.(offered, signatures);
  let movedBytes = 0;
  for (const blob of [config, fragments, image]) {
    movedBytes += await takeBlob(session, store, blob, options);
  }
  const ingest = await store.ingest(manifest, options.signal);
  if (ingest !== undefined) await ended(ingest, () => fill(ingest, content));
  const component = await store.admit(manifest);
  const same = component.manifest.digest === digest;
  if (same && signatures.length > 0) {
    await store.addSignatures(component.id, { signatures, own: false });
  }
  return { component, movedBytes };
}

async function fill(ingest: Ingest, content: Uint8Array): Promise<void> {
  await ingest.append(content.subarray(ingest.writtenBytes));
}

/** @returns the bytes that came */
async function takeBlob(
  session: Session,
  store: ComponentStore,
  blob: BlobReference,
  { signal, onProgress }: PullOptions,
): Promise<number> {
  const ingest = await store.ingest(blob, signal);
  if (ingest === undefined) return 0;
  const before = ingest.writtenBytes;
  let durable = before;
  const target = {
    get writtenBytes() {
      return ingest.writtenBytes;
    },
    append: async (bytes: Uint8Array) => {
      await ingest.append(bytes);
      if (ingest.writtenBytes - durable < CHECKPOINT_BYTES) return;
      durable = ingest.writtenBytes;
      await ingest.checkpoint();
    },
  };
  await ended(ingest, () =>
    downloadBlob(session, blob, target, (doneBytes) =>
      onProgress?.({ blob: blob.digest, doneBytes, totalBytes: blob.sizeBytes }),
    ),
  );
  return blob.sizeBytes - before;
}

/** Commits what `work` has filled; keeps it for the next attempt when it failed on the way. */
async function ended(ingest: Ingest, work: () => Promise<void>): Promise<void> {
  try {
    await work();
    await ingest.commit();
  } catch (error) {
    // What a registry sent against the protocol may be anything: nothing goes on from there.
    if (hasCode(error, "registry.protocol")) await ingest.abort();
    throw error;
  } finally {
    await ingest.release();
  }
}
