/** Large buffers that are used again, so that memory does not wait for the garbage collector. */

/** What a pool should keep: raw bytes and references of two of the largest packs. */
export const SPARE_BYTES_MAX = 32 * 2 ** 20;
/** Below this size a buffer is made anew each time. */
const LEAST_BYTES = 2 ** 20;
const STEPS_PER_DOUBLING = 4;

/** The size class: at most a quarter more than what is asked for. */
function classOf(bytes: number): number {
  const step = 2 ** Math.max(0, Math.floor(Math.log2(bytes))) / STEPS_PER_DOUBLING;
  return Math.ceil(bytes / step) * step;
}

/**
 * Memory that threads may share: moved to one and back it would count as new each time, and the
 * garbage collector would run for every few packs.
 */
function newBuffer(bytes: number): Buffer {
  return Buffer.from(new SharedArrayBuffer(bytes));
}

export class BufferPool {
  readonly #spareBytesMax: number;
  /** The last that came back is the last. */
  readonly #spare: Buffer[] = [];
  #spareBytes = 0;

  /** @param spareBytesMax most bytes that are kept while nobody uses them */
  constructor(spareBytesMax: number) {
    this.#spareBytesMax = spareBytesMax;
  }

  /** A buffer of this length with any content. */
  lend(bytes: number): Buffer {
    if (bytes < LEAST_BYTES) return Buffer.allocUnsafe(bytes);
    const size = classOf(bytes);
    const at = this.#spare.findLastIndex(({ length }) => length >= size && length <= 2 * size);
    const [found] = at < 0 ? [] : this.#spare.splice(at, 1);
    if (found === undefined) return newBuffer(size).subarray(0, bytes);
    this.#spareBytes -= found.length;
    return found.subarray(0, bytes);
  }

  /** Nobody uses the buffer any more. The oldest spare ones leave when there are too many. */
  giveBack(buffer: Buffer): void {
    const whole = Buffer.from(buffer.buffer);
    if (buffer.byteOffset !== 0 || whole.length < LEAST_BYTES) return;
    this.#spare.push(whole);
    this.#spareBytes += whole.length;
    while (this.#spareBytes > this.#spareBytesMax) {
      this.#spareBytes -= this.#spare.shift()?.length ?? 0;
    }
  }
}
