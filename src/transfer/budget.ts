/** Gives memory back, but for so many bytes, which a later call gives back; once all is back, nothing. */
export type GiveBack = (keptBytes?: number) => void;

/** Memory that several pieces of work share: each waits, in line, until there is room for it. */
export class MemoryBudget {
  readonly #line: { readonly bytes: number; readonly wake: () => void }[] = [];
  #totalBytes: number;
  #usedBytes = 0;

  /** @param totalBytes above 0 */
  constructor(totalBytes: number) {
    this.#totalBytes = totalBytes;
  }

  /** Less than what is in use means that nothing new begins until enough has been given back. */
  resize(totalBytes: number): void {
    this.#totalBytes = totalBytes;
    this.#serve();
  }

  /**
   * Resolves, first come first served, when there is room; what is larger than the whole has it
   * alone.
   */
  async take(bytes: number, signal?: AbortSignal): Promise<GiveBack> {
    signal?.throwIfAborted();
    await new Promise<void>((resolve, reject) => {
      const waiter = { bytes, wake: resolve };
      const abort = (): void => {
        const at = this.#line.indexOf(waiter);
        if (at < 0) return;
        this.#line.splice(at, 1);
        reject(signal?.reason as Error);
        this.#serve();
      };
      waiter.wake = () => {
        signal?.removeEventListener("abort", abort);
        resolve();
      };
      this.#line.push(waiter);
      signal?.addEventListener("abort", abort, { once: true });
      this.#serve();
    });
    let held = bytes;
    return (keptBytes = 0) => {
      const left = Math.min(held, keptBytes);
      this.#usedBytes -= held - left;
      held = left;
      this.#serve();
    };
  }

  #serve(): void {
    for (;;) {
      const first = this.#line[0];
      if (first === undefined) return;
      if (this.#usedBytes > 0 && this.#usedBytes + first.bytes > this.#totalBytes) return;
      this.#line.shift();
      this.#usedBytes += first.bytes;
      first.wake();
    }
  }
}
