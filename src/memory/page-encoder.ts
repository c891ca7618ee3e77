import { pageHash } from "#core";
import { eventBytes, type PageEvent, type RamStreamEvent } from "#hypervisor";
import type { ComponentPages, MemoryFigures, PagePlace } from "./contract.ts";
import { BLOCK_NAME_BYTES_MAX, PAGE_BYTES } from "./format.ts";
import { makePatch } from "./patch.ts";
import { RunWriter, type RecordPlace } from "./run-writer.ts";
import { SentPages, type GuestPage } from "./sent-pages.ts";

/** Differences of more bytes are no gain over the page, compressed. */
const PATCH_BYTES_MAX = 1024;

type Counters = { -readonly [Name in keyof MemoryFigures]: MemoryFigures[Name] };

/** Decides for each page how it travels, and gathers the frames' bodies. */
export class PageEncoder {
  readonly figures: Counters = {
    rawBytes: 0,
    encodedBytes: 0,
    fillPages: 0,
    componentPages: 0,
    repeatedPages: 0,
    patchedPages: 0,
    patchBytes: 0,
    literalPages: 0,
    opaqueBytes: 0,
    headBytes: 0,
  };
  readonly #components: ComponentPages | undefined;
  readonly #sent: SentPages;
  readonly #writer = new RunWriter();
  readonly #blocks = new Map<string, number>();
  #hint: PagePlace | undefined;

  constructor(components: ComponentPages | undefined, slots: number) {
    this.#components = components;
    this.#sent = new SentPages(slots);
  }

  /** Bytes of the body so far. */
  get bytes(): number {
    return this.#writer.bytes;
  }

  /** True when the body must be taken before more is added. */
  get isFull(): boolean {
    return this.#writer.isFull;
  }

  /** The body so far; undefined where there is nothing. */
  finish(): Buffer | undefined {
    const finished = this.#writer.finish();
    this.figures.headBytes += finished?.headBytes ?? 0;
    return finished?.body;
  }

  /** Adds a piece of the stream. */
  async add(event: RamStreamEvent): Promise<void> {
    if (event.kind === "opaque" || !this.#writer.knows(event.block)) {
      return this.#opaque(eventBytes(event));
    }
    if (event.block.length > BLOCK_NAME_BYTES_MAX) return this.#opaque(eventBytes(event));
    const { block, named, address } = event;
    const place = { block, named, page: address / PAGE_BYTES };
    if (event.kind === "page") return await this.#page(place, event);
    this.figures.fillPages += 1;
    this.#writer.filled(place, event.fill);
  }

  #opaque(bytes: Uint8Array): void {
    this.figures.opaqueBytes += bytes.length;
    this.#writer.opaque(bytes);
  }

  async #page(place: RecordPlace, { bytes }: PageEvent): Promise<void> {
    const hash = pageHash(bytes);
    const equal = this.#sent.equal(bytes, hash);
    if (equal !== undefined) {
      this.figures.repeatedPages += 1;
      return this.#writer.repeat(place, equal);
    }
    const owner = { block: this.#numberOf(place.block), page: place.page };
    if (this.#patched(place, owner, bytes, hash)) return;
    const found = await this.#components?.find(bytes, this.#hint);
    if (found === undefined) return this.#literal(place, owner, bytes, hash);
    this.#hint = { component: found.component, page: found.page + 1 };
    this.figures.componentPages += 1;
    this.#writer.component(place, found);
  }

  #patched(place: RecordPlace, owner: GuestPage, bytes: Uint8Array, hash: number): boolean {
    const slot = this.#sent.versionOf(owner);
    if (slot === undefined) return false;
    const patch = makePatch(this.#sent.view(slot), bytes, PATCH_BYTES_MAX);
    if (patch === undefined) return false;
    this.#sent.replace(slot, owner, bytes, hash);
    this.figures.patchedPages += 1;
    this.figures.patchBytes += patch.length;
    this.#writer.patch(place, slot, patch);
    return true;
  }

  #literal(place: RecordPlace, owner: GuestPage, bytes: Uint8Array, hash: number): void {
    this.figures.literalPages += 1;
    this.#writer.literal(place, bytes, this.#sent.keep(owner, bytes, hash));
  }

  #numberOf(block: string): number {
    const known = this.#blocks.get(block) ?? this.#blocks.size;
    this.#blocks.set(block, known);
    return known;
  }
}
