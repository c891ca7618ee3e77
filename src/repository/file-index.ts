import { hexOf, TesseraError, type Component, type Digest, type World } from "#core";
import { BoundedMap } from "./bounded.ts";
import type { Catalogue } from "./catalogue.ts";
import type { HeldContent, HeldRecipe } from "./contract.ts";
import {
  ContentFacts,
  decodeDescribed,
  describeImage,
  encodeDescribed,
  isConsistent,
} from "./described.ts";
import type { Blobs } from "./blobs.ts";
import { FileDatabase, primaryCode } from "./file-database.ts";
import type { Layout } from "./layout.ts";
import {
  candidates,
  decodePrefixes,
  encodePrefixes,
  prefixesOf,
  prefixesWanted,
  without,
  type Prefixes,
  type Wanted,
} from "./locate.ts";
import type { Locks } from "./locks.ts";
import { sourceOfBlob } from "./reader.ts";

/** Contents of the decoded recipes that are kept; a content takes about 500 bytes. */
const RECIPE_CONTENTS_MAX = 60_000;
const PREFIX_BYTES_MAX = 48 * 2 ** 20;
const FACT_BYTES_MAX = 16 * 2 ** 20;

export interface FileIndexParts {
  readonly world: World;
  readonly layout: Layout;
  readonly blobs: Blobs;
  readonly locks: Locks;
  readonly catalogue: Catalogue;
}

/**
 * What the held components are made of. Each is read once, by whichever process needs it first;
 * the answers come from the database. What it says is of an image's digest and therefore holds
 * for ever; whether the image is still held is asked of the catalogue each time.
 */
export class FileIndex {
  readonly #parts: FileIndexParts;
  readonly #database: FileDatabase;
  readonly #recipes = new BoundedMap<Digest, HeldRecipe>(RECIPE_CONTENTS_MAX);
  readonly #prefixes = new BoundedMap<Digest, Prefixes>(PREFIX_BYTES_MAX);
  readonly #facts = new BoundedMap<Digest, ContentFacts>(FACT_BYTES_MAX);
  /** Images that are being read by this process. */
  readonly #reading = new Map<Digest, Promise<HeldRecipe>>();
  /** Images that could not be read: they are not read again for `locate`. */
  readonly #unreadable = new Set<Digest>();

  constructor(parts: FileIndexParts) {
    this.#parts = parts;
    this.#database = new FileDatabase(parts.world, parts.layout.fileIndex, parts.locks);
  }

