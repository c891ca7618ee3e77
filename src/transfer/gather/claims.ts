import type { Recipe } from "#image";
import { keyOf } from "./held.ts";

/**
 * Contents that one of several components brings for all of them. Who claims first fetches; the
 * others copy when that component is held. A claim never waits for a later one, so that no two wait
 * for each other: who begins anew, behind others, drops what it claimed before.
 */
export class Claims {
  /** By content: when the component that brings it has been admitted, or its attempt failed. */
  readonly #claimed = new Map<string, Promise<unknown>>();

  /**
   * Claims those contents that nobody has claimed.
   *
   * @param done settles when the component is held, or this attempt has failed
   * @returns what is to be fetched now, and what may be held when `others` have settled
   */
  take(
    recipe: Recipe,
    contents: readonly number[],
    done: Promise<unknown>,
  ): { readonly now: number[]; readonly others: ReadonlySet<Promise<unknown>> } {
    const now: number[] = [];
    const others = new Set<Promise<unknown>>();
    for (const content of contents) {
      const fact = recipe.contents[content];
      if (fact === undefined) continue;
      const key = keyOf(fact);
      const claimed = this.#claimed.get(key);
      if (claimed === undefined || claimed === done) {
        this.#claimed.set(key, done);
        now.push(content);
      } else others.add(claimed);
    }
    return { now, others };
  }

  /** Forgets what a component has claimed; it is held, or others fetch it. */
  drop(done: Promise<unknown>): void {
    for (const [key, claimed] of this.#claimed) if (claimed === done) this.#claimed.delete(key);
  }
}
