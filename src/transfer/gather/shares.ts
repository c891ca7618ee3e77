/** Which source sends which contents next. */

/** Least raw bytes of a share while others could take the rest. */
const SHARE_BYTES_MIN = 4 * 2 ** 20;
/** How much of its part of the rest a source takes at once, so that all end together. */
const PART = 0.6;

/** Raw bytes per second of those who take shares. */
export type Rates<Worker> = ReadonlyMap<Worker, number>;

/**
 * Contents that have to come, handed out in runs of the recipe's order: each worker takes a part of
 * what is left in proportion to its rate, so that shares grow smaller towards the end and all end
 * at about the same time. One worker alone takes everything at once, which compresses best.
 */
export class ShareQueue<Worker> {
  readonly #sizeOf: (content: number) => number;
  #open: number[];
  #openBytes = 0;

  constructor(contents: readonly number[], sizeOf: (content: number) => number) {
    this.#sizeOf = sizeOf;
    this.#open = [];
    this.giveBack(contents);
  }

  get openBytes(): number {
    return this.#openBytes;
  }

  /** Puts back what did not come. */
  giveBack(contents: readonly number[]): void {
    if (contents.length === 0) return;
    this.#open = [...this.#open, ...contents].toSorted((a, b) => a - b);
    for (const content of contents) this.#openBytes += this.#sizeOf(content);
  }

  /** The next share, ascending; empty when all is handed out. `rates` has all who take shares. */
  take(worker: Worker, rates: Rates<Worker>): number[] {
    let all = 0;
    for (const rate of rates.values()) all += rate;
    const own = rates.get(worker) ?? 0;
    const alone = rates.size <= 1 || own >= all;
    const part = all > 0 ? own / all : 1 / rates.size;
    const limit = alone
      ? Number.POSITIVE_INFINITY
      : Math.max(SHARE_BYTES_MIN, this.#openBytes * part * PART);
    return this.#takeUpTo(limit);
  }

  #takeUpTo(limit: number): number[] {
    let [count, bytes] = [0, 0];
    for (const content of this.#open) {
      if (bytes >= limit) break;
      bytes += this.#sizeOf(content);
      count += 1;
    }
    const share = this.#open.slice(0, count);
    this.#open = this.#open.slice(count);
    this.#openBytes -= bytes;
    return share;
  }
}
