/** Putting one missing image together. */
import { createHash } from "node:crypto";
import {
  hasCode,
  referenceOf,
  TesseraError,
  type ComponentReference,
  type Digest,
  type World,
} from "#core";
import { nearestBases } from "#delta";
import { encodeRecipe } from "#image";
import type { Assembly, ComponentStore, HeldRecipe } from "#repository";
import type { FetchedRecipe } from "../contract.ts";
import { BASES_MAX } from "../protocol.ts";
import { headOf, measureWritten, sourceLied, type Building } from "./arrivals.ts";
import { fetchBlob } from "./blobs.ts";
import { Checkpoints } from "./checkpoints.ts";
import type { GatherOptions, GatherSource } from "./contract.ts";
import { BaseLost, copyContents } from "./copy.ts";
import { Crew } from "./crew.ts";
import type { Gate } from "./gate.ts";
import { planCopies, type CopyPlan } from "./held.ts";
import { ImageWriter } from "./image-writer.ts";
import type { Measured } from "./measure.ts";
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
  readonly gate: Gate;
}

/** A recipe that a source gave. */
interface Given extends FetchedRecipe {
  readonly source: GatherSource;
  /** sha256 of the encoded recipe. */
  readonly digest: Buffer;
}

/** `again`: the assembly is gone, and what misled us is known; `no-recipe`: none leads to it. */
type Outcome = "whole" | "again" | "no-recipe";

/** What is known of an image that is being fetched; it outlives attempts. */
export class ImageFetch {
  readonly #job: ImageJob;
  #bases: readonly ComponentReference[] = [];
  /** Recipes that were asked for, by source. */
  readonly #given = new Map<GatherSource, Given>();
  /** Held components that turned out to be unsound. */
  readonly #avoid = new Set<Digest>();
  #held: HeldRecipe | undefined;

  constructor(job: ImageJob) {
    this.#job = job;
  }

  /** Returns when the image is held, with what it is made of where that became known. */
  async run(): Promise<HeldRecipe | undefined> {
    await this.#obtain();
    return this.#held;
  }

  async #obtain(): Promise<void> {
    const { tally } = this.#job;
    this.#bases = await this.#pinBases();
    for (;;) {
      const assembly = await this.#assemble();
      if (assembly === undefined) return;
      const outcome = await this.#attempt(assembly);
      if (outcome === "whole") return;
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
      const given = await this.#recipe();
      if (given === undefined) {
        await assembly.abort();
        return "no-recipe";
      }
      return await this.#job.gate.pass(() => this.#build(assembly, given));
    } finally {
      // After commit and abort this does nothing.
      await assembly.release();
    }
  }

  /** A recipe from the first source that gives one; undefined when none is left. */
  async #recipe(): Promise<Given | undefined> {
    const { sources, question } = this.#job;
    const known = sources.usable(question).flatMap((source) => this.#given.get(source) ?? []);
    if (known[0] !== undefined) return known[0];
    for (;;) {
      const [source] = sources.usable(question);
      if (source === undefined) return undefined;
      try {
        return await this.#ask(source);
      } catch (error) {
        question.signal.throwIfAborted();
        if (!isSourceFault(error)) throw error;
        sources.fail(source, question, error);
      }
    }
  }

  async #ask(source: GatherSource): Promise<Given> {
    const known = this.#given.get(source);
    if (known !== undefined) return known;
    const { sources, reference, question, tally } = this.#job;
    const { id, sizeBytes } = reference;
    const bases = this.#bases.map((base) => base.id);
    const fetched = await sources.ask(source, question, async ({ receiver, signal }) => {
      try {
        return await receiver.fetchRecipe(id, bases, signal);
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

  /** How to go on when the contents cannot be had by this recipe; undefined: later, if at all. */
  #otherwise(given: Given): Outcome | undefined {
    const { sources, question } = this.#job;
    this.#given.delete(given.source);
    const others = sources.usable(question).map((source) => this.#given.get(source));
    if (others.some((other) => other?.digest.equals(given.digest) === false)) return "again";
    return sources.wasMisled(question) ? "no-recipe" : undefined;
  }

  /** What an earlier attempt made durable; undefined when it was by another recipe. */
  async #resume(assembly: Assembly, { recipe, digest }: Given): Promise<Building | undefined> {
    const { state } = assembly;
    const count = recipe.contents.length;
    const whole = state === undefined ? new Uint8Array(count) : decodeState(state, digest, count);
    if (whole === undefined) return undefined;
    const writer = new ImageWriter(assembly, state === undefined);
    const building: Building = {
      component: this.#job.reference.id,
      recipe,
      writer,
      whole,
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
    const { options, question } = this.#job;
    const pin = (ids: readonly Digest[]) => options.store.pin(options.owner, ids);
    const { store } = options;
    const open = openContents(building);
    const wanted = { store, recipe: given.recipe, open, bases: this.#bases };
    for await (const plan of planCopies({ ...wanted, avoid: this.#avoid, pin })) plans.push(plan);
    const copied = new Set(plans.flatMap(({ pairs }) => pairs.map(({ to }) => to)));
    const halt = new AbortController();
    const signal = AbortSignal.any([question.signal, halt.signal]);
    const copying = this.#copy(store, building, plans, signal);
    copying.catch(() => undefined);
    try {
      const missing = open.filter((content) => !copied.has(content));
      await this.#fetch(building, given, checkpoints, missing);
      await copying;
    } catch (error) {
      halt.abort(error);
      await copying.catch(() => undefined);
      throw error;
    }
    await this.#fetch(building, given, checkpoints, openContents(building));
  }

  /** A component that cannot be read is left out: its contents are fetched then. */
  async #copy(
    store: ComponentStore,
    building: Building,
    plans: readonly CopyPlan[],
    signal: AbortSignal,
  ): Promise<void> {
    const { world, tally } = this.#job;
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
    const sameRecipe = (other: Given | undefined): boolean =>
      other === undefined || other.digest.equals(given.digest);
    const crew = new Crew(
      {
        world,
        building,
        sources,
        question,
        tally,
        checkpoints,
        agree: async (source) => {
          const other = await this.#ask(source);
          return sameRecipe(other) ? other.bases : undefined;
        },
        disagrees: (source) => !sameRecipe(this.#given.get(source)),
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
    this.#blameOthers((other) => !other.digest.equals(given.digest));
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
    this.#blameOthers((other) => other.digest.equals(given.digest), cause);
  }

  #blameOthers(lied: (given: Given) => boolean, cause?: unknown): void {
    const { sources, reference, question } = this.#job;
    for (const [source, given] of this.#given) {
      if (!lied(given)) continue;
      this.#given.delete(source);
      const message = `the recipe of ${source.holder.cloud} leads to another image`;
      sources.ban(source, question, sourceLied(reference.id, message, cause));
    }
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

function openContents({ whole }: Building): number[] {
  const open: number[] = [];
  for (const [content, element] of whole.entries()) if (element === 0) open.push(content);
  return open;
}

function requireMeasured(facts: Measured | undefined, content: number): Measured {
  if (facts !== undefined) return facts;
  throw new TesseraError("bug", "transfer.content-missing", `content ${content} never came`);
}
