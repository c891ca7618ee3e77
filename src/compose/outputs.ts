/** The files that composing makes: written beside and renamed, and checked by digest. */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { TesseraError } from "#core";
import type { World } from "#core";
import type { ByteSink, ContentSource } from "#image";
import type { Output } from "./record.ts";

const CHUNK_BYTES = 2 ** 20;

/** No output takes so long to write: an older file beside one is of a process that died. */
const STALE_MS = 3_600_000;

/**
 * Writes a file through a sink: beside `path`, synced, then renamed. The digest is taken of the
 * bytes as they are written.
 */
export async function writeOutput(
  world: World,
  path: string,
  write: (sink: ByteSink) => Promise<unknown>,
): Promise<Output> {
  const beside = `${path}.new-${world.random.uuid()}`;
  const hash = createHash("sha256");
  let sizeBytes = 0;
  try {
    const file = await world.files.open(beside, "exclusive", 0o644);
    try {
      await write({
        async write(bytes) {
          hash.update(bytes);
          await file.write(bytes, sizeBytes);
          sizeBytes += bytes.length;
        },
      });
      await file.sync();
    } finally {
      await file.close();
    }
    await world.files.rename(beside, path);
  } finally {
    await world.files.remove(beside);
  }
  return { digest: `sha256:${hash.digest("hex")}`, sizeBytes };
}

/** Removes what processes that died have left in the directory; others may be writing there now. */
export async function removeStale(world: World, directory: string): Promise<void> {
  for (const name of await world.files.list(directory)) {
    const path = join(directory, name);
    const status = name.includes(".new-") ? await world.files.status(path) : undefined;
    if (status === undefined || world.clock.now() - status.modified_ms < STALE_MS) continue;
    await world.files.remove(path);
  }
}

/** Copies a content into a sink by pieces. */
export async function copyTo(sink: ByteSink, content: ContentSource): Promise<void> {
  for (let position = 0; position < content.sizeBytes; position += CHUNK_BYTES) {
    const piece = new Uint8Array(Math.min(CHUNK_BYTES, content.sizeBytes - position));
    await content.read(piece, position);
    await sink.write(piece);
  }
}

/** True when the file is there and has this size and digest. */
export async function holds(world: World, path: string, expected: Output): Promise<boolean> {
  const status = await world.files.status(path);
  if (status?.kind !== "file" || status.sizeBytes !== expected.sizeBytes) return false;
  const file = await world.files.open(path, "read");
  try {
    const hash = createHash("sha256");
    const piece = new Uint8Array(CHUNK_BYTES);
    for (let position = 0; position < expected.sizeBytes;) {
      const length = await file.read(piece, position);
      if (length === 0) return false;
      hash.update(piece.subarray(0, length));
      position += length;
    }
    return expected.digest === `sha256:${hash.digest("hex")}`;
  } finally {
    await file.close();
  }
}

/** EROFS superblock: at byte 1024, little-endian magic, UUID 48 bytes later (erofs_fs.h). */
const SUPERBLOCK_OFFSET = 1024;
const UUID_OFFSET = 48;
const MAGIC = 0xe0f5e1e2;

/** @throws `compose.image-invalid` (corrupt) */
export async function superblockUuid(world: World, path: string): Promise<string> {
  const file = await world.files.open(path, "read");
  try {
    const block = Buffer.alloc(UUID_OFFSET + 16);
    const length = await file.read(block, SUPERBLOCK_OFFSET);
    if (length === block.length && block.readUInt32LE(0) === MAGIC) {
      const hex = block.toString("hex", UUID_OFFSET);
      const ends = [8, 12, 16, 20, 32];
      return ends.map((end, index) => hex.slice(ends[index - 1] ?? 0, end)).join("-");
    }
  } finally {
    await file.close();
  }
  throw new TesseraError("corrupt", "compose.image-invalid", `${path} is not an EROFS image`, {
    subject: path,
    remedy: "verify the repository",
  });
}
