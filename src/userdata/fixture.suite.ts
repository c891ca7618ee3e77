/** What the tests of this room share: files that forget what was not synced, and a source. */
import {
  TesseraError,
  endOf,
  type ByteRange,
  type FileSystem,
  type OpenFile,
  type World,
} from "#core";
import { BLOCK_BYTES, type BlockDevice } from "#block";
import { realWorld } from "#system";
import type { FetchPriority, RemoteReader } from "./contract.ts";

/** Thrown by everything that a process does after its end. */
export class Killed extends Error {}

interface Write {
  readonly position: number;
  readonly bytes: Buffer;
}

/** A file with what is durable of it, and the writes since, in order. */
interface Inode {
  durable: Buffer;
  unsynced: Write[];
  /** As a process sees it. */
  current: Buffer;
}

/** The content with a write, in place where its length allows. */
function apply(content: Buffer, { position, bytes }: Write): Buffer {
  const length = Math.max(content.length, position + bytes.length);
  const result = length === content.length ? content : Buffer.concat([content], length);
  bytes.copy(result, position);
  return result;
}

function write(inode: Inode, change: Write): void {
  inode.unsynced.push(change);
  inode.current = apply(inode.current, change);
}

/** A process: how many more operations it does until it is killed. */
export class Life {
  stepsLeft: number;
  /** Operations so far. */
  steps = 0;

  constructor(stepsLeft = Infinity) {
    this.stepsLeft = stepsLeft;
  }

  requireAlive(): void {
    if (this.stepsLeft <= 0) throw new Killed();
  }

  /** One operation; `torn` does a part of it when it is the last. */
  step(torn?: () => void): void {
    this.requireAlive();
    this.steps += 1;
    this.stepsLeft -= 1;
    if (this.stepsLeft > 0) return;
    torn?.();
    throw new Killed();
  }
}

/** Chooses a whole number from 0 up to but not including `limit`. */
export type Choose = (limit: number) => number;

/**
 * Files in memory that end as files do: when a process is killed, what it wrote stays, the write in
 * progress in part; when the host dies, each write that was not synced stays, is lost, or stays in
 * part, whatever happened to those before it.
 */
export class FragileFiles {
  readonly #inodes = new Map<string, Inode>();
  readonly #choose: Choose;

  constructor(choose: Choose = () => 0) {
    this.#choose = choose;
  }

  content(path: string): Buffer {
    const inode = this.#inodes.get(path);
    if (inode === undefined) throw new TesseraError("environment", "system.not-found", path);
    return inode.current;
  }

  put(path: string, content: Buffer): void {
    this.#inodes.set(path, { durable: Buffer.from(content), unsynced: [], current: content });
  }

  /** The host dies. */
  loseHost(): void {
    for (const inode of this.#inodes.values()) {
      for (const write of inode.unsynced) {
        const fate = this.#choose(3);
        const kept = fate === 0 ? 0 : fate === 1 ? write.bytes.length : this.#part(write.bytes);
        if (kept === 0) continue;
        const part = { position: write.position, bytes: write.bytes.subarray(0, kept) };
        inode.durable = apply(inode.durable, part);
      }
      inode.unsynced = [];
      inode.current = Buffer.from(inode.durable);
    }
  }

