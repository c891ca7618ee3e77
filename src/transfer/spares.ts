import { RAW_BYTES_MAX } from "./protocol.ts";

const SPARES_MAX = 16;

/**
 * Buffers of one size that are used again: without them every piece of a stream costs fresh pages
 * of the system and the collector's work.
 */
export class Spares {
  readonly #spares: Buffer[] = [];

  /** A buffer of up to 1 MiB, with whatever it held before. */
  take(length: number): Buffer {
    const whole = this.#spares.pop() ?? Buffer.allocUnsafeSlow(RAW_BYTES_MAX);
    return whole.subarray(0, length);
  }

  /** Nothing reads or writes the buffer, which came from `take`, any more. */
  give(buffer: Buffer): void {
    if (this.#spares.length < SPARES_MAX) this.#spares.push(Buffer.from(buffer.buffer));
  }
}
