import { createHash } from "node:crypto";
import type { BlobReference, Digest } from "#core";
import type { RegistryReference } from "./contract.ts";
import { corrupt, notThere, protocolBroken } from "./errors.ts";
import type { Session } from "./session.ts";
import { requireDigest, wrongStatus } from "./upload.ts";

export interface FetchedManifest extends BlobReference {
  readonly content: Uint8Array;
  readonly mediaType: string;
}

export interface ManifestWish {
  /** A tag or a digest. */
  readonly reference: string;
  readonly mediaTypes: readonly string[];
  readonly bytesMax: number;
}

/**
 * A manifest by tag or digest. Its digest is computed here, and compared with what was asked for
 * and with what the registry says.
 *
 * @returns undefined when the registry has none
 * @throws `registry.manifest-corrupt` (corrupt), `registry.protocol` (peer)
 */
export async function findManifest(
  session: Session,
  { reference, mediaTypes, bytesMax }: ManifestWish,
): Promise<FetchedManifest | undefined> {
  return await session.persistently(async () => {
    const answer = await session.send({
      method: "GET",
      to: `manifests/${reference}`,
      headers: { accept: mediaTypes.join(", ") },
    });
    if (answer.status !== 200) {
      answer.discard();
      if (answer.status === 404) return undefined;
      throw wrongStatus(session, answer, "asked for a manifest");
    }
    const mediaType = (answer.headers["content-type"] ?? "").split(";", 1)[0]?.trim() ?? "";
    const said = answer.headers["docker-content-digest"];
    const content = await answer.bytes(bytesMax);
    if (!mediaTypes.includes(mediaType)) {
      throw protocolBroken(session.host, `has ${reference} as "${mediaType.slice(0, 128)}"`);
    }
    const digest = digestOf(content);
    const wanted = reference.startsWith("sha256:") ? reference : String(said ?? digest);
    if (wanted !== digest) throw corrupt(session.host, wanted, digest);
    return { content, digest, sizeBytes: content.length, mediaType };
  });
}

/** As {@link findManifest}. @throws `registry.manifest-not-found` (misuse) */
export async function fetchManifest(
  session: Session,
  target: RegistryReference,
  wish: Omit<ManifestWish, "reference">,
): Promise<FetchedManifest> {
  const reference = target.digest ?? target.tag ?? "latest";
  const found = await findManifest(session, { ...wish, reference });
  if (found !== undefined) return found;
  throw notThere(session.host, `${target.name} with ${reference}`);
}

export async function putManifest(
  session: Session,
  reference: string,
  { content, mediaType }: { readonly content: Uint8Array; readonly mediaType: string },
): Promise<void> {
  const blob = { digest: digestOf(content), sizeBytes: content.length };
  await session.persistently(async () => {
    const answer = await session.send({
      method: "PUT",
      to: `manifests/${reference}`,
      headers: { "content-type": mediaType },
      body: content,
    });
    answer.discard();
    if (answer.status !== 201) throw wrongStatus(session, answer, "sent a manifest");
    requireDigest(session, answer, blob);
  });
}

export function digestOf(content: Uint8Array): Digest {
  return `sha256:${createHash("sha256").update(content).digest("hex")}`;
}
