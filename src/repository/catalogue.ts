import {
  canonicalJson,
  COMPONENT_KINDS,
  compareDebianVersions,
  hasCode,
  type BlobReference,
  type Component,
  type Digest,
  type Fragment,
  type Json,
  type TesseraError,
  type World,
} from "#core";
import type { Blobs } from "./blobs.ts";
import {
  decodeDescription,
  decodeFragments,
  decodeIndex,
  decodeNames,
  type ComponentBlobs,
  type Index,
  type IndexEntry,
  type Names,
} from "./decode.ts";
import { manifestInvalid } from "./failures.ts";
import { readManifest } from "./manifest.ts";
import {
  CONFIG_BYTES_MAX,
  CONFIG_TYPE,
  FRAGMENTS_BYTES_MAX,
  ID_ANNOTATION,
  INDEX_BYTES_MAX,
  MANIFEST_BYTES_MAX,
  MANIFEST_TYPE,
  type Layout,
} from "./layout.ts";
import type { Locks } from "./locks.ts";

/** Longest wait for another process's short update of index or pins. */
const LOCK_WAIT_MS = 60_000;
const NESTING_MAX = 4;

/** `index.json` and the components behind it. */
export class Catalogue {
  readonly #world: World;
  readonly #layout: Layout;
  readonly #blobs: Blobs;
  readonly #locks: Locks;
  /** By manifest digest, which determines the value; undefined for artifacts that are not ours. */
  readonly #loaded = new Map<Digest, Component | undefined>();

  readonly #names = new Map<Digest, Names>();

  constructor(world: World, layout: Layout, blobs: Blobs, locks: Locks) {
    this.#world = world;
    this.#layout = layout;
    this.#blobs = blobs;
    this.#locks = locks;
  }

  async index(): Promise<Index> {
    return decodeIndex(await this.#world.files.readFile(this.#layout.index, INDEX_BYTES_MAX));
  }

  /** Runs `work` while no other process or call changes index or pins. */
  async exclusively<T>(work: () => Promise<T>): Promise<T> {
    const lock = await this.#locks.acquire("catalogue", { timeout_ms: LOCK_WAIT_MS });
    try {
      return await work();
    } finally {
      await lock.release();
    }
  }

  /** Replaces the entries; only within `exclusively`. Members that are not ours are kept. */
  async replace(index: Index, manifests: IndexEntry[]): Promise<void> {
    const text = canonicalJson({ ...index, manifests } as unknown as Json);
    await this.#world.files.writeFileAtomic(this.#layout.index, text);
  }

  /** All readable components; one that is not readable is logged, and found by verify. */
  async components(): Promise<Component[]> {
    const { manifests } = await this.index();
    const components = new Map<Digest, Component>();
    for (const entry of manifests) {
      const component = await this.#tolerantly(entry);
      if (component !== undefined) components.set(component.id, component);
    }
    this.#forgetAllBut(new Set(manifests.map(({ digest }) => digest)));
    return [...components.values()].toSorted(inReadingOrder);
  }

  /** The component of an index entry; undefined where the entry is another kind of artifact. */
  async component(entry: IndexEntry): Promise<Component | undefined> {
    if (entry.mediaType !== MANIFEST_TYPE) return undefined;
    if (this.#loaded.has(entry.digest)) return this.#loaded.get(entry.digest);
    const content = await this.#blobs.read(entry.digest, MANIFEST_BYTES_MAX);
    const ours = decodeNames(content).configType === CONFIG_TYPE;
    const component = ours
      ? await this.load({ digest: entry.digest, sizeBytes: entry.size })
      : undefined;
    this.#loaded.set(entry.digest, component);
    return component;
  }

  /** The blobs that a held manifest names, within their bounds. */
  async blobsOf(manifest: BlobReference): Promise<ComponentBlobs> {
    return readManifest(manifest, await this.#blobs.read(manifest.digest, MANIFEST_BYTES_MAX));
  }

  /** Reads and checks everything of a component but its image. */
  async load(manifest: BlobReference): Promise<Component> {
    const { config, image, fragments } = await this.blobsOf(manifest);
    const content = await this.#blobs.read(config.digest, CONFIG_BYTES_MAX);
    const description = this.#valid(manifest, () => decodeDescription(content));
    return { id: image.digest, sizeBytes: image.sizeBytes, fragments, manifest, description };
  }

  /** @throws `repository.manifest-invalid` when the fragments of the component are not valid */
  async fragments({ manifest, fragments }: Component): Promise<Fragment[]> {
    const content = await this.#blobs.read(fragments.digest, FRAGMENTS_BYTES_MAX);
    return this.#valid(manifest, () => decodeFragments(content));
  }

  /**
   * Every blob that the index reaches, of foreign artifacts too.
   *
   * @throws `repository.blob-missing`, `repository.blob-corrupt` when a manifest is not readable,
   *   because then nobody knows what it names
   */
  async reachable(): Promise<Set<Digest>> {
    const reached = new Set<Digest>();
    let level = (await this.index()).manifests.map(({ digest }) => digest);
    for (let depth = 0; level.length > 0 && depth < NESTING_MAX; depth += 1) {
      const next: Digest[] = [];
      for (const digest of level) {
        reached.add(digest);
        const { leaves, nested } = await this.#namesOf(digest);
        for (const leaf of leaves) reached.add(leaf);
        next.push(...nested.filter((manifest) => !reached.has(manifest)));
      }
      level = next;
    }
    return reached;
  }

  async #namesOf(digest: Digest): Promise<Names> {
    const known = this.#names.get(digest);
    if (known !== undefined) return known;
    const names = decodeNames(await this.#blobs.read(digest, MANIFEST_BYTES_MAX));
    this.#names.set(digest, names);
    return names;
  }

  async #tolerantly(entry: IndexEntry): Promise<Component | undefined> {
    try {
      return await this.component(entry);
    } catch (error) {
      if (!isDamage(error)) throw error;
      const component = entry.annotations?.[ID_ANNOTATION];
      const fields = { manifest: entry.digest, component, code: error.code };
      this.#world.log.log("warn", "a component cannot be read", fields);
      return undefined;
    }
  }

  #valid<T>(manifest: BlobReference, work: () => T): T {
    try {
      return work();
    } catch (error) {
      if (!hasCode(error, "repository.json-invalid")) throw error;
      throw manifestInvalid(manifest.digest, error.message, error);
    }
  }

  #forgetAllBut(digests: ReadonlySet<Digest>): void {
    for (const digest of this.#loaded.keys()) {
      if (!digests.has(digest)) this.#loaded.delete(digest);
    }
    for (const digest of this.#names.keys()) {
      if (!digests.has(digest)) this.#names.delete(digest);
    }
  }
}

/** By kind, name, version, and id at last. */
function inReadingOrder(a: Component, b: Component): number {
  const kind = COMPONENT_KINDS.indexOf(a.description.kind);
  return (
    kind - COMPONENT_KINDS.indexOf(b.description.kind) ||
    compareText(a.description.name, b.description.name) ||
    compareDebianVersions(a.description.version, b.description.version) ||
    compareText(a.id, b.id)
  );
}

function compareText(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

/** True for what stored bytes can do wrong, as against a failing system. */
export function isDamage(error: unknown): error is TesseraError {
  return (
    hasCode(error, "repository.blob-missing") ||
    hasCode(error, "repository.blob-corrupt") ||
    hasCode(error, "repository.manifest-invalid") ||
    hasCode(error, "repository.json-invalid")
  );
}
