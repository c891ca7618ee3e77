/** What the tests of gathering share: clouds with repositories, and sources that fail and lie. */
import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  endOf,
  referenceOf,
  TesseraError,
  type BlobReference,
  type Component,
  type Digest,
  type World,
} from "#core";
import { bufferSource, canonicalTree, decodeRecipe, encodeRecipe, writeErofs } from "#image";
import { openRepository, type ComponentStore } from "#repository";
import { realWorld } from "#system";
import type { ContentPiece, DataReceiver } from "../contract.ts";
import { withoutHeld } from "../held-parts.ts";
import type { GatherOptions, GatherSource } from "./contract.ts";

export const MIB = 2 ** 20;

/** Bytes that look random and are the same for the same seed. */
export function bytesOf(seed: string, sizeBytes: number): Buffer {
  return createHash("shake256", { outputLength: sizeBytes }).update(seed).digest();
}

/** Contents by file name: the image of a flat tree. */
export type Files = Readonly<Record<string, Uint8Array>>;

export async function imageOf(files: Files): Promise<Buffer> {
  const common = { uid: 0, gid: 0, mtime_s: 1, xattrs: new Map<string, Uint8Array>() };
  const entries = Object.entries(files).map(([path, bytes]) => {
    const content = bufferSource(bytes);
    return { ...common, path, mode: 0o644, type: "file", content } as const;
  });
  const root = { ...common, path: "", mode: 0o755, type: "directory" } as const;
  const parts: Uint8Array[] = [];
  const write = async (bytes: Uint8Array): Promise<void> => {
    parts.push(Buffer.from(bytes));
  };
  await writeErofs(canonicalTree([root, ...entries]), { write });
  return Buffer.concat(parts);
}

export async function addImage(
  store: ComponentStore,
  name: string,
  image: Uint8Array,
  version = "1.0-1",
): Promise<Component> {
  return await store.add({
    description: {
      kind: "program",
      name,
      version,
      architecture: "amd64",
      packages: [],
      provides: [],
      requires: [],
      instancePaths: [],
    },
    fragments: [{ path: "/etc/passwd", text: `${name}:x:33:33::/:/bin/false\n` }],
    image: bufferSource(image),
  });
}

export async function addFiles(
  store: ComponentStore,
  name: string,
  files: Files,
  version = "1.0-1",
): Promise<Component> {
  return await addImage(store, name, await imageOf(files), version);
}

/** The same store but for some of its functions. */
export function changed(store: ComponentStore, changes: Partial<ComponentStore>): ComponentStore {
  return new Proxy(store, {
    get: (target, name: keyof ComponentStore) => {
      const own = changes[name] ?? target[name];
      return typeof own === "function" ? own.bind(target) : own;
    },
  });
}

/** How a source behaves; every function may throw. */
export interface Behaviour {
  /** Called before a piece is handed on; what it returns is handed on. */
  piece?(piece: ContentPiece, signal: AbortSignal): ContentPiece | Promise<ContentPiece>;
  /** Which component's recipe is given for one that is asked for. */
  recipeOf?(component: Digest): Digest;
  /** Called before anything is answered. */
  asked?(what: "blob" | "recipe" | "contents", id: Digest, signal: AbortSignal): Promise<void>;
  /** Pieces have at most so many bytes; default 1 MiB. */
  readonly pieceBytes?: number;
  /** Every piece is sent twice, as after a cut. */
  readonly repeats?: boolean;
}

/** What a source was asked for. */
export interface Log {
  readonly blobs: Digest[];
  readonly recipes: Digest[];
  readonly contents: { readonly component: Digest; readonly wanted: readonly number[] }[];
}

/** Serves one repository to another as the data protocol does, without a network. */
class DirectReceiver implements DataReceiver {
  readonly log: Log = { blobs: [], recipes: [], contents: [] };
  readonly #from: ComponentStore;
  readonly #to: ComponentStore;
  readonly #behaviour: Behaviour;
  #wireBytes = 0;

  constructor(from: ComponentStore, to: ComponentStore, behaviour: Behaviour) {
    this.#from = from;
    this.#to = to;
    this.#behaviour = behaviour;
  }

  async fetchBlob(blob: BlobReference, signal: AbortSignal): Promise<number> {
    this.log.blobs.push(blob.digest);
    await this.#behaviour.asked?.("blob", blob.digest, signal);
    const ingest = await this.#to.ingest(blob, signal);
    if (ingest === undefined) return 0;
    const reader = await this.#from.openBlob(blob.digest);
    try {
      const bytes = Buffer.alloc(blob.sizeBytes - ingest.writtenBytes);
      await reader.read(bytes, ingest.writtenBytes);
      await ingest.append(bytes);
      await ingest.commit();
      this.#wireBytes += bytes.length;
      return bytes.length;
    } finally {
      await reader.close();
      await ingest.release();
    }
  }

