import { createHash } from "node:crypto";
import {
  hasCode,
  hexOf,
  isDigest,
  TesseraError,
  type BlobReference,
  type Component,
  type ComponentDescription,
  type ComponentSignature,
  type Digest,
  type Fragment,
} from "#core";
import { bufferSource, type ByteSink, type ContentSource } from "#image";
import { finish } from "./blobs.ts";
import type {
  Assembly,
  BlobReader,
  CollectReport,
  ComponentStore,
  ContentsReader,
  HeldContent,
  HeldRecipe,
  Ingest,
  PackCache,
  VerifyReport,
} from "./contract.ts";
import { checkDescription, checkFragments, type IndexEntry } from "./decode.ts";
import {
  blobCorrupt,
  blobMissing,
  componentPinned,
  componentUnknown,
  manifestInvalid,
  sizeMismatch,
} from "./failures.ts";
import { openAssembly } from "./assembly.ts";
import { openPart } from "./ingest.ts";
import { ID_ANNOTATION, MANIFEST_TYPE, REFERENCE_ANNOTATION } from "./layout.ts";
import type { Lock } from "./locks.ts";
import { packageComponent, referenceName } from "./packaging.ts";
import type { Parts } from "./parts.ts";
import { ImageContents, sourceOfBlob } from "./reader.ts";
import { selectComponent } from "./resolve.ts";
import { withoutSignatures } from "./signature-index.ts";
import { entriesOf, Verification } from "./verify.ts";
import { writeBlob } from "./write-blob.ts";

const COPY_BYTES = 2 ** 20;
/** Longest wait for a blob that another process has open, when the blob is there already. */
const CLAIM_WAIT_MS = 60_000;

