import { TesseraError, type Digest, type OpenFile, type World } from "#core";
import { BLOCK_BYTES, openFileDevice, userDataDigest } from "#block";
import { peerError, violation } from "./errors.ts";
import type { BlocksHead } from "./messages.ts";
import { CHECKPOINT_BYTES } from "./protocol.ts";
import { loadRecord, saveRecord, type ResumeRecord } from "./resume-record.ts";

export interface UserDataEnd {
  readonly digest: Digest;
  readonly allocatedBytes: number;
}

function directoryOf(path: string): string {
  const slash = path.lastIndexOf("/");
  return slash < 0 ? "." : path.slice(0, slash + 1);
}

/**
 * The user data block on its way to `path`: a sparse `path.part` and its record `path.resume`. It
 * outlives connections and, by the record, processes. A `path` that is there already is only
 * compared: the transfer had ended and the caller asks again.
 */
export class UserDataTarget {
  readonly #world: World;
  readonly #path: string;
  readonly #session: string;
  #file: OpenFile | undefined;
  #sizeBytes: number | undefined;
  #complete = false;
  #unsavedBytes = 0;
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

  static async open(world: World, path: string, session: string): Promise<UserDataTarget> {
    const target = new UserDataTarget(world, path, session);
    const whole = await world.files.status(path);
    if (whole === undefined) await target.#resume();
    else {
      target.#complete = true;
      target.#sizeBytes = whole.sizeBytes;
      target.nextBlock = Math.ceil(whole.sizeBytes / BLOCK_BYTES);
      await target.#discard();
    }
    return target;
  }

  async #resume(): Promise<void> {
    const record = await loadRecord(this.#world, this.#recordPath, this.#session);
    const part = await this.#world.files.status(this.#part);
    if (record === undefined || part?.sizeBytes !== record.sizeBytes) {
      await this.#discard();
      return;
    }
    this.#file = await this.#world.files.open(this.#part, "write");
    this.#sizeBytes = record.sizeBytes;
    this.nextBlock = record.nextBlock;
    this.receivedBytes = record.receivedBytes;
    this.wireBytes = record.wireBytes;
  }

  /**
   * What the sender says that it has; the part is created at the first time.
   *
   * @throws `transfer.size-mismatch` (peer), `transfer.no-space` (environment),
   *   `transfer.target-exists` (misuse)
   */
  async opened(sizeBytes: number, allocatedBytes: number): Promise<void> {
    if (this.#sizeBytes !== undefined && this.#sizeBytes !== sizeBytes) {
      if (this.#complete) throw this.#targetExists();
      throw peerError("size-mismatch", `the block had ${this.#sizeBytes} bytes, now ${sizeBytes}`);
    }
    if (this.#complete) return;
    await this.#checkSpace(allocatedBytes - this.receivedBytes);
    if (this.#file !== undefined) return;
    this.#file = await this.#world.files.open(this.#part, "create", 0o600);
    await this.#file.truncate(sizeBytes);
    this.#sizeBytes = sizeBytes;
    await this.checkpoint();
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

  /** Writes the blocks of one frame; blocks in between stay holes. */
  async write({ runs, rawBytes, nextBlock }: BlocksHead, bytes: Uint8Array): Promise<void> {
    const file = this.#file;
    if (file === undefined) throw violation("blocks for a block that is complete");
    let at = 0;
    const writes = runs.map(({ index, count }) => {
      const piece = bytes.subarray(at, at + count * BLOCK_BYTES);
      at += piece.length;
      return file.write(piece, index * BLOCK_BYTES);
    });
    await Promise.all(writes);
    this.nextBlock = nextBlock;
    this.receivedBytes += rawBytes;
    this.#unsavedBytes += rawBytes;
    if (this.#unsavedBytes >= CHECKPOINT_BYTES) await this.checkpoint();
  }

  /** Makes what was written durable, and then the record that says so. */
  async checkpoint(): Promise<void> {
    if (this.#file === undefined || this.#sizeBytes === undefined) return;
    const record: ResumeRecord = {
      session: this.#session,
      sizeBytes: this.#sizeBytes,
      nextBlock: this.nextBlock,
      receivedBytes: this.receivedBytes,
      wireBytes: this.wireBytes,
    };
    await this.#file.sync();
    await saveRecord(this.#world, this.#recordPath, record);
    this.#unsavedBytes = 0;
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
    await this.#file?.sync();
    await this.#close();
    const path = this.#complete ? this.#path : this.#part;
    const equal = await this.#isEqual(path, end);
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
    await this.#world.files.rename(this.#part, this.#path);
    await this.#world.files.remove(this.#recordPath);
  }

  async #isEqual(path: string, end: UserDataEnd): Promise<boolean> {
    const device = await openFileDevice(this.#world, path, { readOnly: true });
    try {
      const { digest, allocatedBytes } = await userDataDigest(device);
      return digest === end.digest && allocatedBytes === end.allocatedBytes;
    } finally {
      await device.close();
    }
  }

  #targetExists(): TesseraError {
    const message = "another user data block is there already";
    return new TesseraError("misuse", "transfer.target-exists", message, {
      subject: this.#path,
      remedy: "choose another path; nothing was changed",
    });
  }

  async #close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }

  async #discard(): Promise<void> {
    await this.#close();
    await this.#world.files.remove(this.#recordPath);
    await this.#world.files.remove(this.#part);
  }
}
