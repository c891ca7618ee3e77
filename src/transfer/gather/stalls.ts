/** Who was asked and sent nothing, and how long the next answer is waited for. Pure. */

/** Keeps the longest period, of hours, within what a timer can wait for. */
const DOUBLINGS_MAX = 10;

/**
 * Counts in a row. Whoever stalls equally often is asked in turn, and waited for twice as long each
 * time: one that is dead is given up whoever stalled before it, and one that needs long is heard in
 * the end.
 */
export class Stalls<Source> {
  readonly #first_ms: number;
  readonly #last = new Map<Source, { readonly count: number; readonly turn: number }>();
  #turns = 0;

  constructor(first_ms: number) {
    this.#first_ms = first_ms;
  }

  count(source: Source): number {
    return this.#last.get(source)?.count ?? 0;
  }

  /** The lower, the longer ago it stalled; 0 where it did not. */
  turn(source: Source): number {
    return this.#last.get(source)?.turn ?? 0;
  }

  /** How long nothing but signs of life may come before it stalls again. */
  period_ms(source: Source): number {
    return this.#first_ms * 2 ** Math.min(this.count(source), DOUBLINGS_MAX);
  }

  /** Once, however many requests saw the same: `seen` is the count that each of them began with. */
  add(source: Source, seen: number): void {
    if (this.count(source) !== seen) return;
    this.#turns += 1;
    this.#last.set(source, { count: seen + 1, turn: this.#turns });
  }

  /** Something came. */
  clear(source: Source): void {
    this.#last.delete(source);
  }
}