  /** @throws `repository.blob-missing`, `repository.blob-corrupt` */
  async recipe(component: Component): Promise<HeldRecipe> {
    const { id } = component;
    const known = this.#recipes.get(id) ?? (await this.#stored(component));
    if (known !== undefined) return known;
    const reading = this.#reading.get(id) ?? this.#read(component);
    this.#reading.set(id, reading);
    try {
      return await reading;
    } finally {
      if (this.#reading.get(id) === reading) this.#reading.delete(id);
    }
  }

  /** Keeps what the caller knows of a component; what does not fit together is not kept. */
  async note(component: Component, held: HeldRecipe): Promise<void> {
    if (!isConsistent(held, component.id, component.sizeBytes)) {
      const message = `the recipe given for component ${component.id} is not its own`;
      throw new TesseraError("bug", "repository.recipe-invalid", message, {
        subject: component.id,
      });
    }
    await this.#keep(held);
  }

  /** Reads the image unless it is indexed; what fails is found when it is needed. */
  async prepare(component: Component): Promise<void> {
    if (this.#unreadable.has(component.id)) return;
    try {
      await this.recipe(component);
    } catch (error) {
      if (!(error instanceof TesseraError)) throw error;
      this.#unreadable.add(component.id);
      this.#warn("a component cannot be indexed", error, component.id);
    }
  }

  async remove(id: Digest): Promise<void> {
    for (const cache of [this.#recipes, this.#prefixes, this.#facts]) cache.delete(id);
    await this.#tolerantly(() => this.#database.delete([id]), undefined);
  }

  async locate(wanted: readonly Wanted[]): Promise<(HeldContent | undefined)[]> {
    const found = Array.from<HeldContent | undefined>({ length: wanted.length });
    let missing = prefixesWanted(wanted);
    for (const id of await this.#current()) {
      if (missing.contents.length === 0) break;
      const pairs = candidates(missing, await this.#prefixesOf(id));
      if (pairs.length === 0) continue;
      const facts = await this.#factsOf(id);
      let fresh = false;
      for (const { wanted: number, content } of pairs) {
        const same = content < facts.count && match(id, facts, content, wanted[number]);
        if (!same) continue;
        found[number] ??= same;
        fresh = true;
      }
      if (fresh) missing = without(missing, (number) => found[number] !== undefined);
    }
    return found;
  }

  /**
   * The indexed components that are held, after those that were not indexed have been. The rows
   * are listed before the components: a component is in the catalogue before it has a row. Where
   * the database cannot be used, no image is read for it.
   */
  async #current(): Promise<Digest[]> {
    const ids = await this.#tolerantly(() => this.#database.ids(), undefined);
    const indexed = new Set(ids);
    const components = await this.#parts.catalogue.components();
    const held = new Set(components.map(({ id }) => id));
    const stale = [...indexed].filter((id) => !held.has(id));
    if (stale.length > 0) await this.#tolerantly(() => this.#database.delete(stale), undefined);
    for (const component of ids === undefined ? [] : components) {
      if (!indexed.has(component.id)) await this.prepare(component);
    }
    return [...held];
  }

  /** Under a lock, so that two processes do not read the same image. */
  async #read(component: Component): Promise<HeldRecipe> {
    const { id } = component;
    const lock = await this.#parts.locks.acquire(`${hexOf(id)}.files`);
    try {
      const stored = await this.#stored(component);
      if (stored !== undefined) return stored;
      const image = await sourceOfBlob(this.#parts.blobs, id);
      try {
        const held = await describeImage(id, image);
        await this.#keep(held);
        return held;
      } finally {
        await image.close();
      }
    } finally {
      await lock.release();
    }
  }

  async #keep(held: HeldRecipe): Promise<void> {
    const { component: id } = held;
    const bytes = encodeDescribed(held);
    this.#recipes.set(id, held, held.recipe.contents.length);
    this.#unreadable.delete(id);
    const facts = new ContentFacts(bytes.facts);
    this.#facts.set(id, facts, facts.bytes);
    const prefixes = prefixesOf(facts);
    this.#prefixes.set(id, prefixes, 8 * facts.count);
    await this.#tolerantly(
      () => this.#database.put(id, bytes, encodePrefixes(prefixes)),
      undefined,
    );
  }

  /** A row that cannot be decoded is as good as none. */
  async #stored({ id, sizeBytes }: Component): Promise<HeldRecipe | undefined> {
    const bytes = await this.#tolerantly(() => this.#database.get(id), undefined);
    if (bytes === undefined) return undefined;
    try {
      const held = decodeDescribed(id, bytes);
      if (!isConsistent(held, id, sizeBytes)) return undefined;
      this.#recipes.set(id, held, held.recipe.contents.length);
      return held;
    } catch (error) {
      if (!(error instanceof TesseraError)) throw error;
      this.#warn("an entry of the file index is damaged", error, id);
      return undefined;
    }
  }

  /** None for what is not indexed, as for facts. */
  async #prefixesOf(id: Digest): Promise<Prefixes> {
    const known = this.#prefixes.get(id);
    if (known !== undefined) return known;
    const bytes = await this.#tolerantly(() => this.#database.prefixes(id), undefined);
    const prefixes = decodePrefixes(bytes ?? new Uint8Array());
    if (bytes !== undefined) this.#prefixes.set(id, prefixes, bytes.length);
    return prefixes;
  }

  async #factsOf(id: Digest): Promise<ContentFacts> {
    const known = this.#facts.get(id);
    if (known !== undefined) return known;
    const bytes = await this.#tolerantly(() => this.#database.facts(id), undefined);
    const facts = new ContentFacts(bytes ?? new Uint8Array());
    if (bytes !== undefined) this.#facts.set(id, facts, facts.bytes);
    return facts;
  }

  /** What fails for the database costs time, never a result. */
  async #tolerantly<T>(work: () => Promise<T>, otherwise: T): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (primaryCode(error) === undefined && !(error instanceof TesseraError)) throw error;
      this.#warn("the file index cannot be used", error);
      return otherwise;
    }
  }

  #warn(message: string, error: unknown, component?: Digest): void {
    const cause = error instanceof Error ? error.message : String(error);
    this.#parts.world.log.log("warn", message, { component, cause });
  }
}

function match(
  component: Digest,
  facts: ContentFacts,
  content: number,
  wanted: Wanted | undefined,
): HeldContent | undefined {
  const same =
    facts.sizeBytes(content) === wanted?.sizeBytes && facts.head(content) === wanted.head;
  return same ? { component, content, digest: facts.digest(content) } : undefined;
}
