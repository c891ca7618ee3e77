import { createHash, hash } from "node:crypto";
import { TesseraError, type World } from "#core";
import type { ContentSource } from "./contract.ts";
import { tooLarge } from "./errors.ts";

const CHUNK_BYTES = 1024 * 1024;

/** A source over bytes in memory, which must not change afterwards. */
export function bufferSource(bytes: Uint8Array): ContentSource {
  return {
    sizeBytes: bytes.length,
    async read(target, position) {
      target.set(bytes.subarray(position, position + target.length));
    },
  };
}

/** A part of another source, read when wanted. */
export function sliceSource(
  source: ContentSource,
  offset: number,
  sizeBytes: number,
): ContentSource {
  return { sizeBytes, read: (target, position) => source.read(target, offset + position) };
}

/**
 * A source over a file, of the size that the file has now; it stays open until `close`.
 *
 * @throws `system.not-found` and other `system` errors; reads throw `image.content-short` (corrupt)
 *   when the file has become shorter
 */
export async function fileSource(
  world: World,
  path: string,
): Promise<ContentSource & { close(): Promise<void> }> {
  const file = await world.files.open(path, "read");
  const { sizeBytes } = await file.status();
  return {
    sizeBytes,
    async read(target, position) {
      const length = await file.read(target, position);
      if (length === target.length) return;
      const message = `${path} ends at byte ${position + length} of ${sizeBytes}`;
      throw new TesseraError("corrupt", "image.content-short", message, { subject: path });
    },
    close: () => file.close(),
  };
}

/** Everything. @throws `image.too-large` (misuse) above `bytesMax`. */
export async function readAll(source: ContentSource, bytesMax: number): Promise<Uint8Array> {
  if (source.sizeBytes > bytesMax) {
    throw tooLarge(`content of ${source.sizeBytes} bytes exceeds the limit of ${bytesMax}`);
  }
  const bytes = new Uint8Array(source.sizeBytes);
  await source.read(bytes, 0);
  return bytes;
}

/** Chunks that are kept to be used again: a new one costs as much as reading into it. */
const FREE_MAX = 32;
const free: Uint8Array[] = [];

async function withChunk<T>(work: (chunk: Uint8Array) => Promise<T>): Promise<T> {
  const chunk = free.pop() ?? new Uint8Array(CHUNK_BYTES);
  try {
    return await work(chunk);
  } finally {
    if (free.length < FREE_MAX) free.push(chunk);
  }
}

/** Shows the content in pieces, each until the call returns. */
async function eachChunk(source: ContentSource, see: (bytes: Uint8Array) => void): Promise<void> {
  await withChunk(async (chunk) => {
    for (let position = 0; position < source.sizeBytes; position += CHUNK_BYTES) {
      const bytes = chunk.subarray(0, Math.min(CHUNK_BYTES, source.sizeBytes - position));
      await source.read(bytes, position);
      see(bytes);
    }
  });
}

/** Sources do not change, so what was hashed once need not be read again. */
const hashes = new WeakMap<ContentSource, Buffer>();

async function hashOf(source: ContentSource): Promise<Buffer> {
  let whole: Buffer | undefined;
  const hasher = source.sizeBytes > CHUNK_BYTES ? createHash("sha256") : undefined;
  await eachChunk(source, (bytes) => {
    if (hasher === undefined) whole = hash("sha256", bytes, "buffer");
    else hasher.update(bytes);
  });
  return hasher?.digest() ?? whole ?? hash("sha256", "", "buffer");
}

/** The sha256 of a source's bytes, 32 bytes. */
export async function contentHash(source: ContentSource): Promise<Buffer> {
  const known = hashes.get(source);
  if (known !== undefined) return known;
  const value = await hashOf(source);
  hashes.set(source, value);
  return value;
}

/**
 * The md5 of a source's bytes, in hexadecimal digits. Their sha256 is known from then on, so that
 * they are read once for both.
 */
export async function contentMd5(source: ContentSource): Promise<string> {
  if (source.sizeBytes > CHUNK_BYTES) return await longMd5(source);
  let md5 = hash("md5", "");
  let sha256 = hash("sha256", "", "buffer");
  await eachChunk(source, (bytes) => {
    md5 = hash("md5", bytes);
    sha256 = hash("sha256", bytes, "buffer");
  });
  hashes.set(source, sha256);
  return md5;
}

async function longMd5(source: ContentSource): Promise<string> {
  const [md5, sha256] = [createHash("md5"), createHash("sha256")];
  await eachChunk(source, (bytes) => {
    md5.update(bytes);
    sha256.update(bytes);
  });
  hashes.set(source, sha256.digest());
  return md5.digest("hex");
}

/** The sha256 of a source that `contentHash` was asked for before. */
export function knownHash(source: ContentSource): Buffer {
  const known = hashes.get(source);
  if (known !== undefined) return known;
  throw new TesseraError("bug", "image.content-unhashed", "a content was not hashed before");
}

/** True when both have the same bytes. */
export async function sameContent(a: ContentSource, b: ContentSource): Promise<boolean> {
  if (a === b) return true;
  if (a.sizeBytes !== b.sizeBytes) return false;
  return (await contentHash(a)).equals(await contentHash(b));
}
