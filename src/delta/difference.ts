/**
 * A pack as its difference from its references, for contents that are nearly equal to them but in
 * many places, as programs are whose addresses have moved. Format: doc/data-protocol.md, "Packs".
 */
import { unzigzag, VarintReader, VarintWriter, zigzag } from "#core";
import {
  equalEnds,
  findRegions,
  tableLog,
  type Region,
  type SearchOptions,
} from "./difference-match.ts";

/** Equal bytes between two differing ones that do not end an island. */
const BRIDGE_BYTES = 2;
/** Islands up to this length have a section each by length. */
const SHORT_BYTES = 4;
/** Sections: four of numbers, one for islands that are long, one for each shorter length, extra. */
const SECTIONS = 4 + 1 + SHORT_BYTES + 1;
/** With more regions than one for so many bytes, or a longer difference, other ways leave less. */
const BYTES_PER_REGION_MIN = 128;

/** Most memory of {@link encodeDifference} besides its arguments. */
export function differenceMemoryBytes(oldBytes: number, rawBytes: number): number {
  // Regions are objects of about 40 bytes; sections grow by doubling.
  return 4 * 2 ** tableLog(oldBytes) + rawBytes + (40 * rawBytes) / BYTES_PER_REGION_MIN + 2 ** 20;
}

/** The sections of numbers, of either side. */
interface Numbers<T> {
  /** For each region the bytes before it that are new, and its own. */
  readonly lengths: T;
  readonly seeks: T;
  /** For each island the equal bytes before it; for each region those after its last island. */
  readonly gaps: T;
  /** For each island its bytes; for each region a 0 behind its last island. */
  readonly islandLengths: T;
}

