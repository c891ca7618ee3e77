/** Which bytes of which contents have come. */
interface Interval {
  readonly from: number;
  readonly to: number;
}

/** The interval joined with those that it touches, in order. */
function joined(intervals: readonly Interval[], { from, to }: Interval): Interval[] {
  const apart = intervals.filter((other) => other.to < from || other.from > to);
  const touching = intervals.filter((other) => other.to >= from && other.from <= to);
  const whole = {
    from: Math.min(from, ...touching.map((other) => other.from)),
    to: Math.max(to, ...touching.map((other) => other.to)),
  };
  return [...apart, whole].toSorted((a, b) => a.from - b.from);
}

export class Coverage {
  readonly #sizes: ReadonlyMap<number, number>;
  readonly #partial = new Map<number, readonly Interval[]>();
  readonly #missing: Set<number>;

  /** @param sizes of the contents that are awaited, each above 0 */
  constructor(sizes: ReadonlyMap<number, number>) {
    this.#sizes = sizes;
    this.#missing = new Set(sizes.keys());
  }

  /** True when the content is awaited, whether it has come or not. */
  awaits(content: number): boolean {
    return this.#sizes.has(content);
  }

  add(content: number, offset: number, length: number): void {
    const size = this.#sizes.get(content);
    if (size === undefined || !this.#missing.has(content)) return;
    const before = this.#partial.get(content) ?? [];
    const intervals = joined(before, { from: offset, to: offset + length });
    const [only] = intervals;
    const isWhole = intervals.length === 1 && only?.from === 0 && only.to === size;
    if (isWhole) this.#missing.delete(content);
    if (isWhole) this.#partial.delete(content);
    else this.#partial.set(content, intervals);
  }

  /** Ascending. */
  missing(): number[] {
    return [...this.#missing].toSorted((a, b) => a - b);
  }
}
