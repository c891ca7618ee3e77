/** Signatures beside components in registries, found by tag. */
import type { ComponentSignature } from "#core";
import {
  MANIFEST_TYPE,
  packageSignatures,
  readSignatures,
  SIGNATURES_BYTES_MAX,
  signatureTag,
  type Signable,
} from "#repository";
import { bufferSource } from "#image";
import { findManifest, putManifest } from "./manifests.ts";
import type { Session } from "./session.ts";
import { hasBlob, uploadBlob } from "./upload.ts";

/** What a registry has; nobody has verified it. */
export async function findSignatures(
  session: Session,
  component: Signable,
): Promise<ComponentSignature[]> {
  const found = await findManifest(session, {
    reference: signatureTag(component.manifest.digest),
    mediaTypes: [MANIFEST_TYPE],
    bytesMax: SIGNATURES_BYTES_MAX,
  });
  return found === undefined ? [] : readSignatures(component, found.content);
}

/** Adds to those that the registry has; one for each key, ours. */
export async function putSignatures(
  session: Session,
  component: Signable,
  signatures: readonly ComponentSignature[],
): Promise<void> {
  if (signatures.length === 0) return;
  const keys = new Set(signatures.map(({ key }) => key));
  const there = await findSignatures(session, component);
  if (signatures.every((own) => there.some((one) => one.signature === own.signature))) return;
  const others = there.filter(({ key }) => !keys.has(key));
  const { manifest, blobs } = packageSignatures(component, [...signatures, ...others]);
  for (const { digest, sizeBytes, content } of blobs) {
    const blob = { digest, sizeBytes };
    if (await hasBlob(session, blob)) continue;
    await uploadBlob(session, blob, bufferSource(content), () => undefined);
  }
  const tag = signatureTag(component.manifest.digest);
  await putManifest(session, tag, { content: manifest.content, mediaType: MANIFEST_TYPE });
}
