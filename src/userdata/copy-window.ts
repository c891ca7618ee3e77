/** How much the copier may have asked for. Pure. */

const MIB = 2 ** 20;
const BLOCK_BYTES = 64 * 1024;
const PIECE_BYTES = 16 * 1024;
const BYTES_MIN = 2 * PIECE_BYTES;
const BYTES_MAX = 16 * MIB;
/** A base that is older may be that of another path. */
const BASE_AGE_ms = 30_000;
/** Below it blocks are fetched in pieces, and above it several at a time. */
const SHORT_BYTES = 4 * BLOCK_BYTES;
const LONG_BYTES = MIB;
/** Of so many answers the quickest counts: one that is late alone says nothing about a queue. */
const ANSWERS = 16;
/** Of the window, while the guest waits for something. */
const WAITED_FOR_SHARE = 0.75;
/** It doubles in a round trip until there was a queue for the first time, then grows slowly. */
const GAIN_LATER = 1 / 16;

/**
 * Bytes that background fetches may have under way. It grows while answers come about as quickly as
 * they can, and shrinks when they come later, for then they wait in a queue in which a demanded block
 * would have to wait as well: delay-based, after LEDBAT (RFC 6817), with the answer's time in place
 * of the one-way delay.
 */
export class CopyWindow {
  #bytes = 2 * BLOCK_BYTES;
  #gain = 1;
  /** How much later than they can answers came. */
  readonly #lately_ms: number[] = [];
  /** The shortest time of an answer, and when it was, by the size of the request. */
  readonly #bases = new Map<number, { readonly took_ms: number; readonly at_ms: number }>();
  /** Since then little is under way, so that the queue runs empty and the base shows anew. */
  #probeFrom_ms: number | undefined;

  /**
   * Most bytes that should be under way. Less while the guest waits, so that what queue there is runs
   * empty; not nothing, as a guest that always reads would keep the copy from ending.
   */
  allowedBytes(demands: number): number {
    if (this.#probeFrom_ms !== undefined) return PIECE_BYTES;
    return demands > 0 ? Math.max(PIECE_BYTES, WAITED_FOR_SHARE * this.#bytes) : this.#bytes;
  }

  /** Most bytes in one request: a sixteenth, a quarter or all of 256 KiB. */
  get requestBytes(): number {
    if (this.#bytes < SHORT_BYTES) return PIECE_BYTES;
    return this.#bytes > LONG_BYTES ? 4 * BLOCK_BYTES : BLOCK_BYTES;
  }

  /** The time that an answer takes at least; undefined before the first. */
  get base_ms(): number | undefined {
    if (this.#bases.size === 0) return undefined;
    return Math.max(...[...this.#bases.values()].map(({ took_ms }) => took_ms));
  }

  /** A fetch of so many bytes took so long. */
  answered(bytes: number, took_ms: number, now_ms: number): void {
    const base_ms = this.#learn(bytes, took_ms, now_ms);
    if (this.#probeFrom_ms !== undefined) return;
    this.#lately_ms.push(took_ms - base_ms);
    if (this.#lately_ms.length > ANSWERS) this.#lately_ms.shift();
    const target_ms = 4 + base_ms / 12;
    const off = Math.max(-0.5, 1 - Math.min(...this.#lately_ms) / target_ms);
    if (off < 0) this.#gain = GAIN_LATER;
    const change = off < 0 ? off : off * this.#gain;
    this.#bytes = Math.min(BYTES_MAX, Math.max(BYTES_MIN, this.#bytes + change * bytes));
  }

  /** The base of requests of this size. */
  #learn(bytes: number, took_ms: number, now_ms: number): number {
    const sizes = [PIECE_BYTES, BLOCK_BYTES];
    const sizeClass = sizes.find((size) => bytes <= size) ?? Infinity;
    const known = this.#bases.get(sizeClass);
    const probed =
      this.#probeFrom_ms !== undefined &&
      now_ms - took_ms >= this.#probeFrom_ms + (known?.took_ms ?? 0);
    if (known === undefined || took_ms <= known.took_ms || probed) {
      this.#bases.set(sizeClass, { took_ms, at_ms: now_ms });
      this.#probeFrom_ms = undefined;
      return took_ms;
    }
    if (now_ms - known.at_ms > BASE_AGE_ms) this.#probeFrom_ms ??= now_ms;
    return known.took_ms;
  }
}
