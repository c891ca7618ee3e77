import { mergeRanges, totalLength, type ByteRange } from "#core";

/** Which bytes of which contents have come. */
export class Coverage {
  readonly #sizes: ReadonlyMap<number, number>;
  readonly #partial = new Map<number, readonly ByteRange[]>();
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

  /** True when all of an awaited content has come. */
  isWhole(content: number): boolean {
    return this.#sizes.has(content) && !this.#missing.has(content);
  }

  copy(): Coverage {
    const copy = new Coverage(this.#sizes);
    for (const content of this.#sizes.keys()) {
      if (!this.#missing.has(content)) copy.#missing.delete(content);
    }
    for (const [content, ranges] of this.#partial) copy.#partial.set(content, ranges);
    return copy;
  }

  add(content: number, offset: number, length: number): void {
    const size = this.#sizes.get(content);
    if (size === undefined || !this.#missing.has(content)) return;
    const before = this.#partial.get(content) ?? [];
    const ranges = mergeRanges([...before, { offset, length }]);
    const isWhole = totalLength(ranges) === size;
    if (isWhole) this.#missing.delete(content);
    if (isWhole) this.#partial.delete(content);
    else this.#partial.set(content, ranges);
  }

  /** Ascending. */
  missing(): number[] {
    return [...this.#missing].toSorted((a, b) => a - b);
  }
}