class DifferenceWriter {
  readonly #old: Uint8Array;
  readonly #fresh: Uint8Array;
  readonly #equalEnd: (from: number, to: number, delta: number) => number;
  readonly #numbers: Numbers<VarintWriter> = {
    lengths: new VarintWriter(),
    seeks: new VarintWriter(),
    gaps: new VarintWriter(),
    islandLengths: new VarintWriter(),
  };
  readonly #longIslands = new VarintWriter();
  /** By length, less 1. */
  readonly #shortIslands = Array.from({ length: SHORT_BYTES }, () => new VarintWriter());
  readonly #extra: Uint8Array[] = [];

  constructor(old: Uint8Array, fresh: Uint8Array) {
    this.#old = old;
    this.#fresh = fresh;
    this.#equalEnd = equalEnds(old, fresh);
  }

  write(regions: readonly Region[]): void {
    const { lengths, seeks } = this.#numbers;
    let [at, from] = [0, 0];
    for (const region of regions) {
      this.#extra.push(this.#fresh.subarray(at, region.at));
      lengths.number(region.at - at);
      lengths.number(region.length);
      seeks.number(zigzag(region.from - from));
      this.#islands(region);
      at = region.at + region.length;
      from = region.from + region.length;
    }
    this.#extra.push(this.#fresh.subarray(at));
  }

  #islands({ at, length, from }: Region): void {
    const { gaps, islandLengths } = this.#numbers;
    const end = at + length;
    const delta = from - at;
    let done = at;
    for (let start = at; ; start = done) {
      start = this.#equalEnd(start, end, delta);
      if (start >= end) break;
      const stop = this.#islandEnd(start, end, delta);
      gaps.number(start - done);
      islandLengths.number(stop - start);
      this.#island(start, stop, delta);
      done = stop;
    }
    gaps.number(end - done);
    islandLengths.number(0);
  }

  #islandEnd(start: number, end: number, delta: number): number {
    const old = this.#old;
    const fresh = this.#fresh;
    let stop = start + 1;
    for (let at = stop; at < end && at - stop <= BRIDGE_BYTES; at += 1) {
      if (fresh[at] !== old[at + delta]) stop = at + 1;
    }
    return stop;
  }

  /** New less old, as numbers whose lowest byte comes first. */
  #island(start: number, stop: number, delta: number): void {
    const section = this.#shortIslands[stop - start - 1] ?? this.#longIslands;
    let borrow = 0;
    for (let at = start; at < stop; at += 1) {
      const less = (this.#fresh[at] ?? 0) - (this.#old[at + delta] ?? 0) - borrow;
      borrow = less < 0 ? 1 : 0;
      section.byte(less & 0xff);
    }
  }

  bytes(): Buffer {
    const { lengths, seeks, gaps, islandLengths } = this.#numbers;
    const writers = [lengths, seeks, gaps, islandLengths, this.#longIslands, ...this.#shortIslands];
    const sections = [...writers.map((writer) => writer.bytes()), Buffer.concat(this.#extra)];
    const head = new VarintWriter();
    for (const { length } of sections) head.number(length);
    return Buffer.concat([head.bytes(), ...sections]);
  }
}

/**
 * The difference of `fresh` from `old`, not compressed; undefined where they are not so similar
 * that it is worth while, or `fresh` is empty.
 *
 * @param old at most 2^30 bytes
 * @param fresh at most 2^30 bytes
 */
export function encodeDifference(
  old: Uint8Array,
  fresh: Uint8Array,
  options: SearchOptions = {},
): Buffer | undefined {
  const regions = findRegions(old, fresh, fresh.length / BYTES_PER_REGION_MIN, options);
  if (regions === undefined) return undefined;
  const writer = new DifferenceWriter(old, fresh);
  writer.write(regions);
  const bytes = writer.bytes();
  return bytes.length < fresh.length / 2 ? bytes : undefined;
}

/** Thrown inside this file only. */
class Malformed extends Error {}

function malformed(what: string): Malformed {
  return new Malformed(what);
}

/** Takes bytes from the front of a section; never beyond its end. */
class ByteReader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get remaining(): number {
    return this.#bytes.length - this.#at;
  }

  take(length: number): Uint8Array {
    if (length > this.remaining) throw malformed("a section is cut short");
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }
}

function sectionsOf(difference: Uint8Array): Uint8Array[] {
  const head = new VarintReader(difference, 0, malformed);
  const lengths = Array.from({ length: SECTIONS }, () => head.number());
  const rest = new ByteReader(difference.subarray(difference.length - head.remaining));
  const sections = lengths.map((length) => rest.take(length));
  if (rest.remaining > 0) throw malformed("bytes behind the sections");
  return sections;
}

const NOTHING = new Uint8Array(0);

class DifferenceReader {
  readonly #old: Uint8Array;
  readonly #raw: Uint8Array;
  readonly #numbers: Numbers<VarintReader>;
  readonly #longIslands: ByteReader;
  readonly #shortIslands: readonly ByteReader[];
  readonly #extra: ByteReader;

  constructor(old: Uint8Array, raw: Uint8Array, difference: Uint8Array) {
    this.#old = old;
    this.#raw = raw;
    const sections = sectionsOf(difference);
    const numbers = (index: number) => new VarintReader(sections[index] ?? NOTHING, 0, malformed);
    const bytes = (index: number) => new ByteReader(sections[index] ?? NOTHING);
    this.#numbers = {
      lengths: numbers(0),
      seeks: numbers(1),
      gaps: numbers(2),
      islandLengths: numbers(3),
    };
    this.#longIslands = bytes(4);
    this.#shortIslands = Array.from({ length: SHORT_BYTES }, (_none, index) => bytes(5 + index));
    this.#extra = bytes(SECTIONS - 1);
  }

  read(): void {
    const { lengths, seeks } = this.#numbers;
    const rawBytes = this.#raw.length;
    let [at, from] = [0, 0];
    while (lengths.remaining > 0) {
      const between = lengths.number();
      const length = lengths.number();
      if (length === 0 || between + length > rawBytes - at) throw malformed("a region is too long");
      this.#raw.set(this.#extra.take(between), at);
      from += unzigzag(seeks.number());
      if (from < 0 || length > this.#old.length - from) throw malformed("a region lies outside");
      this.#raw.set(this.#old.subarray(from, from + length), at + between);
      this.#islands(at + between, length);
      at += between + length;
      from += length;
    }
    if (this.#extra.remaining !== rawBytes - at) throw malformed("another size");
    this.#raw.set(this.#extra.take(rawBytes - at), at);
    this.#end();
  }

  #end(): void {
    const { seeks, gaps, islandLengths } = this.#numbers;
    const sections = [seeks, gaps, islandLengths, this.#longIslands, ...this.#shortIslands];
    if (sections.some(({ remaining }) => remaining > 0)) throw malformed("a section is too long");
  }

  #islands(at: number, length: number): void {
    const { gaps, islandLengths } = this.#numbers;
    const end = at + length;
    for (let start = at; ;) {
      start += gaps.number();
      const islandBytes = islandLengths.number();
      if (islandBytes > end - start) throw malformed("an island leaves its region");
      if (islandBytes === 0) {
        if (start !== end) throw malformed("a region ends early");
        return;
      }
      this.#island(start, islandBytes);
      start += islandBytes;
    }
  }

  #island(start: number, length: number): void {
    const raw = this.#raw;
    const bytes = (this.#shortIslands[length - 1] ?? this.#longIslands).take(length);
    let carry = 0;
    for (let index = 0; index < length; index += 1) {
      const sum = (raw[start + index] ?? 0) + (bytes[index] ?? 0) + carry;
      raw[start + index] = sum & 0xff;
      carry = sum >> 8;
    }
  }
}

/**
 * The inverse: fills `raw`. False when the difference is none of exactly so many bytes from these
 * old ones: then `raw` has any content. Time is bounded by the sizes of the arguments.
 */
export function decodeDifference(
  difference: Uint8Array,
  old: Uint8Array,
  raw: Uint8Array,
): boolean {
  try {
    new DifferenceReader(old, raw, difference).read();
    return true;
  } catch (error) {
    if (error instanceof Malformed) return false;
    throw error;
  }
}
