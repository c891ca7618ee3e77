/** Contents on their way from a source into the image. */
import {
  endOf,
  mergeRanges,
  totalLength,
  type ByteRange,
  type Digest,
  type TesseraError,
} from "#core";
import type { ContentExtent, Recipe } from "#image";
import type { ContentsReader } from "#repository";
import type { ContentPiece } from "../contract.ts";
import { peerError } from "../errors.ts";
import type { HeldPart } from "../held-parts.ts";
import { HELD_PARTS_MAX } from "../protocol.ts";
import type { GatherSource } from "./contract.ts";
import type { ImageWriter } from "./image-writer.ts";
import { Measure, measured, type Measured } from "./measure.ts";

/** Contents that are measured while they come; the others are read back when they are whole. */
const MEASURES_MAX = 16;
const READ_BYTES = 2 ** 20;

/** What is in the image of a content that is not whole. */
interface Part {
  /** Who sent it; undefined: it came in an earlier attempt, from whomever. */
  readonly source: GatherSource | undefined;
  /** Ascending, apart from each other. */
  readonly ranges: readonly ByteRange[];
}

/** An image that is being put together: what all who write into it share. */
export interface Building {
  readonly component: Digest;
  readonly recipe: Recipe;
  readonly writer: ImageWriter;
  /** One element per content, 1 where it is whole. */
  readonly whole: Uint8Array;
  /** By content. */
  readonly parts: Map<number, Part>;
  /** Of each whole content. */
  readonly measured: (Measured | undefined)[];
}

/** The largest of the parts, as many as are ever told, in order. */
export function toldParts({ parts, whole }: Pick<Building, "parts" | "whole">): HeldPart[] {
  return [...parts]
    .flatMap(([content, { ranges }]) => ranges.map((range) => ({ content, ...range })))
    .filter(({ content }) => whole[content] === 0)
    .toSorted((a, b) => b.length - a.length)
    .slice(0, HELD_PARTS_MAX)
    .toSorted((a, b) => a.content - b.content || a.offset - b.offset);
}

/** What an earlier attempt left, by content. */
export function partsOf(told: readonly HeldPart[]): Map<number, Part> {
  const parts = new Map<number, Part>();
  for (const { content, ...range } of told) {
    const ranges = [...(parts.get(content)?.ranges ?? []), range];
    parts.set(content, { source: undefined, ranges });
  }
  return parts;
}

export function sourceLied(component: Digest, message: string, cause?: unknown): TesseraError {
  return peerError("source-lied", message, {
    subject: component,
    remedy: "run verify at that cloud; the component is fetched from another one",
    cause,
  });
}

/** The first 16 hexadecimal digits, as recipes have them. */
export function headOf(digest: Uint8Array): string {
  return Buffer.from(digest.buffer, digest.byteOffset, 8).toString("hex");
}

/** Writes a run of a content's bytes to all of its places. */
export async function putPiece(
  writer: ImageWriter,
  places: readonly (readonly ContentExtent[])[],
  offset: number,
  bytes: Uint8Array,
): Promise<void> {
  const end = offset + bytes.length;
  for (const place of places) {
    for (const extent of place) {
      const from = Math.max(offset, extent.offset);
      const to = Math.min(end, extent.offset + extent.length);
      if (from >= to) continue;
      const run = bytes.subarray(from - offset, to - offset);
      await writer.put(run, extent.position + from - extent.offset);
    }
  }
}

/** Reads contents back that are whole, from their first places. */
export function readerOf({ recipe, writer }: Building): Pick<ContentsReader, "read"> {
  return {
    read: async (content, target, offset) => {
      const [place = []] = recipe.places(content);
      for (const extent of place) {
        const from = Math.max(offset, extent.offset);
        const to = Math.min(offset + target.length, endOf(extent));
        if (from >= to) continue;
        const part = target.subarray(from - offset, to - offset);
        await writer.read(part, extent.position + from - extent.offset);
      }
    },
  };
}

/** Reads a content back from its first place and measures it. */
export async function measureWritten(
  { recipe, writer }: Building,
  content: number,
): Promise<Measured> {
  const measure = new Measure();
  const [place = []] = recipe.places(content);
  for (const { length, position } of place) {
    for (let done = 0; done < length; done += READ_BYTES) {
      const target = new Uint8Array(Math.min(READ_BYTES, length - done));
      await writer.read(target, position + done);
      measure.update(target);
    }
  }
  return measure.end();
}

interface Partial {
  readonly places: readonly (readonly ContentExtent[])[];
  /** Of the bytes from the beginning on; absent where too many are measured already. */
  readonly measure: Measure | undefined;
}

