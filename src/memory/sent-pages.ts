import { pageHash } from "#core";
import { PageStore } from "./page-store.ts";

/** A page of the guest. */
export interface GuestPage {
  /** Number of its block. */
  readonly block: number;
  /** Its address in pages. */
  readonly page: number;
}

/** What was sent last for a slot. */
interface Slot {
  readonly owner: GuestPage;
  readonly hash: number;
}

/**
 * The source's copy of what the destination keeps, and what to keep. Lookups compare bytes with the
 * copy, never hashes alone, and never the guest's memory, which may have changed since.
 *
 * When all slots are taken, they are visited in turn: a slot that was of use since the last visit is
 * spared and the new page not kept. So a guest that changes more memory than there are slots, in the
 * same order time and again, still finds some of it.
 */
export class SentPages {
  readonly #store: PageStore;
  readonly #slots: Slot[] = [];
  readonly #byHash = new Map<number, number>();
  /** By block, then by page. */
  readonly #byPage: Map<number, number>[] = [];
  readonly #spared: Uint8Array;
  #hand = 0;

  constructor(slots: number) {
    this.#store = new PageStore(slots);
    this.#spared = new Uint8Array(slots);
  }

  /** A slot that has exactly these bytes. */
  equal(bytes: Uint8Array, hash: number): number | undefined {
    const slot = this.#byHash.get(hash);
    if (slot === undefined || !this.#store.view(slot).equals(bytes)) return undefined;
    this.#spared[slot] = 1;
    return slot;
  }

  /** The slot that has an earlier version of the page. */
  versionOf({ block, page }: GuestPage): number | undefined {
    return this.#byPage[block]?.get(page);
  }

  view(slot: number): Buffer {
    return this.#store.view(slot);
  }

  /** Where a page that is sent whole shall be kept: in the place of its earlier version, if any. */
  keep(owner: GuestPage, bytes: Uint8Array, hash = pageHash(bytes)): number | undefined {
    const slot = this.versionOf(owner) ?? this.#choose();
    if (slot !== undefined) this.replace(slot, owner, bytes, hash);
    return slot;
  }

  /** Gives a slot a new content. */
  replace(slot: number, owner: GuestPage, bytes: Uint8Array, hash: number): void {
    this.#forget(slot);
    this.#store.set(slot, bytes);
    this.#slots[slot] = { owner, hash };
    this.#spared[slot] = 1;
    this.#byHash.set(hash, slot);
    (this.#byPage[owner.block] ??= new Map()).set(owner.page, slot);
  }

  #choose(): number | undefined {
    const { used, slots } = this.#store;
    if (used < slots) return used;
    if (slots === 0) return undefined;
    const slot = this.#hand;
    this.#hand = (slot + 1) % slots;
    if (this.#spared[slot] === 0) return slot;
    this.#spared[slot] = 0;
    return undefined;
  }

  #forget(slot: number): void {
    const old = this.#slots[slot];
    if (old === undefined) return;
    if (this.#byHash.get(old.hash) === slot) this.#byHash.delete(old.hash);
    const { block, page } = old.owner;
    if (this.#byPage[block]?.get(page) === slot) this.#byPage[block].delete(page);
  }
}
