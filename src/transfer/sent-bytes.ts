import { violation } from "./errors.ts";
import { FRAME_COST_BYTES } from "./protocol.ts";

interface Kept {
  /** Of its first byte. */
  readonly offset: number;
  readonly bytes: Buffer;
}

/** What keeping a piece of so many bytes takes of the bound. */
export function costOf(lengthBytes: number): number {
  return lengthBytes + FRAME_COST_BYTES;
}

/**
 * One direction of a tunnel at the side that sends: what the other side has not told to have taken, so
 * that it can be sent again. See doc/data-protocol.md, "Memory". Pure.
 */
export class SentBytes {
  readonly #boundBytes: number;
  readonly #kept: Kept[] = [];
  #costBytes = 0;
  #takenBytes = 0;
  #endBytes = 0;

  /** @param boundBytes most that is kept, each piece with its cost; one piece always has room */
  constructor(boundBytes: number) {
    this.#boundBytes = boundBytes;
  }

  /** All that the other side has told to have taken. */
  get takenBytes(): number {
    return this.#takenBytes;
  }

  /** All that was ever added. */
  get endBytes(): number {
    return this.#endBytes;
  }

  /** What is kept, with the pieces' costs. */
  get costBytes(): number {
    return this.#costBytes;
  }

  hasRoomFor(lengthBytes: number): boolean {
    return this.#kept.length === 0 || this.#costBytes + costOf(lengthBytes) <= this.#boundBytes;
  }

  /** Keeps a piece, of at least a byte, that nobody changes any more; returns its offset. */
  add(bytes: Buffer): number {
    const offset = this.#endBytes;
    this.#kept.push({ offset, bytes });
    this.#costBytes += costOf(bytes.length);
    this.#endBytes += bytes.length;
    return offset;
  }

  /** One that tells less than before says nothing new. @throws `transfer.protocol-violation` */
  taken(upTo: number): void {
    if (upTo > this.#endBytes) throw violation(`${upTo} bytes taken of ${this.#endBytes}`);
    this.#takenBytes = Math.max(this.#takenBytes, upTo);
    let whole = 0;
    for (const { offset, bytes } of this.#kept) {
      if (offset + bytes.length > this.#takenBytes) break;
      this.#costBytes -= costOf(bytes.length);
      whole += 1;
    }
    this.#kept.splice(0, whole);
  }

  /**
   * The other side has so many bytes and goes on there.
   *
   * @throws `transfer.protocol-violation` for more than was sent, or less than was taken
   */
  resume(fromBytes: number): void {
    if (fromBytes >= this.#takenBytes && fromBytes <= this.#endBytes) return;
    const range = `${this.#takenBytes} to ${this.#endBytes}`;
    throw violation(`a tunnel that goes on from ${fromBytes} where it can from ${range}`);
  }

  /** The rest of the piece with this byte; undefined where there is none yet, or no more. */
  at(offset: number): Buffer | undefined {
    const piece = this.#kept[this.#indexOf(offset)];
    if (piece === undefined || offset < piece.offset) return undefined;
    return piece.bytes.subarray(offset - piece.offset);
  }

  /** Of the first piece that ends beyond the offset. */
  #indexOf(offset: number): number {
    let low = 0;
    let high = this.#kept.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const piece = this.#kept[middle];
      if (piece !== undefined && piece.offset + piece.bytes.length <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
