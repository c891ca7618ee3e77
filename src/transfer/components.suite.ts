/** Components of small trees in real repositories, for the tests of recipes and contents. */
import { createHash } from "node:crypto";
import { rm } from "node:fs/promises";
import { TesseraError, type Component, type Digest } from "#core";
import { bufferSource, canonicalTree, fileSource, writeErofsFile, type TreeEntry } from "#image";
import { openRepository, type ComponentStore, type PackCache } from "#repository";
import type { ContentPiece, DataSource } from "./contract.ts";
import { referenceTo, type Clouds } from "./fixture.suite.ts";

/** Bytes that follow from a seed; no compressor shrinks them. */
export function noise(seed: string, sizeBytes: number): Buffer {
  const pieces: Buffer[] = [];
  for (let number = 0; pieces.length * 32 < sizeBytes; number += 1) {
    pieces.push(createHash("sha256").update(`${seed} ${number}`).digest());
  }
  return Buffer.concat(pieces).subarray(0, sizeBytes);
}

/** The bytes with every `step`th changed. */
export function edited(bytes: Uint8Array, step: number): Buffer {
  const copy = Buffer.from(bytes);
  for (let at = step; at < copy.length; at += step) copy[at] = (copy[at] ?? 0) ^ 0xff;
  return copy;
}

export type Files = Readonly<Record<string, Uint8Array>>;

function treeOf(files: Files): TreeEntry[] {
  return Object.entries(files).map(([path, content]) => ({
    path,
    type: "file",
    mode: 0o644,
    uid: 0,
    gid: 0,
    mtime_s: 1,
    xattrs: new Map(),
    content: bufferSource(content),
  }));
}

export async function addTree(
  clouds: Clouds,
  store: ComponentStore,
  version: string,
  files: Files,
): Promise<Component> {
  const path = clouds.path(`${version}-${clouds.world.random.uuid()}.erofs`);
  await writeErofsFile(clouds.world, canonicalTree(treeOf(files)), path);
  const image = await fileSource(clouds.world, path);
  try {
    return await store.add({
      description: {
        kind: "program",
        name: "tree",
        version,
        architecture: "amd64",
        packages: [],
        provides: [],
        requires: [],
        instancePaths: [],
      },
      fragments: [],
      image,
    });
  } finally {
    await image.close();
    await rm(path);
  }
}

/** Puts a blob into a repository. */
export async function hold(store: ComponentStore, bytes: Uint8Array): Promise<void> {
  const ingest = await store.ingest(referenceTo(bytes));
  await ingest?.append(bytes);
  await ingest?.commit();
}

export function openSecond(clouds: Clouds, name = "sender-repository"): Promise<ComponentStore> {
  return openRepository(clouds.world, clouds.path(name));
}

function refused(code: string): TesseraError {
  return new TesseraError("peer", code, "not in this test");
}

/** What a cloud with this repository sends. */
export function sourceFrom(store: ComponentStore, packs: PackCache = store.packs): DataSource {
  const open = async (id: Digest) => ({
    ...(await store.recipe(id)),
    reader: await store.openContents(id),
  });
  return {
    openBlob: (digest) => store.openBlob(digest),
    openUserData: () => Promise.reject(refused("transfer.not-ready")),
    openComponent: async (id) => {
      if ((await store.find(id)) === undefined) throw refused("transfer.not-offered");
      return open(id);
    },
    openBase: async (id) => ((await store.find(id)) === undefined ? undefined : open(id)),
    openBaseBlob: async (digest) =>
      (await store.hasBlob(digest)) ? store.openBlob(digest) : undefined,
    packs,
  };
}

/** A pack cache in memory that counts. */
export function memoryPacks() {
  const kept = new Map<Digest, Uint8Array>();
  let hits = 0;
  const packs: PackCache = {
    get: (key) => {
      const found = kept.get(key);
      if (found !== undefined) hits += 1;
      return Promise.resolve(found);
    },
    put: (key, pack) => {
      kept.set(key, Uint8Array.from(pack));
      return Promise.resolve();
    },
    sizeOf: (key) => Promise.resolve(kept.get(key)?.length),
  };
  return { packs, kept, hits: () => hits };
}

/** Gathers pieces into whole contents. */
export class Contents {
  readonly #sizes: readonly { readonly sizeBytes: number }[];
  readonly #bytes = new Map<number, Buffer>();
  pieces = 0;

  constructor(sizes: readonly { readonly sizeBytes: number }[]) {
    this.#sizes = sizes;
  }

  readonly take = ({ content, offset, bytes }: ContentPiece): Promise<void> => {
    const sizeBytes = this.#sizes[content]?.sizeBytes ?? 0;
    const whole = this.#bytes.get(content) ?? Buffer.alloc(sizeBytes);
    whole.set(bytes, offset);
    this.#bytes.set(content, whole);
    this.pieces += 1;
    return Promise.resolve();
  };

  get(content: number): Buffer | undefined {
    return this.#bytes.get(content);
  }

  numbers(): number[] {
    return [...this.#bytes.keys()].toSorted((a, b) => a - b);
  }
}

export function headOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex").slice(0, 16);
}
