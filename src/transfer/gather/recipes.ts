/** The recipes that sources give of one image. */
import { createHash } from "node:crypto";
import type { ComponentReference, Digest } from "#core";
import { encodeRecipe } from "#image";
import type { FetchedRecipe } from "../contract.ts";
import { sourceLied } from "./arrivals.ts";
import type { GatherSource } from "./contract.ts";
import { isSourceFault, type Question, type Sources } from "./sources.ts";
import type { Tally } from "./tally.ts";

/** A recipe that a source gave. */
export interface Given extends FetchedRecipe {
  readonly source: GatherSource;
  /** sha256 of the encoded recipe. */
  readonly digest: Buffer;
}

export interface RecipesJob {
  readonly sources: Sources;
  readonly reference: ComponentReference;
  readonly question: Question;
  readonly tally: Tally;
}

/** Asks each source once, and remembers who gave what until the image shows who was right. */
export class Recipes {
  readonly #job: RecipesJob;
  readonly #bases: readonly Digest[];
  readonly #given = new Map<GatherSource, Given>();

  constructor(job: RecipesJob, bases: readonly Digest[]) {
    this.#job = job;
    this.#bases = bases;
  }

  /** Of the best source that gives one; undefined when none is left. */
  async first(): Promise<Given | undefined> {
    const { sources, question } = this.#job;
    const known = sources.usable(question).flatMap((source) => this.#given.get(source) ?? []);
    if (known[0] !== undefined) return known[0];
    for (;;) {
      const [source] = sources.usable(question);
      if (source === undefined) return undefined;
      try {
        return await this.of(source);
      } catch (error) {
        question.signal.throwIfAborted();
        if (!isSourceFault(error)) throw error;
        sources.fail(source, question, error);
      }
    }
  }

  /** @throws `transfer.source-lied` when it is of another size; what asking throws */
  async of(source: GatherSource): Promise<Given> {
    const known = this.#given.get(source);
    if (known !== undefined) return known;
    const { sources, reference, question, tally } = this.#job;
    const { id, sizeBytes } = reference;
    const fetched = await sources.ask(source, question, async ({ receiver, signal }) => {
      try {
        return await receiver.fetchRecipe(id, this.#bases, signal);
      } finally {
        tally.wire(source);
      }
    });
    if (fetched.recipe.sizeBytes !== sizeBytes) {
      const message = `the recipe is of ${fetched.recipe.sizeBytes} bytes, not ${sizeBytes}`;
      throw sourceLied(id, message);
    }
    const digest = createHash("sha256").update(encodeRecipe(fetched.recipe)).digest();
    const given = { ...fetched, source, digest };
    this.#given.set(source, given);
    return given;
  }

  /** True when the source is known to have another recipe. */
  disagrees(source: GatherSource, { digest }: Given): boolean {
    return this.#given.get(source)?.digest.equals(digest) === false;
  }

  /** Forgets one that does not lead on; true when a source that can be asked has another. */
  hasOtherThan(given: Given): boolean {
    this.#given.delete(given.source);
    const { sources, question } = this.#job;
    return sources.usable(question).some((source) => this.disagrees(source, given));
  }

  /** The image came out by this recipe: who gave another one lied. */
  proven({ digest }: Given): void {
    this.#ban((other) => !other.digest.equals(digest));
  }

  /** Another image came out by this recipe: all who gave it lied. */
  refuted({ digest }: Given, cause: unknown): void {
    this.#ban((other) => other.digest.equals(digest), cause);
  }

  #ban(lied: (given: Given) => boolean, cause?: unknown): void {
    const { sources, reference, question } = this.#job;
    for (const [source, given] of this.#given) {
      if (!lied(given)) continue;
      this.#given.delete(source);
      const message = `the recipe of ${source.holder.cloud} leads to another image`;
      sources.ban(source, question, sourceLied(reference.id, message, cause));
    }
  }
}