  async fetchRecipe(component: Digest, bases: readonly Digest[], signal: AbortSignal) {
    this.log.recipes.push(component);
    await this.#behaviour.asked?.("recipe", component, signal);
    const asked = this.#behaviour.recipeOf?.(component) ?? component;
    if ((await this.#from.find(asked)) === undefined) throw notOffered(component);
    const held = await this.#from.recipe(asked);
    const bytes = encodeRecipe(held.recipe);
    this.#wireBytes += bytes.length;
    const both = new Set((await this.#from.list()).map(({ id }) => id));
    return {
      recipe: decodeRecipe(bytes),
      bases: bases.filter((id) => both.has(id)),
      wireBytes: bytes.length,
    };
  }

  async fetchContents(
    request: Parameters<DataReceiver["fetchContents"]>[0],
    take: (piece: ContentPiece) => Promise<void>,
    signal: AbortSignal,
  ): Promise<number> {
    const { component, wanted, held = [] } = request;
    this.log.contents.push({ component, wanted });
    await this.#behaviour.asked?.("contents", component, signal);
    const asked = this.#behaviour.recipeOf?.(component) ?? component;
    const { recipe } = await this.#from.recipe(asked);
    const reader = await this.#from.openContents(asked);
    const most = this.#behaviour.pieceBytes ?? MIB;
    const begin = this.#wireBytes;
    try {
      for (const content of wanted) {
        const sizeBytes = recipe.contents[content]?.sizeBytes ?? 0;
        const whole = { content, offset: 0, length: sizeBytes };
        const plan = { segments: [whole], references: [], rawBytes: sizeBytes };
        for (const segment of withoutHeld([plan], held).flatMap(({ segments }) => segments)) {
          for (let offset = segment.offset; offset < endOf(segment); offset += most) {
            signal.throwIfAborted();
            const bytes = new Uint8Array(Math.min(most, endOf(segment) - offset));
            await reader.read(content, bytes, offset);
            await this.#send({ content, offset, bytes }, take, signal);
          }
        }
      }
    } finally {
      await reader.close();
    }
    return this.#wireBytes - begin;
  }

  async #send(
    piece: ContentPiece,
    take: (piece: ContentPiece) => Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    const behaviour = this.#behaviour;
    const sent = (await behaviour.piece?.(piece, signal)) ?? piece;
    this.#wireBytes += sent.bytes.length;
    await take(sent);
    if (behaviour.repeats === true) await take(sent);
    // Bytes are valid only until the consumer is done with them.
    sent.bytes.fill(0xee);
  }

  fetchUserData(): Promise<never> {
    throw new Error("components only");
  }

  wireBytes(): number {
    return this.#wireBytes;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

export function notOffered(subject: Digest): TesseraError {
  return new TesseraError("peer", "transfer.not-offered", "it is not here", { subject });
}

export interface TestSource extends GatherSource {
  readonly log: Log;
}

/** Never before it aborts. */
export function never(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const abort = (): void => reject(signal.reason as Error);
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
  });
}

/** A destination and the clouds around it, in one directory. */
export class Clouds {
  readonly world: World = realWorld();
  readonly directory: string;
  readonly here: ComponentStore;

  private constructor(directory: string, here: ComponentStore) {
    this.directory = directory;
    this.here = here;
  }

  static async start(): Promise<Clouds> {
    const directory = await mkdtemp(join(tmpdir(), "tessera-gather-"));
    return await Clouds.at(directory);
  }

  static async at(directory: string): Promise<Clouds> {
    const here = await openRepository(realWorld(), join(directory, "here"));
    return new Clouds(directory, here);
  }

  /** Another cloud's repository, or this one's by another process. */
  async store(name: string): Promise<ComponentStore> {
    return await openRepository(this.world, join(this.directory, name));
  }

  source(
    cloud: string,
    store: ComponentStore,
    behaviour: Behaviour = {},
    bitsPerSecond?: number,
  ): TestSource {
    const receiver = new DirectReceiver(store, this.here, behaviour);
    return {
      holder: { cloud, pricePerGB: 0, ...(bitsPerSecond === undefined ? {} : { bitsPerSecond }) },
      open: () => receiver,
      holds: () => true,
      log: receiver.log,
    };
  }

  options(
    components: readonly Component[],
    sources: readonly GatherSource[],
    more: Partial<GatherOptions> = {},
  ): GatherOptions {
    return {
      store: this.here,
      sources,
      references: components.map(referenceOf),
      owner: "migration:test",
      signal: AbortSignal.timeout(240_000),
      ...more,
    };
  }

  /** The image of a component that this cloud holds. */
  async image(id: Digest): Promise<Buffer> {
    const reader = await this.here.openBlob(id);
    const bytes = Buffer.alloc(reader.sizeBytes);
    await reader.read(bytes, 0);
    await reader.close();
    return bytes;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.directory, { recursive: true, force: true });
  }
}
