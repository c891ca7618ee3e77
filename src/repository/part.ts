import { hasCode, type BlobReference, type OpenFile, type World } from "#core";
import type { Blobs } from "./blobs.ts";
import { ingestClosed, noSpace } from "./failures.ts";
import type { Layout } from "./layout.ts";
import type { Leases } from "./leases.ts";
import type { Lock } from "./locks.ts";

/** Kept free beside the blob itself. */
const RESERVE_BYTES = 64 * 2 ** 20;

export interface PartRoom {
  readonly world: World;
  readonly layout: Layout;
  readonly blobs: Blobs;
  readonly leases: Leases;
  /** Of the boot that this process lives in. */
  readonly bootId: string;
}

/** @throws `repository.no-space` when the missing bytes and the reserve do not fit */
export async function requireSpace(room: PartRoom, blob: BlobReference, doneBytes: number) {
  const freeBytes = await room.world.files.freeBytes(room.layout.parts);
  const neededBytes = Math.max(blob.sizeBytes - doneBytes, 0) + RESERVE_BYTES;
  if (freeBytes < neededBytes) {
    throw noSpace(blob, `${neededBytes} bytes needed, ${freeBytes} free`);
  }
}

/** A part of the other kind is of no use to who opens one, and must not stay behind its blob. */
export async function deletePart(
  { world, layout }: PartRoom,
  { digest }: BlobReference,
  kind: "appended" | "assembled",
): Promise<void> {
  const appended = [layout.partState(digest), layout.part(digest)];
  const assembled = [layout.assemblyState(digest), layout.assembly(digest)];
  for (const path of kind === "appended" ? appended : assembled) await world.files.remove(path);
}

/**
 * An open part with the lock and the lease of its blob. Its state is `open` until one of commit,
 * release or abort ends it.
 */
export class OpenPart {
  readonly room: PartRoom;
  readonly blob: BlobReference;
  readonly file: OpenFile;
  readonly #kind: "appended" | "assembled";
  readonly #lock: Lock;
  #state: "open" | "failed" | "ended" = "open";
  #tail: Promise<void> = Promise.resolve();

  constructor(
    room: PartRoom,
    blob: BlobReference,
    kind: "appended" | "assembled",
    opened: { readonly file: OpenFile; readonly lock: Lock },
  ) {
    this.room = room;
    this.blob = blob;
    this.file = opened.file;
    this.#kind = kind;
    this.#lock = opened.lock;
  }

  get state(): "open" | "failed" | "ended" {
    return this.#state;
  }

  /** Calls take effect one after the other, in the order in which they were made. */
  inOrder(work: () => Promise<void>): Promise<void> {
    const result = this.#tail.then(work);
    this.#tail = result.catch(() => undefined);
    return result;
  }

  /** @throws `repository.ingest-closed` (misuse) */
  requireOpen(): void {
    if (this.#state === "open") return;
    throw ingestClosed(this.blob, `has ${this.#state}`);
  }

  /** After a failed write nobody knows what the file holds: only reopening continues. */
  async guarded<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      this.#state = "failed";
      if (hasCode(error, "system.disk-full")) throw noSpace(this.blob, "the disk is full", error);
      throw error;
    }
  }

  /** Makes the part, whose bytes have been hashed and synced, the blob. */
  async publish(): Promise<void> {
    const { world, layout, blobs } = this.room;
    const { digest } = this.blob;
    const assembled = this.#kind === "assembled";
    const path = assembled ? layout.assembly(digest) : layout.part(digest);
    await world.files.rename(path, layout.blob(digest));
    await blobs.trust(digest, this.file, await this.file.status());
    await deletePart(this.room, this.blob, this.#kind);
  }

  /** Deletes the part and its state, ends the lease. */
  async delete(): Promise<void> {
    await deletePart(this.room, this.blob, this.#kind);
    await this.room.leases.drop([this.blob.digest]);
    await this.end();
  }

  async end(): Promise<void> {
    this.#state = "ended";
    await this.file.close();
    await this.#lock.release();
  }
}
