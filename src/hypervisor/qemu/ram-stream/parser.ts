import type { RamStreamEvent, RamStreamStage } from "./contract.ts";
import { CUT_SHORT, Cursor } from "./cursor.ts";
import { COMMAND, ITEM, STREAM_MAGIC, STREAM_VERSION } from "./format.ts";
import {
  passAdvice,
  passSubsection,
  readRamRecord,
  readSectionHead,
  UnknownItem,
  type RamRecord,
} from "./items.ts";
import { findRamSection, LOOK_BEHIND_BYTES } from "./resume.ts";

/** Most bytes that are held because an item has not arrived whole. */
const HELD_BYTES_MAX = 2 ** 20;
const NAME_BYTES_MAX = 1024;
const PAYLOAD_BYTES_MAX = 2 ** 16;

/**
 * What the bytes at hand are read as: items of the stream; records of `ram`; a section of unknown
 * length; nothing that is known.
 */
type Mode = "header" | "items" | "ram" | "foreign" | "opaque";

/**
 * Finds the pages in QEMU's migration stream, in whatever pieces it comes. The events' bytes one
 * after the other are the stream, always; what is not understood is opaque. So an error of this
 * parser, or a stream made to mislead it, costs compression only.
 *
 * Sections other than `ram` do not tell their length: their end is searched for. From the first
 * item on that is not known, everything is opaque ({@link RamStreamParser.off}).
 */
export class RamStreamParser {
  #mode: Mode = "header";
  /** An item that has not arrived whole, and what of it was given out already. */
  #held: Buffer = Buffer.alloc(0);
  #told = 0;
  /** Bytes to pass of something whose length is known. */
  #skip = 0;
  #ram: number | undefined;
  /** The type of the `ram` section that is read was `sectionEnd`. */
  #isLast = false;
  #block: string | undefined;
  #stage: RamStreamStage = "precopy";
  #off: string | undefined;

  /** Why everything is opaque, as a sentence's end: "the stream has ..."; else undefined. */
  get off(): string | undefined {
    return this.#off;
  }

  get stage(): RamStreamStage {
    return this.#stage;
  }

  /** Takes the next bytes, which must not change afterwards: events are views of them. */
  push(chunk: Uint8Array): RamStreamEvent[] {
    const fresh = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    const window = this.#held.length === 0 ? fresh : Buffer.concat([this.#held, fresh]);
    const events: RamStreamEvent[] = [];
    let given = this.#told;
    let at = 0;
    for (;;) {
      const step = this.#step(window, at);
      if (step === undefined) break;
      if (step.event !== undefined && given <= at) {
        give(events, window, given, at);
        events.push(step.event);
        given = step.end;
      }
      at = step.end;
    }
    give(events, window, given, at);
    this.#hold(window, at, Math.max(given, at), events);
    return events;
  }

  /**
   * Gives out what is held of an unfinished item, as opaque: for when no more comes for a while.
   * The stream may go on afterwards.
   */
  flush(): RamStreamEvent[] {
    const events: RamStreamEvent[] = [];
    give(events, this.#held, this.#told, this.#held.length);
    this.#told = this.#held.length;
    return events;
  }

  #hold(window: Buffer, at: number, given: number, events: RamStreamEvent[]): void {
    this.#held = window.subarray(at);
    this.#told = given - at;
    if (this.#mode === "foreign" || this.#held.length > HELD_BYTES_MAX) {
      events.push(...this.flush());
    }
    if (this.#held.length > HELD_BYTES_MAX) this.#turnOff(`an item of more than a mebibyte`);
  }

  #turnOff(reason: string): void {
    this.#mode = "opaque";
    this.#stage = "ended";
    this.#off = reason;
  }

