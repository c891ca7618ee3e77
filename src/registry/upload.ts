import type { BlobReference } from "#core";
import type { ContentSource } from "#image";
import { protocolBroken, unreachable } from "./errors.ts";
import type { Session } from "./session.ts";
import type { WireAnswer } from "./wire.ts";

/** Bytes of one request; also what a cut costs at most. */
const CHUNK_BYTES = 4 * 2 ** 20;

/** An upload that a registry has begun: where it goes on, and what it has. */
interface Upload {
  readonly location: URL;
  readonly heldBytes: number;
}

/** True when the registry has the blob already. @throws `registry.protocol` on another size */
export async function hasBlob(session: Session, blob: BlobReference): Promise<boolean> {
  return await session.persistently(async () => {
    const answer = await session.send({ method: "HEAD", to: `blobs/${blob.digest}` });
    answer.discard();
    if (answer.status === 404) return false;
    if (answer.status !== 200) throw wrongStatus(session, answer, "asked for a blob");
    const size = answer.headers["content-length"];
    if (size === undefined || Number(size) === blob.sizeBytes) return true;
    throw protocolBroken(session.host, `has ${size} bytes as ${blob.digest}`);
  });
}

/**
 * Sends a blob in chunks. After a cut the registry is asked what it has, and the rest follows;
 * where it has forgotten the upload, a new one is begun.
 *
 * @returns the bytes sent
 */
export async function uploadBlob(
  session: Session,
  blob: BlobReference,
  source: ContentSource,
  onBytes: (doneBytes: number) => void,
): Promise<number> {
  let upload: Upload | undefined;
  let sentBytes = 0;
  await session.persistently(async (progressed) => {
    const known = upload === undefined ? undefined : await whereIs(session, upload, blob);
    sentBytes += (known?.heldBytes ?? 0) - (known === undefined ? 0 : (upload?.heldBytes ?? 0));
    upload = known ?? (await begin(session));
    while (upload.heldBytes < blob.sizeBytes) {
      const before = upload;
      upload = await sendChunk(session, before, blob, source);
      if (upload === undefined) throw unreachable(session.host, "it has lost the upload");
      sentBytes += Math.max(0, upload.heldBytes - before.heldBytes);
      if (upload.heldBytes > before.heldBytes) progressed();
      else throw unreachable(session.host, "it takes nothing");
      onBytes(upload.heldBytes);
    }
    await commit(session, upload, blob);
  });
  return sentBytes;
}

async function begin(session: Session): Promise<Upload> {
  const answer = await session.send({ method: "POST", to: "blobs/uploads/" });
  answer.discard();
  if (answer.status !== 202) throw wrongStatus(session, answer, "asked to take a blob");
  return { location: session.location(answer), heldBytes: 0 };
}

/** Undefined when the registry does not know the upload any more. */
async function whereIs(
  session: Session,
  { location, heldBytes }: Upload,
  blob: BlobReference,
): Promise<Upload | undefined> {
  // Nothing has arrived yet, or one byte: "0-0" does not tell which, so begin anew.
  if (heldBytes === 0) return undefined;
  const answer = await session.send({ method: "GET", to: location });
  answer.discard();
  if (answer.status === 404) return undefined;
  if (answer.status !== 204) throw wrongStatus(session, answer, "asked what it has");
  return progressOf(session, answer, location, blob.sizeBytes);
}

async function sendChunk(
  session: Session,
  { location, heldBytes }: Upload,
  blob: BlobReference,
  source: ContentSource,
): Promise<Upload | undefined> {
  const body = new Uint8Array(Math.min(CHUNK_BYTES, blob.sizeBytes - heldBytes));
  await source.read(body, heldBytes);
  const end = heldBytes + body.length;
  const answer = await session.send({
    method: "PATCH",
    to: location,
    headers: {
      "content-type": "application/octet-stream",
      "content-range": `${heldBytes}-${end - 1}`,
    },
    body,
  });
  answer.discard();
  if (answer.status === 404 || answer.status === 416) return undefined;
  if (answer.status !== 202) throw wrongStatus(session, answer, "sent a chunk");
  return progressOf(session, answer, location, end);
}

function progressOf(
  session: Session,
  answer: WireAnswer,
  location: URL,
  sentBytes: number,
): Upload {
  const range = /^(?:bytes=)?0-(\d+)$/.exec(answer.headers.range ?? "");
  if (range === null) throw protocolBroken(session.host, "does not say what it has");
  const heldBytes = Number(range[1]) + 1;
  if (heldBytes > sentBytes) throw protocolBroken(session.host, "has more than it was sent");
  const next = answer.headers.location === undefined ? location : session.location(answer);
  return { location: next, heldBytes };
}

async function commit(session: Session, { location }: Upload, blob: BlobReference): Promise<void> {
  const url = new URL(location);
  url.searchParams.set("digest", blob.digest);
  const answer = await session.send({
    method: "PUT",
    to: url,
    headers: { "content-type": "application/octet-stream" },
    body: new Uint8Array(0),
  });
  answer.discard();
  // The answer to an earlier attempt may have been lost: then the blob is there.
  if (answer.status === 404 && (await hasBlob(session, blob))) return;
  if (answer.status !== 201) throw wrongStatus(session, answer, "asked to keep a blob");
  requireDigest(session, answer, blob);
}

/** What a registry says to have kept must be what it was sent. */
export function requireDigest(session: Session, answer: WireAnswer, blob: BlobReference): void {
  const said = answer.headers["docker-content-digest"];
  if (said === undefined || said === blob.digest) return;
  throw protocolBroken(session.host, `keeps ${blob.digest} as ${String(said)}`);
}

export function wrongStatus(session: Session, answer: WireAnswer, when: string) {
  return protocolBroken(session.host, `answers ${answer.status} when ${when}`);
}
