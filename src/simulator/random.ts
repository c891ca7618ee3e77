/** Random numbers that a seed replays: for draws of a simulation, never for secrets. */

/** A stream of its own for each thing that is drawn, so that runs differ only where they should. */
export class RandomStream {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  /** @param seed any integer; @param stream tells streams of one seed apart */
  constructor(seed: number, stream: number) {
    this.#a = seed | 0;
    this.#b = Math.floor(seed / 2 ** 32) | 0;
    this.#c = stream | 0;
    for (let round = 0; round < 15; round += 1) this.#next();
  }

  /** Chris Doty-Humphrey's sfc32: 128 bits of state, at least 2^32 numbers before it repeats. */
  #next(): number {
    const sum = (((this.#a + this.#b) | 0) + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + sum;
    this.#c |= 0;
    return sum >>> 0;
  }

  /** From 0 up to but not including 1. */
  fraction(): number {
    return this.#next() / 2 ** 32;
  }

  /** An integer from 0 up to but not including `count`. */
  below(count: number): number {
    return Math.floor(this.fraction() * count);
  }

  exponential(mean: number): number {
    return -mean * Math.log(1 - this.fraction());
  }

  /** Standard normal, by Box and Muller. */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.fraction()));
    return radius * Math.cos(2 * Math.PI * this.fraction());
  }
}

/** The weights 1/rank^exponent for ranks from 1. */
export function zipfWeights(count: number, exponent: number): Float64Array {
  return Float64Array.from({ length: count }, (_, rank) => (rank + 1) ** -exponent);
}

/** Draws indexes by their weights in constant time (Walker's alias method). */
export class WeightedDraw {
  readonly #limits: Float64Array;
  readonly #aliases: Int32Array;

  /** @param weights at least one, none negative, not all 0 */
  constructor(weights: ArrayLike<number>) {
    const count = weights.length;
    let sum = 0;
    for (let index = 0; index < count; index += 1) sum += weights[index] ?? 0;
    this.#limits = Float64Array.from(weights, (weight) => (weight * count) / sum);
    this.#aliases = Int32Array.from({ length: count }, (_, index) => index);
    this.#pair();
  }

  /** Fills the room that each light index leaves with a heavy one. */
  #pair(): void {
    const limits = this.#limits;
    const light: number[] = [];
    const heavy: number[] = [];
    limits.forEach((limit, index) => (limit < 1 ? light : heavy).push(index));
    while (light.length > 0 && heavy.length > 0) {
      const small = light.pop() ?? 0;
      const large = heavy.at(-1) ?? 0;
      this.#aliases[small] = large;
      limits[large] = (limits[large] ?? 0) - (1 - (limits[small] ?? 0));
      if ((limits[large] ?? 0) < 1) light.push(heavy.pop() ?? 0);
    }
    // What is left differs from 1 by rounding alone.
    for (const index of [...light, ...heavy]) limits[index] = 1;
  }

  draw(random: RandomStream): number {
    const index = random.below(this.#limits.length);
    return random.fraction() < (this.#limits[index] ?? 0) ? index : (this.#aliases[index] ?? 0);
  }
}
