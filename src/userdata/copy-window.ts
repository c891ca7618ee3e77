/** How much the copier may have asked for. Pure. */

const MIB = 2 ** 20;
const BYTES_MIN = 64 * 1024;
const BYTES_MAX = 16 * MIB;
/** A base that is older may be that of another path. */
const BASE_AGE_ms = 30_000;
/** Above it nothing is fetched one block at a time any more. */
const LONG_RUN_BYTES = MIB;
/** Of so many answers the quickest counts: one that is late alone says nothing about a queue. */
const ANSWERS = 8;
/** It doubles in a round trip until there was a queue for the first time, then grows by an eighth. */
const GAIN_LATER = 1 / 8;

/**
 * Bytes that background fetches may have under way. It grows while answers come about as quickly as
 * they can, and shrinks when they come later, for then they wait in a queue in which a demanded block
 * would have to wait as well: delay-based, after LEDBAT (RFC 6817), with the answer's time in place
 * of the one-way delay. While the guest waits for a block, only one fetch goes on.
 */
export class CopyWindow {
  #bytes = 2 * BYTES_MIN;
  #gain = 1;
  readonly #lately_ms: number[] = [];
  #base_ms: number | undefined;
  #baseAt_ms = 0;
  /** Since then little is under way, so that the queue runs empty and the base shows anew. */
  #probeFrom_ms: number | undefined;

  /** Most bytes that should be under way. */
  allowedBytes(demands: number): number {
    return demands > 0 || this.#probeFrom_ms !== undefined ? BYTES_MIN : this.#bytes;
  }

  /** Most blocks in one request. */
  get runBlocks(): number {
    return this.#bytes > LONG_RUN_BYTES ? 4 : 1;
  }

  /** The shortest time of an answer lately; undefined before the first. */
  get base_ms(): number | undefined {
    return this.#base_ms;
  }

  /** A fetch of so many bytes took so long. */
  answered(bytes: number, took_ms: number, now_ms: number): void {
    const base_ms = this.#learn(took_ms, now_ms);
    if (this.#probeFrom_ms !== undefined) return;
    this.#lately_ms.push(took_ms);
    if (this.#lately_ms.length > ANSWERS) this.#lately_ms.shift();
    const queue_ms = Math.min(...this.#lately_ms) - base_ms;
    const target_ms = 4 + base_ms / 4;
    const off = Math.max(-0.5, 1 - queue_ms / target_ms);
    if (off < 0) this.#gain = GAIN_LATER;
    const change = off < 0 ? off : off * this.#gain;
    this.#bytes = Math.min(BYTES_MAX, Math.max(BYTES_MIN, this.#bytes + change * bytes));
  }

  #learn(took_ms: number, now_ms: number): number {
    const base_ms = this.#base_ms ?? Infinity;
    const probed =
      this.#probeFrom_ms !== undefined && now_ms - took_ms >= this.#probeFrom_ms + base_ms;
    if (took_ms <= base_ms || probed) {
      this.#base_ms = took_ms;
      this.#baseAt_ms = now_ms;
      this.#probeFrom_ms = undefined;
    } else if (now_ms - this.#baseAt_ms > BASE_AGE_ms) this.#probeFrom_ms ??= now_ms;
    return this.#base_ms ?? took_ms;
  }
}
