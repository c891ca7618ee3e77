/** Writing into an image in any order, in large pieces. */
import type { Assembly } from "#repository";
import { Slots } from "../slots.ts";

const CHUNK_BYTES = 2 ** 20;
/** Chunks in memory. */
const CHUNKS_MAX = 32;
/** Chunks that are being written at a time. */
const WRITES_MAX = 4;

interface Chunk {
  readonly index: number;
  readonly bytes: Uint8Array;
  /** The bytes that the file does not have yet; empty when `from` is not below `to`. */
  from: number;
  to: number;
  /** Bytes put in since the chunk was loaded: the whole chunk's size means that it is full. */
  putBytes: number;
  /** False until something was put in: who had it loaded is still to come. */
  filled: boolean;
  loading: Promise<void> | undefined;
  writing: Promise<void> | undefined;
}

function isDirty({ from, to }: Chunk): boolean {
  return from < to;
}

function isBusy({ loading, writing }: Chunk): boolean {
  return loading !== undefined || writing !== undefined;
}

/**
 * A write-back cache over an assembly: contents are small and lie in any order, disks want large
 * writes. Memory stays below 32 MiB; `put` is the back-pressure. Writers may call `put` side by
 * side for ranges that do not overlap.
 */
export class ImageWriter {
  readonly #assembly: Assembly;
  readonly #sizeBytes: number;
  /** Chunks that the file may have bytes of; all others are zero there. */
  readonly #touched: Uint8Array;
  /** In the order of use, the oldest first. */
  readonly #chunks = new Map<number, Chunk>();
  readonly #spare: Uint8Array[] = [];
  readonly #gate = new Slots(WRITES_MAX);
  readonly #writing = new Set<Promise<void>>();
  #failure: { readonly error: unknown } | undefined;

  /** @param fresh nothing has been written to the assembly yet */
  constructor(assembly: Assembly, fresh: boolean) {
    this.#assembly = assembly;
    this.#sizeBytes = assembly.blob.sizeBytes;
    this.#touched = new Uint8Array(Math.ceil(this.#sizeBytes / CHUNK_BYTES)).fill(fresh ? 0 : 1);
  }

  /** Takes a copy of the bytes. @throws what earlier writes to the assembly threw, too */
  async put(bytes: Uint8Array, position: number): Promise<void> {
    for (let done = 0; done < bytes.length;) {
      const index = Math.floor((position + done) / CHUNK_BYTES);
      const offset = position + done - index * CHUNK_BYTES;
      const length = Math.min(bytes.length - done, CHUNK_BYTES - offset);
      await this.#putPart(bytes.subarray(done, done + length), index, offset);
      done += length;
    }
  }

  /** A chunk is looked up and filled in one turn: after a wait it may have left. */
  async #putPart(bytes: Uint8Array, index: number, offset: number): Promise<void> {
    for (;;) {
      const chunk = this.#ready(index);
      if (chunk !== undefined) return this.#fill(chunk, bytes, offset);
      await (this.#chunks.get(index)?.loading ?? this.#makeRoom());
    }
  }

  /** Reads back what was put. @throws what writes to the assembly threw, too */
  async read(target: Uint8Array, position: number): Promise<void> {
    for (let done = 0; done < target.length;) {
      const index = Math.floor((position + done) / CHUNK_BYTES);
      const offset = position + done - index * CHUNK_BYTES;
      const length = Math.min(target.length - done, CHUNK_BYTES - offset);
      await this.#readPart(target.subarray(done, done + length), index, offset);
      done += length;
    }
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /** A chunk that is not in memory has been written before it left. */
  async #readPart(target: Uint8Array, index: number, offset: number): Promise<void> {
    for (;;) {
      const chunk = this.#chunks.get(index);
      if (chunk === undefined) {
        await this.#assembly.read(target, index * CHUNK_BYTES + offset);
        return;
      }
      if (chunk.loading === undefined) {
        target.set(chunk.bytes.subarray(offset, offset + target.length));
        return;
      }
      await chunk.loading;
    }
  }

