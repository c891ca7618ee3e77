import { createHash, type Hash } from "node:crypto";
import { hasCode, type BlobReference, type OpenFile, type TesseraError } from "#core";
import { finish, hashFile } from "./blobs.ts";
import type { Ingest } from "./contract.ts";
import { decodePart, type PartState } from "./decode.ts";
import { digestMismatch, sizeMismatch } from "./failures.ts";
import { RECORD_BYTES_MAX } from "./layout.ts";
import type { Lock } from "./locks.ts";
import { deletePart, OpenPart, requireSpace, type PartRoom } from "./part.ts";

/** Opens the part of a blob that is not held; the caller has its lock and its lease. */
export async function openPart(room: PartRoom, blob: BlobReference, lock: Lock): Promise<Ingest> {
  await deletePart(room, blob, "assembled");
  const file = await openOrCreate(room, blob);
  try {
    const { hash, durableBytes } = await durablePrefix(room, blob, file);
    await file.truncate(durableBytes);
    await requireSpace(room, blob, durableBytes);
    const part = new OpenPart(room, blob, "appended", { file, lock });
    const ingest = new PartIngest(part, hash, durableBytes);
    await ingest.checkpoint();
    return ingest;
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function openOrCreate({ world, layout }: PartRoom, blob: BlobReference): Promise<OpenFile> {
  const path = layout.part(blob.digest);
  try {
    return await world.files.open(path, "write");
  } catch (error) {
    if (!hasCode(error, "system.not-found")) throw error;
    return world.files.open(path, "exclusive");
  }
}

/**
 * How much of a part counts. Within one boot every byte of the file does, since a process that is
 * killed loses none that it has written. After another boot only what was checkpointed does, as
 * the rest may never have reached the disk. The checkpointed prefix must have the digest that was
 * recorded; otherwise the part begins anew.
 */
async function durablePrefix(
  room: PartRoom,
  blob: BlobReference,
  file: OpenFile,
): Promise<{ hash: Hash; durableBytes: number }> {
  const anew = { hash: createHash("sha256"), durableBytes: 0 };
  const state = await readState(room, blob);
  if (state?.sizeBytes !== blob.sizeBytes) return anew;
  const fileBytes = Math.min((await file.status()).sizeBytes, blob.sizeBytes);
  if (fileBytes < state.checkpointBytes) return anew;
  const hash = createHash("sha256");
  await hashFile(file, state.checkpointBytes, hash);
  if (finish(hash.copy()) !== state.checkpointDigest) return anew;
  if (state.bootId !== room.bootId) return { hash, durableBytes: state.checkpointBytes };
  await hashFile(file, fileBytes, hash, state.checkpointBytes);
  return { hash, durableBytes: fileBytes };
}

async function readState(room: PartRoom, blob: BlobReference): Promise<PartState | undefined> {
  try {
    const path = room.layout.partState(blob.digest);
    return decodePart(await room.world.files.readFile(path, RECORD_BYTES_MAX));
  } catch (error) {
    if (hasCode(error, "system.not-found") || hasCode(error, "repository.json-invalid")) {
      return undefined;
    }
    throw error;
  }
}

/** An open ingest. */
class PartIngest implements Ingest {
  readonly blob: BlobReference;
  readonly #part: OpenPart;
  readonly #hash: Hash;
  #writtenBytes: number;

  constructor(part: OpenPart, hash: Hash, writtenBytes: number) {
    this.blob = part.blob;
    this.#part = part;
    this.#hash = hash;
    this.#writtenBytes = writtenBytes;
  }

  get writtenBytes(): number {
    return this.#writtenBytes;
  }

  append(bytes: Uint8Array): Promise<void> {
    const part = this.#part;
    return part.inOrder(async () => {
      part.requireOpen();
      const end = this.#writtenBytes + bytes.length;
      if (end > this.blob.sizeBytes) throw sizeMismatch(this.blob, end);
      await part.guarded(async () => {
        const written = part.file.write(bytes, this.#writtenBytes);
        // While the thread pool writes. After a failed write the part is reopened and hashed anew.
        this.#hash.update(bytes);
        await written;
      });
      this.#writtenBytes = end;
    });
  }

  checkpoint(): Promise<void> {
    const part = this.#part;
    return part.inOrder(async () => {
      part.requireOpen();
      await part.guarded(() => this.#makeDurable());
    });
  }

  commit(): Promise<void> {
    const part = this.#part;
    return part.inOrder(async () => {
      part.requireOpen();
      const wrong = this.#wrong();
      if (wrong !== undefined) {
        await part.delete();
        throw wrong;
      }
      await part.guarded(async () => {
        await part.file.sync();
        await part.publish();
      });
      await part.end();
    });
  }

  release(): Promise<void> {
    const part = this.#part;
    return part.inOrder(async () => {
      if (part.state === "ended") return;
      try {
        if (part.state === "open") await part.guarded(() => this.#makeDurable());
      } finally {
        await part.end();
      }
    });
  }

  abort(): Promise<void> {
    const part = this.#part;
    return part.inOrder(async () => {
      if (part.state !== "ended") await part.delete();
    });
  }

  #wrong(): TesseraError | undefined {
    if (this.#writtenBytes !== this.blob.sizeBytes) {
      return sizeMismatch(this.blob, this.#writtenBytes);
    }
    const digest = finish(this.#hash.copy());
    return digest === this.blob.digest ? undefined : digestMismatch(this.blob, digest);
  }

  async #makeDurable(): Promise<void> {
    const { room, file } = this.#part;
    await file.sync();
    const state: PartState = {
      sizeBytes: this.blob.sizeBytes,
      checkpointBytes: this.#writtenBytes,
      checkpointDigest: finish(this.#hash.copy()),
      bootId: room.bootId,
    };
    const path = room.layout.partState(this.blob.digest);
    await room.world.files.writeFileAtomic(path, JSON.stringify(state));
  }
}