/**
 * One source's contents. What another source has begun is begun anew, so that who lied is known;
 * what came in an earlier attempt is gone on with, and given up when the content is not sound.
 */
export class Intake {
  readonly #building: Building;
  readonly #source: GatherSource;
  readonly #wanted: ReadonlySet<number>;
  readonly #partial = new Map<number, Partial>();
  readonly #unsound = new Set<number>();
  /** What need not be asked for. */
  readonly held: readonly HeldPart[];

  constructor(building: Building, wanted: ReadonlySet<number>, source: GatherSource) {
    this.#building = building;
    this.#wanted = wanted;
    this.#source = source;
    this.held = this.#goOn();
  }

  /** Contents that came but were not sound, by no fault of the source: to be asked for again. */
  get unsound(): ReadonlySet<number> {
    return this.#unsound;
  }

  #goOn(): HeldPart[] {
    const { parts } = this.#building;
    const kept = new Map<number, Part>();
    for (const content of this.#wanted) {
      const part = parts.get(content);
      parts.delete(content);
      if (part === undefined) continue;
      if (part.source === undefined || part.source === this.#source) kept.set(content, part);
    }
    const held = toldParts({ parts: kept, whole: this.#building.whole });
    for (const { content, ...range } of held) {
      const ranges = [...(parts.get(content)?.ranges ?? []), range];
      parts.set(content, { source: kept.get(content)?.source, ranges });
    }
    return held;
  }

  /**
   * Takes a piece; one call at a time.
   *
   * @throws `transfer.source-lied`; what the image's writing throws
   */
  async take({ content, offset, bytes }: ContentPiece): Promise<void> {
    const { component, recipe, whole, writer } = this.#building;
    const sizeBytes = recipe.contents[content]?.sizeBytes ?? 0;
    if (!this.#wanted.has(content) || offset < 0 || offset + bytes.length > sizeBytes) {
      throw sourceLied(component, `content ${content} came where it was not asked for`);
    }
    if (whole[content] === 1 || bytes.length === 0) return;
    if (bytes.length < sizeBytes) return await this.#takePart(content, offset, bytes);
    const facts = measured(bytes);
    this.#require(content, facts);
    await putPiece(writer, recipe.places(content), 0, bytes);
    this.#building.parts.delete(content);
    this.#finish(content, facts);
  }

  async #takePart(content: number, offset: number, bytes: Uint8Array): Promise<void> {
    const { recipe, writer, parts } = this.#building;
    const { places, measure } = this.#partialOf(content);
    // What came before is repeated after a cut; it is taken once, so that it cannot change.
    const known = Math.max(0, Math.min(bytes.length, (measure?.takenBytes ?? 0) - offset));
    const [fresh, at] = [bytes.subarray(known), offset + known];
    if (fresh.length === 0) return;
    await putPiece(writer, places, at, fresh);
    if (at === measure?.takenBytes) measure.update(fresh);
    const { source, ranges: before } = parts.get(content) ?? { source: this.#source, ranges: [] };
    const ranges = mergeRanges([...before, { offset: at, length: fresh.length }]);
    parts.set(content, { source, ranges });
    const sizeBytes = recipe.contents[content]?.sizeBytes;
    if (totalLength(ranges) === sizeBytes) await this.#close(content, measure, sizeBytes);
  }

  #partialOf(content: number): Partial {
    const known = this.#partial.get(content);
    if (known !== undefined) return known;
    const begun = this.#building.parts.has(content);
    const measure = this.#partial.size < MEASURES_MAX && !begun ? new Measure() : undefined;
    const places = this.#building.recipe.places(content);
    const partial: Partial = { places, measure };
    this.#partial.set(content, partial);
    return partial;
  }

  async #close(content: number, measure: Measure | undefined, sizeBytes: number): Promise<void> {
    this.#partial.delete(content);
    const facts =
      measure?.takenBytes === sizeBytes
        ? measure.end()
        : await measureWritten(this.#building, content);
    const part = this.#building.parts.get(content);
    this.#building.parts.delete(content);
    if (part?.source === undefined && !this.#isSound(content, facts)) this.#unsound.add(content);
    else this.#require(content, facts);
    if (!this.#unsound.has(content)) this.#finish(content, facts);
  }

  #isSound(content: number, { digest }: Measured): boolean {
    return this.#building.recipe.contents[content]?.head === headOf(digest);
  }

  #require(content: number, facts: Measured): void {
    if (this.#isSound(content, facts)) return;
    const message = `content ${content} has another digest than the recipe says`;
    throw sourceLied(this.#building.component, message);
  }

  #finish(content: number, facts: Measured): void {
    this.#building.whole[content] = 1;
    this.#building.measured[content] = facts;
  }
}
