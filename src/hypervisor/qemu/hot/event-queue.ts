const EVENTS_MAX = 1000;

/** Values in the order in which they were pushed, for one reader; the oldest go when it is too slow. */
export class EventQueue<T> implements AsyncIterable<T> {
  #values: T[] = [];
  #ended = false;
  #wake = Promise.withResolvers<void>();

  push(value: T): void {
    if (this.#ended) return;
    this.#values.push(value);
    if (this.#values.length > EVENTS_MAX) this.#values.shift();
    this.#wake.resolve();
  }

  /** What was pushed before is still read. */
  end(): void {
    this.#ended = true;
    this.#wake.resolve();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    try {
      for (;;) {
        const values = this.#values;
        this.#values = [];
        yield* values;
        if (this.#values.length > 0) continue;
        if (this.#ended) return;
        this.#wake = Promise.withResolvers();
        await this.#wake.promise;
      }
    } finally {
      this.end();
    }
  }
}
