import { PAGE_BYTES } from "./format.ts";

const CHUNK_PAGES = 256;

/** Pages by slot: equal at both sides at every point of the stream. Memory grows with its use. */
export class PageStore {
  readonly slots: number;
  readonly #chunks: Buffer[] = [];
  #used = 0;

  constructor(slots: number) {
    this.slots = slots;
  }

  /** Slots from 0 on that have been filled; they are filled in order. */
  get used(): number {
    return this.#used;
  }

  /** A view of the page, valid until the slot is set again. */
  view(slot: number): Buffer {
    const chunk = this.#chunks[Math.floor(slot / CHUNK_PAGES)] ?? Buffer.alloc(0);
    const start = (slot % CHUNK_PAGES) * PAGE_BYTES;
    return chunk.subarray(start, start + PAGE_BYTES);
  }

  /** @param slot at most `used`, below `slots` */
  set(slot: number, page: Uint8Array): void {
    const index = Math.floor(slot / CHUNK_PAGES);
    this.#chunks[index] ??= Buffer.allocUnsafeSlow(
      Math.min(CHUNK_PAGES, this.slots - index * CHUNK_PAGES) * PAGE_BYTES,
    );
    this.#chunks[index].set(page, (slot % CHUNK_PAGES) * PAGE_BYTES);
    this.#used = Math.max(this.#used, slot + 1);
  }
}