  #part(bytes: Buffer): number {
    return this.#choose(bytes.length + 1);
  }

  #open(path: string, life: Life): OpenFile {
    const inode = this.#inodes.get(path);
    if (inode === undefined) throw new TesseraError("environment", "system.not-found", path);
    return {
      read: async (target, position) => {
        life.requireAlive();
        return inode.current.copy(target, 0, position);
      },
      write: async (source, position) => {
        const bytes = Buffer.from(source);
        const torn = (): void => {
          write(inode, { position, bytes: bytes.subarray(0, this.#part(bytes)) });
        };
        await Promise.resolve();
        life.step(torn);
        write(inode, { position, bytes });
      },
      sync: async () => {
        const covered = inode.unsynced.length;
        await Promise.resolve();
        life.step();
        inode.durable = inode.unsynced.slice(0, covered).reduce(apply, inode.durable);
        inode.unsynced = inode.unsynced.slice(covered);
      },
      truncate: () => Promise.reject(new Error("not used")),
      status: () => Promise.reject(new Error("not used")),
      close: () => Promise.resolve(),
    };
  }

  system(real: FileSystem, life: Life): FileSystem {
    return {
      ...real,
      open: async (path) => this.#open(path, life),
      readFile: async (path) => this.content(path),
      status: async (path) =>
        this.#inodes.has(path)
          ? {
              kind: "file",
              sizeBytes: this.content(path).length,
              allocatedBytes: 0,
              mode: 0o600,
              modified_ms: 0,
              changed_ms: 0,
              inode: 1,
            }
          : undefined,
      writeFileAtomic: async (path, content) => {
        await Promise.resolve();
        life.step(() => {
          if (this.#choose(2) === 1) this.put(path, Buffer.from(content));
        });
        this.put(path, Buffer.from(content));
      },
      remove: async (path) => {
        life.step();
        this.#inodes.delete(path);
      },
    };
  }

  /** A disk over a file of these, of the content's size. */
  device(path: string, life: Life): BlockDevice {
    const file = this.#open(path, life);
    const { length: sizeBytes } = this.content(path);
    return {
      sizeBytes,
      allocated: () => Promise.resolve([{ offset: 0, length: sizeBytes }]),
      read: async (target, offset) => void (await file.read(target, offset)),
      write: (source, offset) => file.write(source, offset),
      zero: ({ offset, length }) => file.write(new Uint8Array(length), offset),
      flush: () => file.sync(),
      close: () => Promise.resolve(),
    };
  }
}

/** The real world with these files, as a process of that boot sees it. */
export function worldOf(files: FragileFiles, life: Life, bootNumber = 1): World {
  const real = realWorld();
  const bootId = `00000000-0000-4000-8000-${String(bootNumber).padStart(12, "0")}`;
  return {
    ...real,
    log: { ...real.log, log: () => undefined },
    files: files.system(real.files, life),
    processes: { ...real.processes, identify: (pid) => ({ pid, startTicks: 1, bootId }) },
  };
}

/** A source in memory that notes what it is asked, and answers when it is let. */
export class Source implements RemoteReader {
  readonly content: Buffer;
  readonly asked: { readonly range: ByteRange; readonly priority: FetchPriority }[] = [];
  #gate: PromiseWithResolvers<void> | undefined;
  failing: Error | undefined;

  constructor(content: Buffer) {
    this.content = content;
  }

  hold(): void {
    this.#gate ??= Promise.withResolvers();
  }

  letGo(): void {
    this.#gate?.resolve();
    this.#gate = undefined;
  }

  /** How many bytes were asked for with this priority. */
  bytes(priority: FetchPriority): number {
    return this.asked
      .filter((request) => request.priority === priority)
      .reduce((sum, { range }) => sum + range.length, 0);
  }

  async fetch(
    range: ByteRange,
    priority: FetchPriority,
    signal: AbortSignal,
  ): Promise<Uint8Array | undefined> {
    this.asked.push({ range, priority });
    const aborted = new Promise<never>((_, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
    });
    aborted.catch(() => undefined);
    if (this.#gate !== undefined) await Promise.race([this.#gate.promise, aborted]);
    signal.throwIfAborted();
    if (this.failing !== undefined) throw this.failing;
    const bytes = Buffer.from(this.content.subarray(range.offset, endOf(range)));
    return bytes.every((byte) => byte === 0) ? undefined : bytes;
  }
}

/** Blocks filled with these bytes, one after the other. */
export function blocksFilled(...bytes: readonly number[]): Buffer {
  return Buffer.concat(bytes.map((byte) => Buffer.alloc(BLOCK_BYTES, byte)));
}

/** A range of whole blocks. */
export function blockRange(first: number, count: number): ByteRange {
  return { offset: first * BLOCK_BYTES, length: count * BLOCK_BYTES };
}