/** A component store on an OCI image layout; `doc/repository.md` specifies the directory. */
export class LayoutStore implements ComponentStore {
  readonly packs: PackCache;
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.packs = parts.packs;
  }

  list(): Promise<Component[]> {
    return this.#parts.catalogue.components();
  }

  async find(id: Digest): Promise<Component | undefined> {
    return (await this.list()).find((component) => component.id === id);
  }

  async resolve(text: string): Promise<Component> {
    return selectComponent(await this.list(), text);
  }

  async add(source: {
    readonly description: ComponentDescription;
    readonly fragments: readonly Fragment[];
    readonly image: ContentSource;
  }): Promise<Component> {
    const described = requireDescribed(source);
    const image = { digest: await digestOfSource(source.image), sizeBytes: source.image.sizeBytes };
    await this.#put(image, source.image);
    return await this.#enter(described, image, "replace");
  }

  async write(source: {
    readonly description: ComponentDescription;
    readonly fragments: readonly Fragment[];
    readonly image: (sink: ByteSink) => Promise<BlobReference>;
  }): Promise<Component> {
    const described = requireDescribed(source);
    const image = await writeBlob(this.#parts, source.image);
    return await this.#enter(described, image, "keep");
  }

  /** Makes a component of an image that is held. */
  async #enter(
    { description, fragments }: Described,
    image: BlobReference,
    existing: "keep" | "replace",
  ): Promise<Component> {
    const packed = packageComponent(description, fragments, image);
    for (const blob of [packed.config, packed.fragments, packed.manifest]) {
      await this.#put(blob, bufferSource(blob.content));
    }
    const component = await this.#admit(packed.manifest, existing);
    await this.#parts.fileIndex.prepare(component);
    return component;
  }

  async hasBlob(digest: Digest): Promise<boolean> {
    return (await this.#parts.blobs.sizeOf(digest)) !== undefined;
  }

  ingest(blob: BlobReference, signal?: AbortSignal): Promise<Ingest | undefined> {
    return this.#open(blob, signal, (lock) => openPart(this.#parts, blob, lock));
  }

  assemble(blob: BlobReference, signal?: AbortSignal): Promise<Assembly | undefined> {
    return this.#open(blob, signal, (lock) => openAssembly(this.#parts, blob, lock));
  }

  async blobsOf(manifest: BlobReference): Promise<BlobReference[]> {
    const { config, image, fragments } = await this.#parts.catalogue.blobsOf(manifest);
    return [config, image, fragments];
  }

  async admit(
    manifest: BlobReference,
    known?: { readonly recipe: HeldRecipe },
  ): Promise<Component> {
    const component = await this.#admit(manifest, "keep");
    if (known !== undefined) await this.#parts.fileIndex.note(component, known.recipe);
    return component;
  }

  openBlob(digest: Digest): Promise<BlobReader> {
    return sourceOfBlob(this.#parts.blobs, digest);
  }

  async recipe(id: Digest): Promise<HeldRecipe> {
    return this.#parts.fileIndex.recipe(await this.#require(id));
  }

  locate(
    contents: readonly { readonly head: string; readonly sizeBytes: number }[],
  ): Promise<(HeldContent | undefined)[]> {
    return this.#parts.fileIndex.locate(contents);
  }

  async openContents(id: Digest): Promise<ContentsReader> {
    const held = await this.recipe(id);
    return new ImageContents(held, await sourceOfBlob(this.#parts.blobs, id));
  }

  async imagePath(id: Digest): Promise<string> {
    const component = await this.#require(id);
    const { file, sizeBytes } = await this.#parts.blobs.open(component.id);
    await file.close();
    if (sizeBytes !== component.sizeBytes) throw blobCorrupt(id, `it has ${sizeBytes} bytes`);
    return this.#parts.blobs.path(id);
  }

  async fragments(id: Digest): Promise<Fragment[]> {
    return this.#parts.catalogue.fragments(await this.#require(id));
  }

  async signatures(id: Digest): Promise<ComponentSignature[]> {
    return this.#parts.signatures.of(await this.#require(id));
  }

  async addSignatures(
    id: Digest,
    added: { readonly signatures: readonly ComponentSignature[]; readonly own: boolean },
  ): Promise<void> {
    const component = await this.#require(id);
    await this.#parts.signatures.add(component, added, async ({ manifest, blobs }) => {
      for (const blob of [...blobs, manifest]) await this.#put(blob, bufferSource(blob.content));
    });
  }

  pin(owner: string, ids: readonly Digest[]): Promise<void> {
    return this.#parts.catalogue.exclusively(() => this.#parts.pins.add(owner, ids));
  }

  unpin(owner: string): Promise<void> {
    return this.#parts.catalogue.exclusively(() => this.#parts.pins.remove(owner));
  }

  pins(): Promise<ReadonlyMap<string, readonly Digest[]>> {
    return this.#parts.pins.all();
  }

  async remove(id: Digest): Promise<void> {
    const { catalogue, collector, fileIndex } = this.#parts;
    const blobs = await catalogue.exclusively(() => this.#removeEntries(id));
    await fileIndex.remove(id);
    for (const digest of blobs) await collector.sweep(digest);
  }

  collect(options: { readonly dryRun: boolean }): Promise<CollectReport> {
    return this.#parts.collector.collect(options.dryRun);
  }

  verify(id?: Digest): Promise<VerifyReport> {
    const { world, layout, blobs, catalogue } = this.#parts;
    const verification = new Verification(world, layout, blobs, catalogue);
    return id === undefined ? verification.all() : verification.one(id);
  }

  /** Under the lock of the blob; undefined when it is held. */
  async #open<T>(
    blob: BlobReference,
    signal: AbortSignal | undefined,
    open: (lock: Lock) => Promise<T>,
  ): Promise<T | undefined> {
    requireReference(blob);
    const { locks, blobs, leases } = this.#parts;
    const lock = await locks.acquire(hexOf(blob.digest), { signal });
    try {
      const heldBytes = await blobs.sizeOf(blob.digest);
      if (heldBytes !== undefined && heldBytes !== blob.sizeBytes) {
        throw sizeMismatch(blob, heldBytes);
      }
      await leases.take(blob.digest);
      if (heldBytes === undefined) return await open(lock);
      await lock.release();
      return undefined;
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  async #require(id: Digest): Promise<Component> {
    const component = await this.find(id);
    if (component === undefined) throw componentUnknown(id);
    return component;
  }

  /** Ingests from a source, going on where an earlier attempt was cut off. */
  async #put(blob: BlobReference, source: ContentSource): Promise<void> {
    const ingest = await this.ingest({ digest: blob.digest, sizeBytes: blob.sizeBytes });
    if (ingest === undefined) return;
    try {
      for (let position = ingest.writtenBytes; position < blob.sizeBytes;) {
        const bytes = new Uint8Array(Math.min(COPY_BYTES, blob.sizeBytes - position));
        await source.read(bytes, position);
        await ingest.append(bytes);
        position += bytes.length;
      }
      await ingest.commit();
    } finally {
      await ingest.release();
    }
  }

  async #admit(manifest: BlobReference, existing: "keep" | "replace"): Promise<Component> {
    const named = [manifest];
    try {
      await this.#claim(manifest, manifest.digest);
      named.push(...(await this.blobsOf(manifest)));
      for (const blob of named.slice(1)) await this.#claim(blob, manifest.digest);
      const component = await this.#parts.catalogue.load(manifest);
      await this.#parts.catalogue.fragments(component);
      await this.#parts.catalogue.exclusively(() => this.#insert(component, existing));
      await this.#parts.leases.drop(digestsOf(named));
      return await this.#require(component.id);
    } catch (error) {
      // A blob that is still missing may come yet; what a bad manifest names is not waited for.
      if (hasCode(error, "repository.manifest-invalid")) {
        await this.#parts.leases.drop(digestsOf(named));
      }
      throw error;
    }
  }

  /** Leases a held blob, under its lock so that no collection is between check and lease. */
  async #claim({ digest, sizeBytes }: BlobReference, manifest: Digest): Promise<void> {
    const { blobs, leases, locks } = this.#parts;
    if (!(await blobs.present(digest))) throw blobMissing(digest);
    const lock = await locks.acquire(hexOf(digest), { timeout_ms: CLAIM_WAIT_MS });
    try {
      const heldBytes = await blobs.sizeOf(digest);
      if (heldBytes === undefined) throw blobMissing(digest);
      if (heldBytes !== sizeBytes) {
        throw manifestInvalid(manifest, `${digest} has ${heldBytes} bytes, not ${sizeBytes}`);
      }
      await leases.take(digest);
    } finally {
      await lock.release();
    }
  }

  /**
   * Enters a component into the index. A component has one manifest: what a peer sends never
   * replaces what is held, what was made here does unless the component is pinned.
   */
  async #insert(component: Component, existing: "keep" | "replace"): Promise<void> {
    const { catalogue, pins } = this.#parts;
    const held = await this.find(component.id);
    const same = held?.manifest.digest === component.manifest.digest;
    if (held !== undefined && (same || existing === "keep")) return;
    if (held !== undefined) {
      const owners = await pins.ownersOf(held.id);
      if (owners.length > 0) throw componentPinned(held.id, owners);
    }
    const index = await catalogue.index();
    const old = new Set(await entriesOf(catalogue, component.id).then(digestsOf));
    const kept = index.manifests.filter(({ digest }) => !old.has(digest));
    const others = withoutSignatures(kept, old);
    await catalogue.replace(index, [...others, entryOf(component, others)]);
  }

  /** @returns the blobs that the removed entries named, as far as they can be read */
  async #removeEntries(id: Digest): Promise<Digest[]> {
    const { catalogue, pins } = this.#parts;
    const entries = await entriesOf(catalogue, id);
    if (entries.length === 0) throw componentUnknown(id);
    const owners = await pins.ownersOf(id);
    if (owners.length > 0) throw componentPinned(id, owners);
    const component = await this.find(id);
    const blobs = component === undefined ? [] : await this.blobsOf(component.manifest);
    const index = await catalogue.index();
    const removed = new Set(digestsOf(entries));
    const kept = index.manifests.filter(({ digest }) => !removed.has(digest));
    await catalogue.replace(index, withoutSignatures(kept, removed));
    return [...removed, id, ...digestsOf(blobs)];
  }
}

