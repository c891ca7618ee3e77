import { endOf, type ByteRange } from "#core";

interface Held {
  readonly range: ByteRange;
  readonly done: Promise<void>;
}

/** Work on ranges that overlap is done one after the other, in the order in which it was asked. */
export class RangeLocks {
  readonly #held = new Set<Held>();

  async run<T>(range: ByteRange, work: () => Promise<T>): Promise<T> {
    const before = [...this.#held].filter(
      (held) => held.range.offset < endOf(range) && range.offset < endOf(held.range),
    );
    const { promise: done, resolve } = Promise.withResolvers<void>();
    const held = { range, done };
    this.#held.add(held);
    try {
      await Promise.all(before.map((other) => other.done));
      return await work();
    } finally {
      this.#held.delete(held);
      resolve();
    }
  }
}
