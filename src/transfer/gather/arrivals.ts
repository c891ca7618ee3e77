/** Contents on their way from a source into the image. */
import type { Digest, TesseraError } from "#core";
import type { ContentExtent, Recipe } from "#image";
import type { ContentPiece } from "../contract.ts";
import { peerError } from "../errors.ts";
import type { ImageWriter } from "./image-writer.ts";
import { Measure, measured, type Measured } from "./measure.ts";

/** Contents that are measured while they come; the others are read back when they are whole. */
const MEASURES_MAX = 16;
const READ_BYTES = 2 ** 20;

/** An image that is being put together: what all who write into it share. */
export interface Building {
  readonly component: Digest;
  readonly recipe: Recipe;
  readonly writer: ImageWriter;
  /** One element per content, 1 where it is whole. */
  readonly whole: Uint8Array;
  /** Of each whole content. */
  readonly measured: (Measured | undefined)[];
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
  /** What has come, ascending, not touching each other. */
  ranges: { from: number; to: number }[];
  /** Of the bytes from the beginning on; absent where too many are measured already. */
  readonly measure: Measure | undefined;
}

/** One source's contents; what another has begun is begun anew, so that each content has one. */
export class Intake {
  readonly #building: Building;
  readonly #wanted: ReadonlySet<number>;
  readonly #partial = new Map<number, Partial>();

  constructor(building: Building, wanted: ReadonlySet<number>) {
    this.#building = building;
    this.#wanted = wanted;
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
    this.#finish(content, facts);
  }

  async #takePart(content: number, offset: number, bytes: Uint8Array): Promise<void> {
    const { recipe, writer } = this.#building;
    const partial = this.#partialOf(content);
    // What came before is repeated after a cut; it is taken once, so that it cannot change.
    const known = Math.max(0, Math.min(bytes.length, (partial.measure?.takenBytes ?? 0) - offset));
    const [fresh, at] = [bytes.subarray(known), offset + known];
    if (fresh.length === 0) return;
    await putPiece(writer, partial.places, at, fresh);
    if (at === partial.measure?.takenBytes) partial.measure.update(fresh);
    partial.ranges = withRange(partial.ranges, at, at + fresh.length);
    const [first] = partial.ranges;
    const sizeBytes = recipe.contents[content]?.sizeBytes;
    if (first?.from === 0 && first.to === sizeBytes) await this.#close(content, partial, sizeBytes);
  }

  #partialOf(content: number): Partial {
    const known = this.#partial.get(content);
    if (known !== undefined) return known;
    const measure = this.#partial.size < MEASURES_MAX ? new Measure() : undefined;
    const places = this.#building.recipe.places(content);
    const partial: Partial = { places, ranges: [], measure };
    this.#partial.set(content, partial);
    return partial;
  }

  async #close(content: number, { measure }: Partial, sizeBytes: number): Promise<void> {
    this.#partial.delete(content);
    const facts =
      measure?.takenBytes === sizeBytes
        ? measure.end()
        : await measureWritten(this.#building, content);
    this.#require(content, facts);
    this.#finish(content, facts);
  }

  #require(content: number, { digest }: Measured): void {
    const { component, recipe } = this.#building;
    if (recipe.contents[content]?.head === headOf(digest)) return;
    throw sourceLied(component, `content ${content} has another digest than the recipe says`);
  }

  #finish(content: number, facts: Measured): void {
    this.#building.whole[content] = 1;
    this.#building.measured[content] = facts;
  }
}

/** The ranges with one more, joined where they touch. */
function withRange(
  ranges: readonly { from: number; to: number }[],
  from: number,
  to: number,
): { from: number; to: number }[] {
  const apart = ranges.filter((range) => range.to < from || range.from > to);
  const touching = ranges.filter((range) => range.to >= from && range.from <= to);
  const joined = {
    from: Math.min(from, ...touching.map((range) => range.from)),
    to: Math.max(to, ...touching.map((range) => range.to)),
  };
  return [...apart, joined].toSorted((a, b) => a.from - b.from);
}
