/** Bodies of frames, decoded and validated; what they refer to is checked by who applies them. */
import { unzigzag, VarintReader } from "#core";
import {
  BLOCK_NAME_BYTES_MAX,
  BLOCKS_MAX,
  HEAD_BYTES_MAX,
  OPERATIONS,
  PAGE_BYTES,
  PAGE_NUMBERS,
  PAGES_MAX,
  SLOTS_MAX,
  streamInvalid,
} from "./format.ts";

/** Records of `count` guest pages that follow one another. */
interface Pages {
  readonly block: string;
  /** The first record names its block. */
  readonly named: boolean;
  /** Address of the first, in pages. */
  readonly page: number;
  readonly count: number;
}

export type Operation =
  | { readonly kind: "opaque"; readonly bytes: Buffer }
  | { readonly kind: "fill"; readonly pages: Pages; readonly fill: number }
  /** `slot`: of the first; the pages are kept in slots that follow one another. */
  | {
      readonly kind: "literal";
      readonly pages: Pages;
      readonly slot: number | undefined;
      readonly bytes: Buffer;
    }
  | {
      readonly kind: "component";
      readonly pages: Pages;
      readonly component: number;
      readonly imagePage: number;
    }
  | { readonly kind: "repeat"; readonly pages: Pages; readonly slot: number }
  | {
      readonly kind: "patch";
      readonly pages: Pages;
      readonly slot: number;
      readonly patch: Buffer;
    };

/** Reads the bodies of a stream in order. */
export class RunReader {
  readonly #blocks: string[] = [];
  #block: string | undefined;
  #nextPage = 0;
  #nextSlot = 0;
  #nextRepeat = 0;
  #nextImagePage = 0;
  #head = new VarintReader(Buffer.alloc(0), 0, streamInvalid);
  #data: Buffer = Buffer.alloc(0);
  #pages = 0;

  /** The operations of a body, as views of it. @throws `memory.stream-invalid` */
  *read(body: Buffer): Generator<Operation, void, undefined> {
    const length = new VarintReader(body, 0, streamInvalid);
    const headBytes = length.number();
    const start = body.length - length.remaining;
    if (headBytes > Math.min(length.remaining, HEAD_BYTES_MAX)) {
      throw streamInvalid("the head of a frame is longer than the frame or allowed");
    }
    const head = body.subarray(start, start + headBytes);
    this.#head = new VarintReader(head, 0, streamInvalid);
    this.#data = body.subarray(start + headBytes);
    this.#pages = 0;
    while (this.#head.remaining > 0) {
      const operation = this.#operation(head);
      if (operation !== undefined) yield operation;
    }
    if (this.#data.length > 0) throw streamInvalid("a frame has data that nothing takes");
  }

  #operation(head: Buffer): Operation | undefined {
    const number = this.#head.number();
    const kind = OPERATIONS[number % OPERATIONS.length] ?? "opaque";
    const count = Math.floor(number / OPERATIONS.length);
    switch (kind) {
      case "define":
        this.#define(head, count);
        return undefined;
      case "block":
        this.#block = this.#blocks[count];
        if (this.#block === undefined) throw streamInvalid(`block ${count} is not defined`);
        return undefined;
      case "opaque":
        if (count === 0) throw streamInvalid("an operation for no bytes");
        return { kind, bytes: this.#take(count) };
      case "patch":
        return this.#patch(count);
      case "fill":
      case "literal":
      case "component":
      case "repeat":
        return this.#run(kind, this.#place(count));
    }
  }

  #define(head: Buffer, length: number): void {
    if (length > Math.min(BLOCK_NAME_BYTES_MAX, this.#head.remaining)) {
      throw streamInvalid("the name of a block is too long");
    }
    if (this.#blocks.length === BLOCKS_MAX) throw streamInvalid("too many blocks");
    const start = head.length - this.#head.remaining;
    this.#head.skip(length);
    this.#block = head.toString("latin1", start, start + length);
    this.#blocks.push(this.#block);
  }

  #take(length: number): Buffer {
    if (length > this.#data.length) throw streamInvalid("a frame has less data than it takes");
    const bytes = this.#data.subarray(0, length);
    this.#data = this.#data.subarray(length);
    return bytes;
  }

  #place(count: number): Pages {
    const number = this.#head.number();
    const page = this.#nextPage + unzigzag(Math.floor(number / 2));
    this.#pages += count;
    if (count === 0 || this.#pages > PAGES_MAX) throw streamInvalid("too many pages, or none");
    if (page < 0 || page + count > PAGE_NUMBERS) throw streamInvalid("a page is out of range");
    if (this.#block === undefined) throw streamInvalid("a page of no block");
    this.#nextPage = page + count;
    return { block: this.#block, named: number % 2 === 1, page, count };
  }

  #run(kind: "fill" | "literal" | "component" | "repeat", pages: Pages): Operation {
    if (kind === "fill") return { kind, pages, fill: this.#fill() };
    if (kind === "repeat") return { kind, pages, slot: this.#repeated(pages.count) };
    if (kind === "component") {
      const component = this.#head.number();
      const imagePage = this.#nextImagePage + unzigzag(this.#head.number());
      this.#nextImagePage = imagePage + pages.count;
      return { kind, pages, component, imagePage };
    }
    const kept = this.#head.number();
    const slot = kept === 0 ? undefined : this.#nextSlot + unzigzag(kept - 1);
    if (slot !== undefined) this.#nextSlot = slotsEnd(slot, pages.count);
    return { kind, pages, slot, bytes: this.#take(pages.count * PAGE_BYTES) };
  }

  #fill(): number {
    const fill = this.#head.number();
    if (fill > 255) throw streamInvalid("a page is filled with what is no byte");
    return fill;
  }

  #repeated(count: number): number {
    const slot = this.#nextRepeat + unzigzag(this.#head.number());
    this.#nextRepeat = slotsEnd(slot, count);
    return slot;
  }

  #patch(length: number): Operation {
    const pages = this.#place(1);
    const slot = this.#repeated(1);
    return { kind: "patch", pages, slot, patch: this.#take(length) };
  }
}

function slotsEnd(slot: number, count: number): number {
  if (slot >= 0 && slot + count <= SLOTS_MAX) return slot + count;
  throw streamInvalid("a slot is out of range");
}
