/** Putting one missing image together. */
import {
  hasCode,
  referenceOf,
  TesseraError,
  type ComponentReference,
  type Digest,
  type World,
} from "#core";
import { nearestBases } from "#delta";
import type { Assembly, HeldRecipe } from "#repository";
import { BASES_MAX } from "../protocol.ts";
import { headOf, measureWritten, partsOf, type Building } from "./arrivals.ts";
import { fetchBlob } from "./blobs.ts";
import { Checkpoints } from "./checkpoints.ts";
import type { Claims } from "./claims.ts";
import type { GatherOptions } from "./contract.ts";
import { BaseLost, copyContents } from "./copy.ts";
import { Crew } from "./crew.ts";
import type { Slots } from "../slots.ts";
import { planCopies, type CopyPlan } from "./held.ts";
import { ImageWriter } from "./image-writer.ts";
import type { Measured } from "./measure.ts";
import { Recipes, type Given } from "./recipes.ts";
import { isSourceFault, type Question, type Sources } from "./sources.ts";
import { decodeState } from "./state.ts";
import type { Tally } from "./tally.ts";

export interface ImageJob {
  readonly world: World;
  readonly options: GatherOptions;
  readonly sources: Sources;
  readonly reference: ComponentReference;
  readonly question: Question;
  readonly tally: Tally;
  /** Images that are put together at a time. */
  readonly gate: Slots;
  readonly claims: Claims;
}

/** `again`: the assembly is gone, and what misled us is known; `no-recipe`: none leads to it. */
type Outcome = "whole" | "again" | "no-recipe";

/** What is known of an image that is being fetched; it outlives attempts. */
export class ImageFetch {
  readonly #job: ImageJob;
  #bases: readonly ComponentReference[] = [];
  #recipes: Recipes;
  /** Held components that turned out to be unsound. */
  readonly #avoid = new Set<Digest>();
  #held: HeldRecipe | undefined;
  /** Settles when what this attempt has claimed is held, or will not come by it. */
  #claim = Promise.withResolvers<void>();

  constructor(job: ImageJob) {
    this.#job = job;
    this.#recipes = new Recipes(job, []);
  }

  /** Returns when the image is held, with what it is made of where that became known. */
  async run(): Promise<HeldRecipe | undefined> {
    await this.#obtain();
    return this.#held;
  }

  /** The component is held, or this attempt has come to nothing: nobody need wait for it. */
  endClaims(): void {
    this.#job.claims.drop(this.#claim.promise);
    this.#claim.resolve();
    this.#claim = Promise.withResolvers();
  }

