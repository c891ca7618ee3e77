/** Writing into an image in any order, in large pieces. */
import type { Assembly } from "#repository";

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
      let chunk = this.#chunks.get(index);
      // Looked up again after each wait: it may have left in the meantime.
      while (chunk === undefined || chunk.loading !== undefined) {
        await (chunk?.loading ?? this.#bring(index));
        chunk = this.#chunks.get(index);
      }
      this.#fill(chunk, bytes.subarray(done, done + length), offset);
      done += length;
    }
  }

  /** Reads back what was put. */
  async read(target: Uint8Array, position: number): Promise<void> {
    await this.flush();
    await this.#assembly.read(target, position);
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
    this.#chunks.delete(chunk.index);
    this.#chunks.set(chunk.index, chunk);
    const full = chunk.putBytes >= this.#lengthOf(chunk.index);
    if (full && chunk.writing === undefined) void this.#write(chunk);
  }

  #lengthOf(index: number): number {
    return Math.min(CHUNK_BYTES, this.#sizeBytes - index * CHUNK_BYTES);
  }

  /** Loads a chunk, or makes room for it. */
  #bring(index: number): Promise<void> {
    return this.#chunks.size < CHUNKS_MAX ? this.#load(index) : this.#makeRoom();
  }

  async #load(index: number): Promise<void> {
    const bytes = this.#spare.pop() ?? new Uint8Array(CHUNK_BYTES);
    const chunk: Chunk = {
      index,
      bytes,
      from: CHUNK_BYTES,
      to: 0,
      putBytes: 0,
      loading: undefined,
      writing: undefined,
    };
    this.#chunks.set(index, chunk);
    if (this.#touched[index] === 0) {
      bytes.fill(0);
      return;
    }
    const target = bytes.subarray(0, this.#lengthOf(index));
    chunk.loading = this.#assembly.read(target, index * CHUNK_BYTES).finally(() => {
      chunk.loading = undefined;
    });
    try {
      await chunk.loading;
    } catch (error) {
      this.#failure ??= { error };
      throw error;
    }
  }

  /** Lets a chunk go that the file has, the one used longest ago; or brings the oldest to it. */
  async #makeRoom(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure.error;
    const chunks = [...this.#chunks.values()];
    const idle = chunks.find((chunk) => !isDirty(chunk) && !isBusy(chunk));
    if (idle !== undefined) {
      this.#chunks.delete(idle.index);
      this.#spare.push(idle.bytes);
      return;
    }
    for (const chunk of chunks.slice(0, WRITES_MAX)) if (!isBusy(chunk)) void this.#write(chunk);
    await Promise.race(chunks.flatMap(({ loading, writing }) => loading ?? writing ?? []));
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
    while (this.#writing.size > WRITES_MAX) await Promise.race(this.#writing);
    try {
      const position = chunk.index * CHUNK_BYTES;
      await this.#assembly.write(chunk.bytes.subarray(from, to), position + from);
    } catch (error) {
      // Kept for the next call: nobody waits for this one.
      this.#failure ??= { error };
    }
  }
}