  /** Returns when everything that was put before the call has been written to the assembly. */
  async flush(): Promise<void> {
    const chunks = [...this.#chunks.values()];
    for (const chunk of chunks) {
      await chunk.loading;
      await chunk.writing;
      if (isDirty(chunk) && chunk.writing === undefined) void this.#write(chunk);
      await chunk.writing;
    }
    await Promise.all(this.#writing);
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  #fill(chunk: Chunk, bytes: Uint8Array, offset: number): void {
    if (this.#failure !== undefined) throw this.#failure.error;
    chunk.bytes.set(bytes, offset);
    chunk.from = Math.min(chunk.from, offset);
    chunk.to = Math.max(chunk.to, offset + bytes.length);
    chunk.putBytes += bytes.length;
    chunk.filled = true;
    this.#chunks.delete(chunk.index);
    this.#chunks.set(chunk.index, chunk);
    const full = chunk.putBytes >= this.#lengthOf(chunk.index);
    if (full && chunk.writing === undefined) void this.#write(chunk);
  }

  #lengthOf(index: number): number {
    return Math.min(CHUNK_BYTES, this.#sizeBytes - index * CHUNK_BYTES);
  }

  /** The chunk if nobody has to wait for it: it is there, or there is room and nothing to load. */
  #ready(index: number): Chunk | undefined {
    const held = this.#chunks.get(index);
    if (held !== undefined) return held.loading === undefined ? held : undefined;
    if (this.#chunks.size >= CHUNKS_MAX) return undefined;
    const bytes = this.#spare.pop() ?? new Uint8Array(CHUNK_BYTES);
    const edges = { from: CHUNK_BYTES, to: 0, putBytes: 0, filled: false };
    const chunk: Chunk = { index, bytes, ...edges, loading: undefined, writing: undefined };
    this.#chunks.set(index, chunk);
    if (this.#touched[index] === 1) chunk.loading = this.#load(chunk);
    else bytes.fill(0);
    return chunk.loading === undefined ? chunk : undefined;
  }

  async #load(chunk: Chunk): Promise<void> {
    const target = chunk.bytes.subarray(0, this.#lengthOf(chunk.index));
    try {
      await this.#assembly.read(target, chunk.index * CHUNK_BYTES);
    } catch (error) {
      this.#failure ??= { error };
      throw error;
    } finally {
      chunk.loading = undefined;
    }
  }

  /** Lets a chunk go that the file has, the one used longest ago; or brings the oldest to it. */
  async #makeRoom(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure.error;
    const chunks = [...this.#chunks.values()];
    const idle = chunks.find((chunk) => chunk.filled && !isDirty(chunk) && !isBusy(chunk));
    if (idle !== undefined) {
      this.#chunks.delete(idle.index);
      this.#spare.push(idle.bytes);
      return;
    }
    const dirty = chunks.filter((chunk) => isDirty(chunk) && !isBusy(chunk));
    for (const chunk of dirty.slice(0, WRITES_MAX)) void this.#write(chunk);
    const busy = chunks.flatMap(({ loading, writing }) => loading ?? writing ?? []);
    if (busy.length > 0) await Promise.race(busy);
  }

  #write(chunk: Chunk): Promise<void> {
    const { from, to } = chunk;
    chunk.from = CHUNK_BYTES;
    chunk.to = 0;
    chunk.putBytes = 0;
    this.#touched[chunk.index] = 1;
    const writing = this.#writeRange(chunk, from, to).finally(() => {
      chunk.writing = undefined;
      this.#writing.delete(writing);
    });
    chunk.writing = writing;
    this.#writing.add(writing);
    return writing;
  }

  async #writeRange(chunk: Chunk, from: number, to: number): Promise<void> {
    try {
      const position = chunk.index * CHUNK_BYTES + from;
      const bytes = chunk.bytes.subarray(from, to);
      await this.#gate.run(() => this.#assembly.write(bytes, position));
    } catch (error) {
      // Kept for the next call: nobody waits for this one.
      this.#failure ??= { error };
    }
  }
}
