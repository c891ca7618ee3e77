/** Bodies of frames: operations, runs of equal kind joined, and the data that they take. */
import { VarintWriter, zigzag } from "#core";
import { BLOCKS_MAX, HEAD_BYTES_MAX, OPERATIONS, PAGES_MAX, type OperationKind } from "./format.ts";
import type { PagePlace } from "./contract.ts";

/** Most bytes that one operation takes in the head. */
const OPERATION_BYTES_MAX = 300;

/** Stands for the slot of pages that have none; no difference of a slot and a count is this. */
const NOT_KEPT = -(2 ** 50);

/** A guest page's record. */
export interface RecordPlace {
  /** Name of the block. */
  readonly block: string;
  /** The record has the name. */
  readonly named: boolean;
  /** Its address in pages. */
  readonly page: number;
}

interface Run {
  readonly kind: OperationKind;
  count: number;
  /** What a page must have in common with the next to be of one run, and what the run has. */
  readonly next: number;
  readonly fields: readonly number[];
}

/** Writes frame bodies one after the other; where pages and references go on is kept between them. */
export class RunWriter {
  #head = new VarintWriter();
  #data: Uint8Array[] = [];
  #dataBytes = 0;
  #pages = 0;
  #run: Run | undefined;
  readonly #blocks = new Map<string, number>();
  #block: string | undefined;
  #nextPage = 0;
  #nextSlot = 0;
  #nextRepeat = 0;
  #nextImagePage = 0;

  /** Bytes that a body would have. */
  get bytes(): number {
    return this.#dataBytes + this.#head.length + (this.#run === undefined ? 0 : 8);
  }

  /** True when no more may be added. */
  get isFull(): boolean {
    return this.#pages >= PAGES_MAX || this.#head.length > HEAD_BYTES_MAX - OPERATION_BYTES_MAX;
  }

  opaque(bytes: Uint8Array): void {
    this.#add("opaque", 0, [], bytes.length);
    this.#take(bytes);
  }

  filled(place: RecordPlace, fill: number): void {
    this.#page("fill", place, fill, [fill]);
  }

  /** @param slot where it is kept; undefined where it is not */
  literal(place: RecordPlace, bytes: Uint8Array, slot: number | undefined): void {
    const kept = slot === undefined ? 0 : 1 + zigzag(slot - this.#nextSlot);
    this.#page("literal", place, slot === undefined ? NOT_KEPT : slot - this.#pages, [kept]);
    if (slot !== undefined) this.#nextSlot = slot + 1;
    this.#take(bytes);
  }

  component(place: RecordPlace, { component, page }: PagePlace): void {
    const distance = zigzag(page - this.#nextImagePage);
    this.#page("component", place, component * 2 ** 40 + page - this.#pages, [component, distance]);
    this.#nextImagePage = page + 1;
  }

  repeat(place: RecordPlace, slot: number): void {
    this.#page("repeat", place, slot - this.#pages, [zigzag(slot - this.#nextRepeat)]);
    this.#nextRepeat = slot + 1;
  }

  /** The page of the slot, changed; the slot has the changed one afterwards. */
  patch(place: RecordPlace, slot: number, patch: Uint8Array): void {
    this.#enter(place);
    const fields = [this.#placeOf(place), zigzag(slot - this.#nextRepeat)];
    this.#endRun();
    this.#run = { kind: "patch", count: patch.length, next: Number.NaN, fields };
    this.#nextRepeat = slot + 1;
    this.#passed(place);
    this.#take(patch);
  }

  /** The body as pieces; undefined where nothing was added. The next begins. */
  finish(): { readonly body: Buffer; readonly headBytes: number } | undefined {
    this.#endRun();
    if (this.#head.length === 0) return undefined;
    const length = new VarintWriter();
    length.number(this.#head.length);
    const body = Buffer.concat([length.bytes(), this.#head.bytes(), ...this.#data]);
    const headBytes = this.#head.length + length.length;
    this.#head = new VarintWriter();
    this.#data = [];
    this.#dataBytes = 0;
    this.#pages = 0;
    return { body, headBytes };
  }

  /** True while blocks of further names can be told apart. */
  knows(block: string): boolean {
    return this.#blocks.has(block) || this.#blocks.size < BLOCKS_MAX;
  }

  #take(bytes: Uint8Array): void {
    this.#data.push(bytes);
    this.#dataBytes += bytes.length;
  }

  #page(kind: OperationKind, place: RecordPlace, common: number, rest: readonly number[]): void {
    this.#enter(place);
    const goesOn = !place.named && place.page === this.#nextPage;
    this.#add(kind, goesOn ? common : Number.NaN, [this.#placeOf(place), ...rest], 1, common);
    this.#passed(place);
  }

  #placeOf({ page, named }: RecordPlace): number {
    return zigzag(page - this.#nextPage) * 2 + (named ? 1 : 0);
  }

  #passed({ page }: RecordPlace): void {
    this.#nextPage = page + 1;
    this.#pages += 1;
  }

  /** Makes the block the current one. */
  #enter({ block }: RecordPlace): void {
    if (block === this.#block) return;
    this.#endRun();
    this.#block = block;
    const known = this.#blocks.get(block);
    if (known !== undefined) return this.#operation("block", known);
    this.#blocks.set(block, this.#blocks.size);
    this.#operation("define", block.length);
    for (const byte of Buffer.from(block, "latin1")) this.#head.byte(byte);
  }

  #add(
    kind: OperationKind,
    common: number,
    fields: readonly number[],
    count: number,
    next = common,
  ): void {
    if (this.#run?.kind === kind && this.#run.next === common) {
      this.#run.count += count;
      return;
    }
    this.#endRun();
    this.#run = { kind, count, next, fields };
  }

  #endRun(): void {
    if (this.#run === undefined) return;
    this.#operation(this.#run.kind, this.#run.count);
    for (const field of this.#run.fields) this.#head.number(field);
    this.#run = undefined;
  }

  #operation(kind: OperationKind, count: number): void {
    this.#head.number(count * OPERATIONS.length + OPERATIONS.indexOf(kind));
  }
}