  /** One item from `at` on; undefined when it has not arrived whole. */
  #step(window: Buffer, at: number): Step | undefined {
    if (at === window.length) return undefined;
    if (this.#mode === "opaque") return { end: window.length };
    if (this.#mode === "foreign") return this.#search(window, at);
    if (this.#skip > 0) {
      const length = Math.min(this.#skip, window.length - at);
      this.#skip -= length;
      return { end: at + length };
    }
    const cursor = new Cursor(window, at);
    try {
      const event = this.#read(cursor);
      return { end: cursor.at, ...(event === undefined ? {} : { event }) };
    } catch (error) {
      if (error === CUT_SHORT) return undefined;
      if (!(error instanceof UnknownItem)) throw error;
      this.#turnOff(error.message);
      return { end: window.length };
    }
  }

  #search(window: Buffer, at: number): Step | undefined {
    const found = findRamSection(window, at, this.#ram);
    if (found !== undefined) {
      this.#mode = "items";
      return { end: found };
    }
    const end = window.length - LOOK_BEHIND_BYTES;
    return end > at ? { end } : undefined;
  }

  #read(cursor: Cursor): RamStreamEvent | undefined {
    if (this.#mode === "ram") return this.#record(readRamRecord(cursor));
    if (this.#mode === "header") this.#readHeader(cursor);
    else this.#readItem(cursor);
    return undefined;
  }

  #readHeader(cursor: Cursor): void {
    const magic = cursor.uint32();
    if (magic !== STREAM_MAGIC) throw new UnknownItem("no magic number of QEMU");
    const version = cursor.uint32();
    if (version !== STREAM_VERSION) throw new UnknownItem(`version ${version}`);
    this.#mode = "items";
  }

  #readItem(cursor: Cursor): void {
    const type = cursor.byte();
    switch (type) {
      case ITEM.configuration:
        return pass(cursor, cursor.uint32(), NAME_BYTES_MAX);
      case ITEM.subsection:
        return passSubsection(cursor);
      case ITEM.footer:
        return void cursor.uint32();
      case ITEM.command:
        return this.#readCommand(cursor);
      case ITEM.sectionStart:
      case ITEM.sectionFull:
      case ITEM.sectionPart:
      case ITEM.sectionEnd:
        return this.#readSection(cursor, type);
      case ITEM.end:
      case ITEM.description:
        return this.#end();
    }
    throw new UnknownItem(`an item of type ${type}`);
  }

  #end(): void {
    this.#mode = "opaque";
    this.#stage = "ended";
  }

  #readSection(cursor: Cursor, type: number): void {
    const isNew = type === ITEM.sectionStart || type === ITEM.sectionFull;
    const id = isNew ? undefined : cursor.uint32();
    const head = id === undefined ? readSectionHead(cursor) : { id, isRam: id === this.#ram };
    this.#mode = head.isRam ? "ram" : "foreign";
    if (!head.isRam) return;
    this.#ram = head.id;
    this.#isLast = type === ITEM.sectionEnd;
  }

  #readCommand(cursor: Cursor): void {
    const command = cursor.uint16();
    const length = cursor.uint16();
    if (command === COMMAND.postcopyAdvise) return passAdvice(cursor, length);
    if (command !== COMMAND.packaged || length !== 4) {
      return pass(cursor, length, PAYLOAD_BYTES_MAX);
    }
    this.#skip = cursor.uint32();
    this.#stage = "postcopy";
  }

  #record(record: RamRecord): RamStreamEvent | undefined {
    if (record.kind === "other") return undefined;
    if (record.kind === "end") {
      this.#mode = "items";
      if (this.#isLast) this.#end();
      return undefined;
    }
    const { address, name } = record;
    const block = name ?? this.#block;
    if (block === undefined) throw new UnknownItem("a page of no block");
    this.#block = block;
    const named = name !== undefined;
    if (record.bytes !== undefined) {
      return { kind: "page", block, address, named, bytes: record.bytes };
    }
    if (record.fill === undefined) return undefined;
    return { kind: "fill", block, address, named, fill: record.fill };
  }
}

interface Step {
  readonly end: number;
  readonly event?: RamStreamEvent;
}

function pass(cursor: Cursor, length: number, lengthMax: number): void {
  if (length > lengthMax) throw new UnknownItem(`an item of ${length} bytes`);
  cursor.view(length);
}

/** Appends the bytes from `start` to `end`, if any, as one opaque event. */
function give(events: RamStreamEvent[], window: Buffer, start: number, end: number): void {
  if (start < end) events.push({ kind: "opaque", bytes: window.subarray(start, end) });
}
