import {
  TesseraError,
  endOf,
  mergeRanges,
  type ByteRange,
  type Digest,
  type EncodingShares,
  type World,
} from "#core";
import {
  BLOCK_BYTES,
  blockDigest,
  createFileDevice,
  hashBlocks,
  loadBlockDigests,
  openFileDevice,
  saveBlockDigests,
  type BlockDevice,
  type BlockDigests,
} from "#block";
import { peerError, violation } from "./errors.ts";
import { CHECKPOINT_BYTES } from "./protocol.ts";
import {
  PENDING_BYTES_MAX,
  applyWrites,
  lengthOf,
  readJournal,
  writeJournal,
  type DeviceWrite,
} from "./redo-journal.ts";
import { loadRecord, saveRecord, type ResumeRecord } from "./resume-record.ts";

export interface UserDataEnd {
  readonly encodings?: EncodingShares | undefined;
  readonly digest: Digest;
  readonly allocatedBytes: number;
}

/** What the sender says that it has. */
export interface UserDataOpened {
  readonly sizeBytes: number;
  readonly allocatedBytes: number;
  readonly changedBytes?: number | undefined;
  readonly lineage?: Digest | undefined;
}

export interface LineageFile {
  readonly path: string;
  readonly digest: Digest;
}

function directoryOf(path: string): string {
  const slash = path.lastIndexOf("/");
  return slash < 0 ? "." : path.slice(0, slash + 1);
}

/** Where the digests of a user data block's blocks are kept. */
export function blocksPath(path: string): string {
  return `${path}.blocks`;
}

/**
 * The user data block on its way to `path`: `path.part` and its record `path.resume`. The part is
 * sparse and new, or an earlier copy that is changed where it lies: then changes go through
 * `path.redo`. It outlives connections and, by the record, processes. A `path` that is there already
 * is only compared: the transfer had ended and the caller asks again.
 */
export class UserDataTarget {
  readonly #world: World;
  readonly #path: string;
  readonly #session: string;
  #device: BlockDevice | undefined;
  #sizeBytes: number | undefined;
  #complete = false;
  #unsavedBytes = 0;
  #savedWireBytes = 0;
  /** The copy that the part was made of. */
  #lineage: LineageFile | undefined;
  /** Changes to that copy which are not in the part yet. */
  #pending: DeviceWrite[] = [];
  /** Of that copy, as long as all changes since are known. */
  #digests: BlockDigests | undefined;
  #changed: ByteRange[] = [];
  /** The copy to offer; absent once the part has begun without it. */
  offer: LineageFile | undefined;
  nextBlock = 0;
  receivedBytes = 0;
  wireBytes = 0;

  private constructor(world: World, path: string, session: string) {
    this.#world = world;
    this.#path = path;
    this.#session = session;
  }

