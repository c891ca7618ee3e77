/** Values by key, of which the longest unused leave when their costs together exceed the bound. */
export class BoundedMap<Key, Value> {
  readonly #costMax: number;
  /** In the order of their last use. */
  readonly #entries = new Map<Key, { readonly value: Value; readonly cost: number }>();
  #cost = 0;

  constructor(costMax: number) {
    this.#costMax = costMax;
  }

  get(key: Key): Value | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry.value;
  }

  /** What alone exceeds the bound is not kept. */
  set(key: Key, value: Value, cost: number): void {
    this.delete(key);
    if (cost > this.#costMax) return;
    this.#entries.set(key, { value, cost });
    this.#cost += cost;
    for (const oldest of this.#entries.keys()) {
      if (this.#cost <= this.#costMax) break;
      this.delete(oldest);
    }
  }

  delete(key: Key): void {
    this.#cost -= this.#entries.get(key)?.cost ?? 0;
    this.#entries.delete(key);
  }
}
