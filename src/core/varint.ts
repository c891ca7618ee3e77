/** Numbers of variable length: unsigned LEB128 in its shortest form, up to 2^53 - 1. */

const BYTES_MAX = 8;

/** Gathers numbers. */
export class VarintWriter {
  #bytes = Buffer.allocUnsafe(256);
  #used = 0;

  get length(): number {
    return this.#used;
  }

  /** @param value 0 to 2^53 - 1 */
  number(value: number): void {
    if (this.#used + BYTES_MAX > this.#bytes.length) this.#grow();
    let rest = value;
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) this.#put((rest % 0x80) | 0x80);
    this.#put(rest);
  }

  /** A byte as it is, which is no number. */
  byte(value: number): void {
    if (this.#used === this.#bytes.length) this.#grow();
    this.#put(value);
  }

  /** What has been written; the writer is not used afterwards. */
  bytes(): Buffer {
    return this.#bytes.subarray(0, this.#used);
  }

  #put(byte: number): void {
    this.#bytes[this.#used] = byte;
    this.#used += 1;
  }

  #grow(): void {
    const larger = Buffer.allocUnsafe(2 * this.#bytes.length);
    larger.set(this.#bytes);
    this.#bytes = larger;
  }
}

/** Reads numbers one after the other. */
export class VarintReader {
  readonly #input: Uint8Array;
  readonly #invalid: (what: string) => Error;
  #at: number;

  /** @param invalid makes the error that is thrown for what is no number */
  constructor(input: Uint8Array, at: number, invalid: (what: string) => Error) {
    this.#input = input;
    this.#at = at;
    this.#invalid = invalid;
  }

  get remaining(): number {
    return this.#input.length - this.#at;
  }

  /** @throws when it is cut short, too large, or not the shortest form */
  number(): number {
    let value = 0;
    let factor = 1;
    for (let count = 0; count < BYTES_MAX; count += 1, factor *= 0x80) {
      const byte = this.#input[this.#at];
      if (byte === undefined) throw this.#invalid("a number is cut short");
      this.#at += 1;
      value += (byte & 0x7f) * factor;
      if (value > Number.MAX_SAFE_INTEGER) throw this.#invalid("a number is above 2^53 - 1");
      if (byte >= 0x80) continue;
      if (byte === 0 && count > 0) throw this.#invalid("a number is not in its shortest form");
      return value;
    }
    throw this.#invalid("a number is above 2^53 - 1");
  }

  /** Passes bytes that are no numbers; at most `remaining`. */
  skip(length: number): void {
    this.#at += length;
  }

  /** A number of things of which each takes at least `bytesEach`: bounded by what is left. */
  count(bytesEach: number): number {
    const value = this.number();
    if (value > this.remaining / bytesEach)
      throw this.#invalid(`${value} things in a short payload`);
    return value;
  }
}

/** Non-negative for every whole number below 2^52: 0, -1, 1, -2 become 0, 1, 2, 3. */
export function zigzag(value: number): number {
  return value >= 0 ? value * 2 : -value * 2 - 1;
}

export function unzigzag(value: number): number {
  return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
}
