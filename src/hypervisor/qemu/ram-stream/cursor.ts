/** Thrown within the parser when an item has not arrived whole. */
export const CUT_SHORT = new Error("the item has not arrived whole");

/** Reads big-endian numbers and short texts one after the other; never beyond what is there. */
export class Cursor {
  readonly #bytes: Buffer;
  at: number;

  constructor(bytes: Buffer, at: number) {
    this.#bytes = bytes;
    this.at = at;
  }

  /** The position of the next `length` bytes, which are passed. @throws CUT_SHORT */
  #take(length: number): number {
    const start = this.at;
    if (length > this.#bytes.length - start) throw CUT_SHORT;
    this.at = start + length;
    return start;
  }

  byte(): number {
    return this.#bytes.readUInt8(this.#take(1));
  }

  uint16(): number {
    return this.#bytes.readUInt16BE(this.#take(2));
  }

  uint32(): number {
    return this.#bytes.readUInt32BE(this.#take(4));
  }

  /** Above 2^53 not exact. */
  uint64(): number {
    return this.uint32() * 2 ** 32 + this.uint32();
  }

  /** A byte that is the length, then so many characters of one byte each. */
  text(): string {
    const length = this.byte();
    const start = this.#take(length);
    return this.#bytes.toString("latin1", start, start + length);
  }

  view(length: number): Buffer {
    const start = this.#take(length);
    return this.#bytes.subarray(start, start + length);
  }
}
