/** Blobs whose digest is known only once they have been written. */
import { join } from "node:path";
import { hasCode, hexOf, type BlobReference, type OpenFile } from "#core";
import type { ByteSink } from "#image";
import { noSpace, sizeMismatch } from "./failures.ts";
import { deletePart, type PartRoom } from "./part.ts";
import type { Locks } from "./locks.ts";

export interface WriteRoom extends PartRoom {
  readonly locks: Locks;
}

/**
 * Writes a blob beside its name: synced, then renamed. It is leased from then on, as after an ingest.
 *
 * @param write gives the bytes in order, then says what they are: whoever hashes them while they are
 *   made need not have them hashed once more
 * @throws `repository.size-mismatch`, `repository.no-space`; what `write` throws; nothing is left
 */
export async function writeBlob(
  room: WriteRoom,
  write: (sink: ByteSink) => Promise<BlobReference>,
): Promise<BlobReference> {
  const { files, random } = room.world;
  const path = join(room.layout.parts, `${random.uuid()}.new`);
  const file = await files.open(path, "exclusive");
  try {
    const { digest, sizeBytes } = await writeInOrder(file, write);
    await publish(room, { digest, sizeBytes }, path, file);
    return { digest, sizeBytes };
  } catch (cause) {
    await files.remove(path);
    throw cause;
  } finally {
    await file.close();
  }
}

async function writeInOrder(
  file: OpenFile,
  write: (sink: ByteSink) => Promise<BlobReference>,
): Promise<BlobReference> {
  let position = 0;
  const blob = await write({
    write: async (bytes) => {
      await file.write(bytes, position);
      position += bytes.length;
    },
  });
  if (position !== blob.sizeBytes) throw sizeMismatch(blob, position);
  try {
    await file.sync();
  } catch (cause) {
    throw hasCode(cause, "system.disk-full") ? noSpace(blob, "the disk is full", cause) : cause;
  }
  return blob;
}

/** One that is held and sound stays. */
async function publish(
  room: WriteRoom,
  blob: BlobReference,
  path: string,
  file: OpenFile,
): Promise<void> {
  const { world, layout, blobs, leases, locks } = room;
  const { digest } = blob;
  const lock = await locks.acquire(hexOf(digest));
  try {
    await leases.take(digest);
    if ((await blobs.sizeOf(digest)) !== undefined) return await world.files.remove(path);
    await world.files.rename(path, layout.blob(digest));
    await blobs.trust(digest, file, await file.status());
    for (const kind of ["appended", "assembled"] as const) await deletePart(room, blob, kind);
  } finally {
    await lock.release();
  }
}