  async #obtain(): Promise<void> {
    const { tally } = this.#job;
    this.#bases = await this.#pinBases();
    this.#recipes = new Recipes(
      this.#job,
      this.#bases.map(({ id }) => id),
    );
    for (;;) {
      const assembly = await this.#assemble();
      if (assembly === undefined) return;
      const outcome = await this.#attempt(assembly);
      if (outcome === "whole") return;
      // The next attempt waits for its turn, which those may have who wait for this one.
      this.endClaims();
      tally.restart();
      if (outcome === "no-recipe") return await this.#fetchAsBlob();
    }
  }

  /** The nearest held components; pinned first, so that those that are still found stay. */
  async #pinBases(): Promise<ComponentReference[]> {
    const { options, reference } = this.#job;
    const { store, owner } = options;
    const list = (await store.list()).map(referenceOf);
    const bases = nearestBases(reference, list, BASES_MAX);
    if (bases.length === 0) return [];
    await store.pin(
      owner,
      bases.map(({ id }) => id),
    );
    const held = new Set((await store.list()).map(({ id }) => id));
    return bases.filter(({ id }) => held.has(id));
  }

  async #assemble(): Promise<Assembly | undefined> {
    const { options, reference, question } = this.#job;
    const blob = { digest: reference.id, sizeBytes: reference.sizeBytes };
    return await options.store.assemble(blob, question.signal);
  }

  async #attempt(assembly: Assembly): Promise<Outcome> {
    try {
      const given = await this.#recipes.first();
      if (given === undefined) return await this.#withoutRecipe(assembly);
      return await this.#job.gate.run(() => this.#build(assembly, given));
    } finally {
      // After commit and abort this does nothing.
      await assembly.release();
    }
  }

  async #build(assembly: Assembly, given: Given): Promise<Outcome> {
    const building = await this.#resume(assembly, given);
    if (building === undefined) {
      await assembly.abort();
      return "again";
    }
    const checkpoints = new Checkpoints(assembly, building, given.digest);
    const plans: CopyPlan[] = [];
    const { question } = this.#job;
    try {
      await this.#fill(building, given, checkpoints, plans);
    } catch (error) {
      // What came is kept for the next attempt, where the disk allows it.
      await checkpoints.end().catch(() => undefined);
      question.signal.throwIfAborted();
      if (!isSourceFault(error)) throw error;
      const outcome = this.#otherwise(given);
      if (outcome === undefined) throw error;
      await assembly.abort();
      return outcome;
    } finally {
      await checkpoints.settled();
    }
    return await this.#commit(assembly, building, given, plans);
  }

  /**
   * The blob is asked for where nobody has a recipe. What came before is not given up for it while
   * a source may yet come back.
   *
   * @throws why no recipe came
   */
  async #withoutRecipe(assembly: Assembly): Promise<Outcome> {
    const { sources, question } = this.#job;
    const nothingToLose = assembly.state === undefined && sources.wasRefused(question);
    if (!nothingToLose && !sources.wasMisled(question)) throw sources.exhausted(question);
    await assembly.abort();
    return "no-recipe";
  }

  /** How to go on when the contents cannot be had by this recipe; undefined: later, if at all. */
  #otherwise(given: Given): Outcome | undefined {
    const { sources, question } = this.#job;
    if (this.#recipes.hasOtherThan(given)) return "again";
    return sources.wasMisled(question) ? "no-recipe" : undefined;
  }

  /** What an earlier attempt made durable; undefined when it was by another recipe. */
  async #resume(assembly: Assembly, { recipe, digest }: Given): Promise<Building | undefined> {
    const { state } = assembly;
    const count = recipe.contents.length;
    const fresh = { whole: new Uint8Array(count), parts: [] };
    const known = state === undefined ? fresh : decodeState(state, digest, recipe.contents);
    if (known === undefined) return undefined;
    const { whole } = known;
    const writer = new ImageWriter(assembly, state === undefined);
    const building: Building = {
      component: this.#job.reference.id,
      recipe,
      writer,
      whole,
      parts: partsOf(known.parts),
      measured: Array.from({ length: count }),
    };
    for (const [content, { head }] of recipe.contents.entries()) {
      if (whole[content] === 0) continue;
      this.#job.question.signal.throwIfAborted();
      const read = await measureWritten(building, content);
      if (headOf(read.digest) === head) building.measured[content] = read;
      else whole[content] = 0;
    }
    return building;
  }

  /** Copies what is held and fetches the rest at the same time. */
  async #fill(
    building: Building,
    given: Given,
    checkpoints: Checkpoints,
    plans: CopyPlan[],
  ): Promise<void> {
    const { claims, question } = this.#job;
    const copies = await this.#plan(building);
    plans.push(...copies);
    const copied = new Set(copies.flatMap(({ pairs }) => pairs.map(({ to }) => to)));
    const missing = openContents(building).filter((content) => !copied.has(content));
    const { now, others } = claims.take(given.recipe, missing, this.#claim.promise);
    await this.#together(building, copies, () => this.#fetch(building, given, checkpoints, now));
    if (others.size > 0) {
      await unlessAborted(Promise.allSettled(others), question.signal);
      const more = await this.#plan(building);
      plans.push(...more);
      await this.#copy(building, more, question.signal);
    }
    await this.#fetch(building, given, checkpoints, openContents(building));
  }

  /** What to copy of the contents that are not whole yet. */
  async #plan(building: Building): Promise<CopyPlan[]> {
    const { store, owner } = this.#job.options;
    const { recipe } = building;
    const plans: CopyPlan[] = [];
    const wanted = { store, recipe, open: openContents(building), bases: this.#bases };
    const pin = (ids: readonly Digest[]) => store.pin(owner, ids);
    for await (const plan of planCopies({ ...wanted, avoid: this.#avoid, pin })) plans.push(plan);
    return plans;
  }

  /** Ends only when both have ended; when one fails the other is stopped. */
  async #together(
    building: Building,
    copies: readonly CopyPlan[],
    fetching: () => Promise<void>,
  ): Promise<void> {
    const halt = new AbortController();
    const signal = AbortSignal.any([this.#job.question.signal, halt.signal]);
    const copying = this.#copy(building, copies, signal);
    copying.catch(() => undefined);
    try {
      await fetching();
    } catch (error) {
      halt.abort(error);
      await copying.catch(() => undefined);
      throw error;
    }
    await copying;
  }

  /** A component that cannot be read is left out: its contents are fetched then. */
  async #copy(building: Building, plans: readonly CopyPlan[], signal: AbortSignal): Promise<void> {
    const { world, tally, options } = this.#job;
    const { store } = options;
    for (const { held, pairs } of plans) {
      const onCopied = (bytes: number) => tally.copied(held.component, bytes);
      try {
        await copyContents(store, held, building, pairs, { signal, onCopied });
      } catch (error) {
        if (!(error instanceof BaseLost)) throw error;
        this.#avoid.add(held.component);
        const fields = { component: held.component, cause: String(error.cause) };
        world.log.log("warn", "a held component cannot be read", fields);
      }
    }
  }

  async #fetch(
    building: Building,
    given: Given,
    checkpoints: Checkpoints,
    contents: readonly number[],
  ): Promise<void> {
    if (contents.length === 0) return;
    const { world, sources, question, tally } = this.#job;
    const recipes = this.#recipes;
    const crew = new Crew(
      {
        world,
        building,
        sources,
        question,
        tally,
        checkpoints,
        agree: async (source) => {
          const other = await recipes.of(source);
          return recipes.disagrees(source, given) ? undefined : other.bases;
        },
        disagrees: (source) => recipes.disagrees(source, given),
      },
      contents,
    );
    await crew.fetch();
  }

  async #commit(
    assembly: Assembly,
    building: Building,
    given: Given,
    plans: readonly CopyPlan[],
  ): Promise<"whole" | "again"> {
    const { writer, recipe } = building;
    const facts = building.measured.map((known, content) => requireMeasured(known, content));
    const digests = facts.map(({ digest }) => digest);
    for (const { position, bytes } of recipe.metadata(digests)) await writer.put(bytes, position);
    await writer.flush();
    try {
      await assembly.commit();
    } catch (error) {
      if (!hasCode(error, "repository.digest-mismatch")) throw error;
      await this.#blame(given, plans, error);
      return "again";
    }
    const sketches = facts.map(({ sketch }) => sketch);
    this.#held = { component: this.#job.reference.id, recipe, digests, sketches };
    this.#recipes.proven(given);
    this.#job.tally.whole();
    return "whole";
  }

  /** Another image came out: an unsound held component did it, or else the recipe. */
  async #blame(given: Given, plans: readonly CopyPlan[], cause: unknown): Promise<void> {
    const { options, world } = this.#job;
    const unsound: Digest[] = [];
    for (const { held } of plans) {
      const { findings } = await options.store.verify(held.component);
      if (findings.length > 0) unsound.push(held.component);
    }
    for (const component of unsound) {
      this.#avoid.add(component);
      world.log.log("error", "a held component is not sound", { component });
    }
    if (unsound.length > 0) return;
    this.#recipes.refuted(given, cause);
  }

  /** The last resort: the digest of the whole decides. */
  async #fetchAsBlob(): Promise<void> {
    const { reference, question, tally } = this.#job;
    const blob = { digest: reference.id, sizeBytes: reference.sizeBytes };
    tally.asBlob = true;
    await fetchBlob({ ...this.#job, signal: question.signal }, blob);
    tally.whole();
  }
}

/** Waits, but no longer than the signal lets. @throws its reason */
async function unlessAborted(work: Promise<unknown>, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const abort = (): void => aborted.reject(signal.reason as Error);
  signal.addEventListener("abort", abort, { once: true });
  try {
    await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

function openContents({ whole }: Building): number[] {
  const open: number[] = [];
  for (const [content, element] of whole.entries()) if (element === 0) open.push(content);
  return open;
}

function requireMeasured(facts: Measured | undefined, content: number): Measured {
  if (facts !== undefined) return facts;
  throw new TesseraError("bug", "transfer.content-missing", `content ${content} never came`);
}
