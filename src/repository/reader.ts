import type { Digest } from "#core";
import type { ContentExtent } from "#image";
import type { Blobs } from "./blobs.ts";
import type { BlobReader, ContentsReader, HeldRecipe } from "./contract.ts";
import { blobCorrupt, contentUnknown } from "./failures.ts";

/** Reads up to this size are served from a window when they follow each other. */
const SMALL_BYTES = 16 * 2 ** 10;
const WINDOW_BYTES = 128 * 2 ** 10;

/** @throws `repository.blob-missing`, `repository.blob-corrupt` */
export async function sourceOfBlob(blobs: Blobs, digest: Digest): Promise<BlobReader> {
  const { file, sizeBytes } = await blobs.open(digest);
  return {
    sizeBytes,
    async read(target, position) {
      const length = await file.read(target, position);
      if (length < target.length) throw blobCorrupt(digest, `it ends at ${position + length}`);
    },
    close: () => file.close(),
  };
}

interface Window {
  readonly position: number;
  readonly bytes: Uint8Array;
  readonly memory: ArrayBuffer;
}

/** Contents of one component out of its image, which stays open until `close`. */
export class ImageContents implements ContentsReader {
  readonly #held: HeldRecipe;
  readonly #image: BlobReader;
  #window: Window | undefined;
  /** Memory for the next window, unless a read that has begun fills it. */
  #spare: ArrayBuffer | undefined = new ArrayBuffer(WINDOW_BYTES);
  /** Where the last small read ended: what begins soon after it is read ahead of. */
  #endedAt = -WINDOW_BYTES;

  constructor(held: HeldRecipe, image: BlobReader) {
    this.#held = held;
    this.#image = image;
  }

  async read(content: number, target: Uint8Array, offset: number): Promise<void> {
    const { component, recipe } = this.#held;
    const sizeBytes = recipe.contents[content]?.sizeBytes ?? -1;
    if (offset < 0 || offset + target.length > sizeBytes) throw contentUnknown(component, content);
    for (const extent of recipe.places(content)[0] ?? []) {
      const part = overlap(extent, offset, target.length);
      if (part === undefined) continue;
      await this.#read(target.subarray(part.from, part.to), part.position);
    }
  }

  close(): Promise<void> {
    return this.#image.close();
  }

  async #read(target: Uint8Array, position: number): Promise<void> {
    if (target.length > SMALL_BYTES) return this.#image.read(target, position);
    const follows = position >= this.#endedAt && position - this.#endedAt < SMALL_BYTES;
    this.#endedAt = position + target.length;
    if (this.#fromWindow(target, position)) return;
    if (!follows) return this.#image.read(target, position);
    const memory = this.#spare ?? new ArrayBuffer(WINDOW_BYTES);
    this.#spare = undefined;
    const length = Math.min(WINDOW_BYTES, this.#image.sizeBytes - position);
    const bytes = new Uint8Array(memory, 0, length);
    await this.#image.read(bytes, position);
    this.#spare = this.#window?.memory;
    this.#window = { position, bytes, memory };
    target.set(bytes.subarray(0, target.length));
  }

  #fromWindow(target: Uint8Array, position: number): boolean {
    if (this.#window === undefined) return false;
    const start = position - this.#window.position;
    if (start < 0 || start + target.length > this.#window.bytes.length) return false;
    target.set(this.#window.bytes.subarray(start, start + target.length));
    return true;
  }
}

/** The part of an extent that a range of its content has, as a range of the target. */
function overlap(
  extent: ContentExtent,
  offset: number,
  length: number,
): { readonly from: number; readonly to: number; readonly position: number } | undefined {
  const start = Math.max(extent.offset, offset);
  const end = Math.min(extent.offset + extent.length, offset + length);
  if (start >= end) return undefined;
  const position = extent.position + start - extent.offset;
  return { from: start - offset, to: end - offset, position };
}
