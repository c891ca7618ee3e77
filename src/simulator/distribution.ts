/** How values are spread, in bins of equal ratio, so that memory does not grow with their number. */
import type { Distribution } from "./contract.ts";

const LEAST = 1e-3;
const BINS_PER_DECADE = 100;
const BINS = 11 * BINS_PER_DECADE;

export class Histogram {
  readonly #counts = new Float64Array(BINS + 1);
  #count = 0;
  #sum = 0;

  add(value: number): void {
    const bin = Math.ceil(Math.log10(Math.max(value, LEAST) / LEAST) * BINS_PER_DECADE);
    const place = Math.min(BINS, Math.max(0, bin));
    this.#counts[place] = (this.#counts[place] as number) + 1;
    this.#count += 1;
    this.#sum += value;
  }

  /** Values are the upper ends of bins: at most 2.4 % above what was added. */
  distribution(): Distribution {
    const values: number[] = [];
    const fractions: number[] = [];
    let below = 0;
    for (const [bin, count] of this.#counts.entries()) {
      if (count === 0) continue;
      below += count;
      values.push(LEAST * 10 ** (bin / BINS_PER_DECADE));
      fractions.push(below / this.#count);
    }
    const mean = this.#count === 0 ? 0 : this.#sum / this.#count;
    return { count: this.#count, mean, values, fractions };
  }
}
