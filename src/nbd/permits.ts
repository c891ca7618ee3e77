interface Waiting {
  readonly bytes: number;
  readonly resolve: () => void;
  readonly reject: (reason: unknown) => void;
}

/**
 * Bounds what is under way by number and by bytes; who comes first goes first. One that is larger
 * than the bound goes alone.
 */
export class Permits {
  readonly #countMax: number;
  readonly #bytesMax: number;
  readonly #waiting: Waiting[] = [];
  #count = 0;
  #bytes = 0;

  constructor(countMax: number, bytesMax: number) {
    this.#countMax = countMax;
    this.#bytesMax = bytesMax;
  }

  /** Resolves when it may begin; undefined when it may at once. @throws what `fail` is given */
  take(bytes: number): Promise<void> | undefined {
    if (this.#waiting.length === 0 && this.#fits(bytes)) {
      this.#count += 1;
      this.#bytes += bytes;
      return undefined;
    }
    return new Promise((resolve, reject) => this.#waiting.push({ bytes, resolve, reject }));
  }

  give(bytes: number): void {
    this.#count -= 1;
    this.#bytes -= bytes;
    for (let [next] = this.#waiting; next !== undefined && this.#fits(next.bytes);) {
      this.#waiting.shift();
      this.#count += 1;
      this.#bytes += next.bytes;
      next.resolve();
      [next] = this.#waiting;
    }
  }

  /** Those who wait get this instead. */
  fail(reason: unknown): void {
    for (const { reject } of this.#waiting.splice(0)) reject(reason);
  }

  #fits(bytes: number): boolean {
    if (this.#count === 0) return true;
    return this.#count < this.#countMax && this.#bytes + bytes <= this.#bytesMax;
  }
}
