import { createHash, type Hash } from "node:crypto";
import { hasCode, TesseraError, type BlobReference, type OpenFile, type World } from "#core";
import { finish, hashFile, type Blobs } from "./blobs.ts";
import type { Ingest } from "./contract.ts";
import { decodePart, type PartState } from "./decode.ts";
import { noSpace, sizeMismatch } from "./failures.ts";
import { RECORD_BYTES_MAX, type Layout } from "./layout.ts";
import type { Leases } from "./leases.ts";
import type { Lock } from "./locks.ts";

/** Kept free beside the blob itself. */
const RESERVE_BYTES = 64 * 2 ** 20;

export interface IngestRoom {
  readonly world: World;
  readonly layout: Layout;
  readonly blobs: Blobs;
  readonly leases: Leases;
  /** Of the boot that this process lives in. */
  readonly bootId: string;
}

/** Opens the part of a blob that is not held; the caller has its lock and its lease. */
export async function openPart(room: IngestRoom, blob: BlobReference, lock: Lock): Promise<Ingest> {
  const file = await openOrCreate(room, blob);
  try {
    const { hash, durableBytes } = await durablePrefix(room, blob, file);
    await file.truncate(durableBytes);
    await requireSpace(room, blob, durableBytes);
    const ingest = new PartIngest(room, blob, lock, file, hash, durableBytes);
    await ingest.checkpoint();
    return ingest;
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function openOrCreate({ world, layout }: IngestRoom, blob: BlobReference): Promise<OpenFile> {
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
  room: IngestRoom,
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

async function readState(room: IngestRoom, blob: BlobReference): Promise<PartState | undefined> {
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

async function requireSpace(room: IngestRoom, blob: BlobReference, doneBytes: number) {
  const freeBytes = await room.world.files.freeBytes(room.layout.parts);
  const neededBytes = blob.sizeBytes - doneBytes + RESERVE_BYTES;
  if (freeBytes < neededBytes) {
    throw noSpace(blob, `${neededBytes} bytes needed, ${freeBytes} free`);
  }
}

/** Deletes a part and its state. */
async function deletePart({ world, layout }: IngestRoom, digest: BlobReference["digest"]) {
  await world.files.remove(layout.part(digest));
  await world.files.remove(layout.partState(digest));
}

/** An open ingest. Its state is `open` until one of commit, release or abort ends it. */
class PartIngest implements Ingest {
  readonly blob: BlobReference;
  readonly #room: IngestRoom;
  readonly #lock: Lock;
  readonly #file: OpenFile;
  readonly #hash: Hash;
  #writtenBytes: number;
  #state: "open" | "failed" | "ended" = "open";
  #tail: Promise<void> = Promise.resolve();

  constructor(
    room: IngestRoom,
    blob: BlobReference,
    lock: Lock,
    file: OpenFile,
    hash: Hash,
    writtenBytes: number,
  ) {
    this.#room = room;
    this.blob = blob;
    this.#lock = lock;
    this.#file = file;
    this.#hash = hash;
    this.#writtenBytes = writtenBytes;
  }

  get writtenBytes(): number {
    return this.#writtenBytes;
  }

  append(bytes: Uint8Array): Promise<void> {
    return this.#inOrder(async () => {
      this.#requireOpen();
      const end = this.#writtenBytes + bytes.length;
      if (end > this.blob.sizeBytes) throw sizeMismatch(this.blob, end);
      await this.#guarded(() => this.#file.write(bytes, this.#writtenBytes));
      this.#hash.update(bytes);
      this.#writtenBytes = end;
    });
  }

  checkpoint(): Promise<void> {
    return this.#inOrder(async () => {
      this.#requireOpen();
      await this.#guarded(() => this.#makeDurable());
    });
  }

  commit(): Promise<void> {
    return this.#inOrder(async () => {
      this.#requireOpen();
      const wrong = this.#wrong();
      if (wrong !== undefined) {
        await this.#delete();
        throw wrong;
      }
      await this.#guarded(() => this.#publish());
      await this.#end();
    });
  }

  release(): Promise<void> {
    return this.#inOrder(async () => {
      if (this.#state === "ended") return;
      try {
        if (this.#state === "open") await this.#guarded(() => this.#makeDurable());
      } finally {
        await this.#end();
      }
    });
  }

  abort(): Promise<void> {
    return this.#inOrder(async () => {
      if (this.#state !== "ended") await this.#delete();
    });
  }

  /** Calls take effect one after the other, in the order in which they were made. */
  #inOrder(work: () => Promise<void>): Promise<void> {
    const result = this.#tail.then(work);
    this.#tail = result.catch(() => undefined);
    return result;
  }

  #requireOpen(): void {
    if (this.#state === "open") return;
    const message = `the ingest has ${this.#state}`;
    throw new TesseraError("misuse", "repository.ingest-closed", message, {
      subject: this.blob.digest,
      remedy: "release it and open another",
    });
  }

  /** After a failed write the file may be ahead of the hash: only reopening continues. */
  async #guarded(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#state = "failed";
      if (hasCode(error, "system.disk-full")) throw noSpace(this.blob, "the disk is full", error);
      throw error;
    }
  }

  #wrong(): TesseraError | undefined {
    if (this.#writtenBytes !== this.blob.sizeBytes) {
      return sizeMismatch(this.blob, this.#writtenBytes);
    }
    const digest = finish(this.#hash.copy());
    if (digest === this.blob.digest) return undefined;
    const message = `blob ${this.blob.digest} came out as ${digest}`;
    return new TesseraError("corrupt", "repository.digest-mismatch", message, {
      subject: this.blob.digest,
      remedy: "fetch it again, from another cloud if it happens again",
    });
  }

  async #makeDurable(): Promise<void> {
    await this.#file.sync();
    const state: PartState = {
      sizeBytes: this.blob.sizeBytes,
      checkpointBytes: this.#writtenBytes,
      checkpointDigest: finish(this.#hash.copy()),
      bootId: this.#room.bootId,
    };
    const path = this.#room.layout.partState(this.blob.digest);
    await this.#room.world.files.writeFileAtomic(path, JSON.stringify(state));
  }

  async #publish(): Promise<void> {
    const { world, layout, blobs } = this.#room;
    await this.#file.sync();
    await world.files.rename(layout.part(this.blob.digest), layout.blob(this.blob.digest));
    await blobs.trust(this.blob.digest, this.#file, await this.#file.status());
    await world.files.remove(layout.partState(this.blob.digest));
  }

  async #delete(): Promise<void> {
    await deletePart(this.#room, this.blob.digest);
    await this.#room.leases.drop([this.blob.digest]);
    await this.#end();
  }

  async #end(): Promise<void> {
    this.#state = "ended";
    await this.#file.close();
    await this.#lock.release();
  }
}