function digestsOf(list: readonly { readonly digest: Digest }[]): Digest[] {
  return list.map(({ digest }) => digest);
}

function entryOf(component: Component, others: readonly IndexEntry[]): IndexEntry {
  const taken = new Set(
    others.map((entry) => entry.annotations?.[REFERENCE_ANNOTATION]).filter(isText),
  );
  return {
    mediaType: MANIFEST_TYPE,
    digest: component.manifest.digest,
    size: component.manifest.sizeBytes,
    annotations: {
      [REFERENCE_ANNOTATION]: referenceName(component.description, component.id, taken),
      [ID_ANNOTATION]: component.id,
    },
  };
}

function isText(value: string | undefined): value is string {
  return value !== undefined;
}

function requireReference({ digest, sizeBytes }: BlobReference): void {
  if (isDigest(digest) && Number.isSafeInteger(sizeBytes) && sizeBytes >= 0) return;
  const message = `"${digest}" with ${sizeBytes} bytes does not name a blob`;
  throw new TesseraError("misuse", "repository.blob-invalid", message, { subject: digest });
}

interface Described {
  readonly description: ComponentDescription;
  readonly fragments: readonly Fragment[];
}

function requireDescribed({ description, fragments }: Described): Described {
  return {
    description: requireValid(() => checkDescription(description)),
    fragments: requireValid(() => checkFragments(fragments)),
  };
}

/** What is wrong with a component that is added here is the caller's. */
function requireValid<T>(check: () => T): T {
  try {
    return check();
  } catch (cause) {
    if (!hasCode(cause, "repository.json-invalid")) throw cause;
    throw new TesseraError("misuse", "repository.component-invalid", cause.message, {
      remedy: "correct the description or the fragments of the component",
      cause,
    });
  }
}

async function digestOfSource(source: ContentSource): Promise<Digest> {
  const hash = createHash("sha256");
  const buffer = new Uint8Array(Math.min(COPY_BYTES, source.sizeBytes));
  for (let position = 0; position < source.sizeBytes; position += buffer.length) {
    const target = buffer.subarray(0, Math.min(buffer.length, source.sizeBytes - position));
    await source.read(target, position);
    hash.update(target);
  }
  return finish(hash);
}
