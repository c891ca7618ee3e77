import type { BlobReader } from "#repository";
import { isZero } from "#block";
import { pageHash } from "#core";
import { PAGE_BYTES } from "./changes.ts";

/** Most pages in the index: 2^21 take 32 MiB; of larger images only every n-th page is in it. */
const PAGES_MAX = 2 ** 21;
const READ_BYTES = 2 ** 20;
/** What is compared is read by so much, as neighbours are often asked for next; so many are kept. */
const WINDOW_BYTES = 2 ** 16;
const WINDOWS_MAX = 64;
const EMPTY = 0xffff_ffff;

/** Where a page occurs. */
export interface PagePlace {
  readonly component: number;
  readonly page: number;
}

/**
 * Finds 4 KiB pages in the images of components. Open addressing over three arrays, built by reading
 * the images once; bounded in memory. A hint: every find is compared with the image itself.
 */
export class PageIndex {
  readonly #images: readonly BlobReader[];
  readonly #mask: number;
  readonly #hashes: Uint32Array;
  readonly #components: Uint8Array;
  readonly #pages: Uint32Array;
  readonly #stride: number;
  /** The latest used last; a failed read is not kept. */
  readonly #windows = new Map<number, Promise<Buffer>>();

  private constructor(images: readonly BlobReader[]) {
    const pages = images.reduce(
      (sum, { sizeBytes }) => sum + Math.floor(sizeBytes / PAGE_BYTES),
      0,
    );
    this.#images = images;
    this.#stride = Math.max(1, Math.ceil(pages / PAGES_MAX));
    const slots = 2 ** Math.ceil(Math.log2(Math.max(16, (1.5 * pages) / this.#stride)));
    this.#mask = slots - 1;
    this.#hashes = new Uint32Array(slots);
    this.#components = new Uint8Array(slots);
    this.#pages = new Uint32Array(slots).fill(EMPTY);
  }

  /** Reads the images, of which there are at most 256. They stay the caller's. */
  static async build(images: readonly BlobReader[], signal: AbortSignal): Promise<PageIndex> {
    const index = new PageIndex(images.slice(0, 256));
    const buffer = Buffer.alloc(READ_BYTES);
    for (const [component, image] of index.#images.entries()) {
      const wholeBytes = Math.floor(image.sizeBytes / PAGE_BYTES) * PAGE_BYTES;
      for (let offset = 0; offset < wholeBytes; offset += READ_BYTES) {
        signal.throwIfAborted();
        const piece = buffer.subarray(0, Math.min(READ_BYTES, wholeBytes - offset));
        await image.read(piece, offset);
        index.#addPages(component, offset / PAGE_BYTES, piece);
      }
    }
    return index;
  }

  #addPages(component: number, first: number, bytes: Buffer): void {
    for (let at = 0; at < bytes.length; at += PAGE_BYTES) {
      const number = first + at / PAGE_BYTES;
      if (number % this.#stride !== 0) continue;
      const page = bytes.subarray(at, at + PAGE_BYTES);
      if (!isZero(page)) this.#add(pageHash(page), { component, page: number });
    }
  }

  /** The first page with a hash stays. */
  #add(hash: number, { component, page }: PagePlace): void {
    let slot = hash & this.#mask;
    for (; this.#pages[slot] !== EMPTY; slot = (slot + 1) & this.#mask) {
      if (this.#hashes[slot] === hash) return;
    }
    this.#hashes[slot] = hash;
    this.#components[slot] = component;
    this.#pages[slot] = page;
  }

  /** Where a page's bytes are; `hint` is looked at first. */
  async find(page: Uint8Array, hint?: PagePlace): Promise<PagePlace | undefined> {
    if (hint !== undefined && (await this.#equals(hint, page))) return hint;
    const place = this.#lookUp(pageHash(page));
    return place !== undefined && (await this.#equals(place, page)) ? place : undefined;
  }

  #lookUp(hash: number): PagePlace | undefined {
    for (let slot = hash & this.#mask; ; slot = (slot + 1) & this.#mask) {
      const page = this.#pages[slot];
      if (page === undefined || page === EMPTY) return undefined;
      if (this.#hashes[slot] === hash) return { component: this.#components[slot] ?? 0, page };
    }
  }

  async #equals({ component, page }: PagePlace, bytes: Uint8Array): Promise<boolean> {
    const image = this.#images[component];
    const offset = page * PAGE_BYTES;
    if (image === undefined || offset + PAGE_BYTES > image.sizeBytes) return false;
    const number = Math.floor(offset / WINDOW_BYTES);
    const from = offset - number * WINDOW_BYTES;
    const window = await this.#window(component, image, number);
    return window.subarray(from, from + PAGE_BYTES).equals(bytes);
  }

  #window(component: number, image: BlobReader, number: number): Promise<Buffer> {
    const key = component * 2 ** 40 + number;
    const window = this.#windows.get(key) ?? readWindow(image, number * WINDOW_BYTES);
    window.catch(() => this.#windows.delete(key));
    this.#windows.delete(key);
    this.#windows.set(key, window);
    const [oldest] = this.#windows.keys();
    if (this.#windows.size > WINDOWS_MAX && oldest !== undefined) this.#windows.delete(oldest);
    return window;
  }
}

async function readWindow(image: BlobReader, offset: number): Promise<Buffer> {
  const window = Buffer.allocUnsafe(Math.min(WINDOW_BYTES, image.sizeBytes - offset));
  await image.read(window, offset);
  return window;
}
