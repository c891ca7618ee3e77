/** Lets at most so many run at a time; the others wait in the order in which they came. */
export class Gate {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  /** @param width above 0 */
  constructor(width: number) {
    this.#free = width;
  }

  async pass<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next();
    }
  }
}

/**
 * Runs all and waits for all, so that nothing is left running; then throws the first error.
 */
export async function settleAll<T>(work: readonly Promise<T>[]): Promise<T[]> {
  let failed: { readonly error: unknown } | undefined;
  const values: T[] = [];
  const observed = work.map((promise) =>
    promise.catch((error: unknown) => {
      failed ??= { error };
    }),
  );
  await Promise.all(observed);
  if (failed !== undefined) throw failed.error;
  for (const promise of work) values.push(await promise);
  return values;
}