  get #part(): string {
    return `${this.#path}.part`;
  }

  get #recordPath(): string {
    return `${this.#path}.resume`;
  }

  get #journalPath(): string {
    return `${this.#path}.redo`;
  }

  /** True when the part is an earlier copy with changes. */
  get buildsOnLineage(): boolean {
    return this.#lineage !== undefined;
  }

  static async open(
    world: World,
    path: string,
    session: string,
    lineage?: LineageFile,
  ): Promise<UserDataTarget> {
    const target = new UserDataTarget(world, path, session);
    const whole = await world.files.status(path);
    if (whole !== undefined) {
      target.#complete = true;
      target.#sizeBytes = whole.sizeBytes;
      target.nextBlock = Math.ceil(whole.sizeBytes / BLOCK_BYTES);
      await target.#discard();
    } else if (!(await target.#resume()) && lineage !== undefined) {
      const there = await world.files.status(lineage.path);
      if (there !== undefined) target.offer = lineage;
    }
    return target;
  }

  /** True when something goes on. */
  async #resume(): Promise<boolean> {
    const record = await loadRecord(this.#world, this.#recordPath, this.#session);
    if (record?.lineage !== undefined) await this.#takeCopy(record.lineage.path);
    const part = await this.#world.files.status(this.#part);
    if (record === undefined || part?.sizeBytes !== record.sizeBytes) {
      await this.#discard();
      return false;
    }
    this.#device = await openFileDevice(this.#world, this.#part, { readOnly: false });
    this.#sizeBytes = record.sizeBytes;
    this.#lineage = record.lineage;
    this.offer = record.lineage;
    this.nextBlock = record.nextBlock;
    this.receivedBytes = record.receivedBytes;
    this.wireBytes = record.wireBytes;
    if (record.lineage !== undefined) await this.#redo(record);
    return true;
  }

  async #redo(record: ResumeRecord): Promise<void> {
    const device = this.#device;
    if (device === undefined) return;
    const writes = await readJournal(this.#world, this.#journalPath, record.nextBlock);
    await applyWrites(device, writes);
    await device.flush();
  }

  /** Makes the copy the part, unless that was done before. */
  async #takeCopy(from: string): Promise<void> {
    const { files } = this.#world;
    if ((await files.status(this.#part)) !== undefined) return;
    if ((await files.status(from)) !== undefined) await files.rename(from, this.#part);
  }

  /**
   * Takes what the sender says that it has; the part is made at the first time. False when the part
   * builds on a copy that the sender does not have any more: begin anew without it.
   *
   * @throws `transfer.size-mismatch` (peer), `transfer.no-space` (environment),
   *   `transfer.target-exists` (misuse), `transfer.protocol-violation`
   */
  async opened(opened: UserDataOpened): Promise<boolean> {
    const { sizeBytes, lineage } = opened;
    if (this.#sizeBytes !== undefined && this.#sizeBytes !== sizeBytes) {
      if (this.#complete) throw this.#targetExists();
      throw peerError("size-mismatch", `the block had ${this.#sizeBytes} bytes, now ${sizeBytes}`);
    }
    if (this.#complete) return true;
    if (lineage !== undefined && lineage !== this.offer?.digest) {
      throw violation("the sender builds on a copy that was not offered");
    }
    if (this.#device !== undefined && lineage !== this.#lineage?.digest) {
      await this.restart();
      return false;
    }
    const neededBytes = opened.changedBytes ?? opened.allocatedBytes;
    await this.#checkSpace(neededBytes - this.receivedBytes);
    if (this.#device === undefined) await this.#begin(opened);
    return true;
  }

  async #begin({ sizeBytes, lineage }: UserDataOpened): Promise<void> {
    if (lineage === undefined || this.offer === undefined) {
      this.offer = undefined;
      this.#sizeBytes = sizeBytes;
      this.#device = await createFileDevice(this.#world, this.#part, sizeBytes);
    } else await this.#beginWith(this.offer, sizeBytes);
    await this.checkpoint();
  }

  /** The record comes first: from then on the copy is the part, under whichever name. */
  async #beginWith(copy: LineageFile, sizeBytes: number): Promise<void> {
    const there = await this.#world.files.status(copy.path);
    if (there?.sizeBytes !== sizeBytes) throw lineageMismatch("its size is another one");
    const of = { sizeBytes, digest: copy.digest };
    this.#digests = await loadBlockDigests(this.#world, blocksPath(copy.path), of);
    this.#lineage = copy;
    this.#sizeBytes = sizeBytes;
    await this.#save();
    await this.#takeCopy(copy.path);
    this.#device = await openFileDevice(this.#world, this.#part, { readOnly: false });
  }

  async #checkSpace(neededBytes: number): Promise<void> {
    const freeBytes = await this.#world.files.freeBytes(directoryOf(this.#path));
    if (freeBytes >= neededBytes) return;
    const message = `the user data need ${neededBytes} bytes, ${freeBytes} are free`;
    throw new TesseraError("environment", "transfer.no-space", message, {
      subject: this.#path,
      remedy: "free some space and migrate again; what has arrived is kept",
    });
  }

  /** Fills `target` with the copy's bytes, of a block that has not been written since. */
  async readOld(target: Uint8Array, offset: number): Promise<void> {
    await this.#device?.read(target, offset);
  }

  /** Takes the changes of one frame. Between them the part stays as it is. */
  async write(writes: readonly DeviceWrite[], nextBlock: number): Promise<void> {
    const device = this.#device;
    if (device === undefined) throw violation("blocks for a block that is complete");
    if (this.#lineage === undefined) await applyWrites(device, writes);
    else this.#pending.push(...writes);
    this.nextBlock = nextBlock;
    if (this.#digests !== undefined) for (const write of writes) this.#note(write);
    const bytes = writes.reduce((sum, write) => sum + lengthOf(write), 0);
    this.receivedBytes += bytes;
    this.#unsavedBytes += Math.max(bytes, BLOCK_BYTES);
    if (this.#isDue()) await this.checkpoint();
  }

  /** Of changes, many bytes are few on the wire: there a checkpoint may wait. */
  #isDue(): boolean {
    if (this.#lineage === undefined) return this.#unsavedBytes >= CHECKPOINT_BYTES;
    const wireBytes = this.wireBytes - this.#savedWireBytes;
    return this.#unsavedBytes >= PENDING_BYTES_MAX || wireBytes >= CHECKPOINT_BYTES;
  }

  /** Writes come in order, so a range joins the one before or none. */
  #note(write: DeviceWrite): void {
    const range = { offset: write.offset, length: lengthOf(write) };
    const last = this.#changed.at(-1);
    if (last === undefined || endOf(last) < range.offset) this.#changed.push(range);
    else this.#changed.splice(-1, 1, ...mergeRanges([last, range]));
  }

  /** Makes what was written durable, and then the record that says so. */
  async checkpoint(): Promise<void> {
    const device = this.#device;
    if (device === undefined) return;
    await device.flush();
    const pending = this.#pending;
    if (pending.length > 0) {
      await writeJournal(this.#world, this.#journalPath, this.nextBlock, pending);
    }
    await this.#save();
    await applyWrites(device, pending);
    this.#pending = [];
    this.#unsavedBytes = 0;
    this.#savedWireBytes = this.wireBytes;
  }

  async #save(): Promise<void> {
    if (this.#sizeBytes === undefined) return;
    const record: ResumeRecord = {
      session: this.#session,
      sizeBytes: this.#sizeBytes,
      nextBlock: this.nextBlock,
      receivedBytes: this.receivedBytes,
      wireBytes: this.wireBytes,
      ...(this.#lineage === undefined ? {} : { lineage: this.#lineage }),
    };
    await saveRecord(this.#world, this.#recordPath, record);
  }

  /** Gives up for now; what is there is kept for a later attempt. */
  async keep(): Promise<void> {
    try {
      await this.checkpoint();
    } finally {
      await this.#close();
    }
  }

  /**
   * Compares what is on the disk with the sender's digest; then the block exists under its name.
   *
   * @throws `transfer.digest-mismatch` (peer): the part is removed
   */
  async finish(end: UserDataEnd): Promise<void> {
    await this.checkpoint();
    await this.#device?.flush();
    const digests = await this.#readBack();
    await this.#close();
    const { digest, allocatedBytes } = digests.userDataDigest();
    const equal = digest === end.digest && allocatedBytes === end.allocatedBytes;
    if (this.#complete) {
      if (!equal) throw this.#targetExists();
      return;
    }
    if (!equal) {
      await this.#discard();
      throw peerError("digest-mismatch", "the user data block has another digest", {
        subject: this.#path,
        remedy: "migrate again; what had arrived was removed",
      });
    }
    await saveBlockDigests(this.#world, blocksPath(this.#path), digests);
    await this.#world.files.rename(this.#part, this.#path);
    await this.#forget();
  }

  /** The digests of all blocks; of an earlier copy only what has changed is read and hashed. */
  async #readBack(): Promise<BlockDigests> {
    const path = this.#complete ? this.#path : this.#part;
    const device = await openFileDevice(this.#world, path, { readOnly: true });
    try {
      const digests = this.#digests?.copy();
      if (digests === undefined) return await hashBlocks(device);
      const block = new Uint8Array(BLOCK_BYTES);
      for (const range of this.#changed) {
        for (let offset = range.offset; offset < endOf(range); offset += BLOCK_BYTES) {
          const bytes = block.subarray(0, Math.min(BLOCK_BYTES, endOf(range) - offset));
          await device.read(bytes, offset);
          digests.set(offset / BLOCK_BYTES, blockDigest(bytes));
        }
      }
      return digests;
    } finally {
      await device.close();
    }
  }

  /** Begins anew, without an earlier copy. */
  async restart(): Promise<void> {
    await this.#discard();
    this.#lineage = undefined;
    this.#digests = undefined;
    this.#changed = [];
    this.#pending = [];
    this.#sizeBytes = undefined;
    this.#unsavedBytes = 0;
    this.offer = undefined;
    this.nextBlock = 0;
    this.receivedBytes = 0;
  }

  #targetExists(): TesseraError {
    const message = "another user data block is there already";
    return new TesseraError("misuse", "transfer.target-exists", message, {
      subject: this.#path,
      remedy: "choose another path; nothing was changed",
    });
  }

  async #close(): Promise<void> {
    const device = this.#device;
    this.#device = undefined;
    await device?.close();
  }

  async #discard(): Promise<void> {
    await this.#close();
    await this.#forget();
    await this.#world.files.remove(this.#part);
  }

  /** Removes what lies beside the block while it arrives; the digests of a consumed copy too. */
  async #forget(): Promise<void> {
    const { files } = this.#world;
    const { path } = this.#lineage ?? {};
    if (path !== undefined && path !== this.#path) await files.remove(blocksPath(path));
    await files.remove(this.#recordPath);
    await files.remove(this.#journalPath);
  }
}

/** The old copies differ, or what was built on them does not fit. */
export function lineageMismatch(why: string, cause?: unknown): TesseraError {
  const message = `the earlier copy of the user data block does not serve: ${why}`;
  return peerError("lineage-mismatch", message, { cause });
}
