/** Contents on their way from a source into the image. */
import { createHash, hash, type Hash } from "node:crypto";
import { TesseraError, type Digest } from "#core";
import type { ContentExtent, Recipe } from "#image";
import type { ContentPiece } from "../contract.ts";
import { peerError } from "../errors.ts";
import type { ImageWriter } from "./image-writer.ts";

/** Contents that are hashed while they come; the others are read back when they are whole. */
const HASHES_MAX = 16;
const READ_BYTES = 2 ** 20;

/** An image that is being put together: what all who write into it share. */
export interface Building {
  readonly component: Digest;
  readonly recipe: Recipe;
  readonly writer: ImageWriter;
  /** One element per content, 1 where it is whole. */
  readonly whole: Uint8Array;
  /** sha256 of each whole content. */
  readonly digests: (Uint8Array | undefined)[];
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

/** Reads a content back from its first place, piece by piece, and hashes it. */
export async function hashWritten({ recipe, writer }: Building, content: number): Promise<Buffer> {
  const digest = createHash("sha256");
  const [place = []] = recipe.places(content);
  for (const { length, position } of place) {
    for (let done = 0; done < length; done += READ_BYTES) {
      const target = new Uint8Array(Math.min(READ_BYTES, length - done));
      await writer.read(target, position + done);
      digest.update(target);
    }
  }
  return digest.digest();
}

interface Partial {
  readonly places: readonly (readonly ContentExtent[])[];
  /** What has come, ascending, not touching each other. */
  ranges: { from: number; to: number }[];
  hash: Hash | undefined;
  hashedBytes: number;
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
    const digest = hash("sha256", bytes, "buffer");
    this.#require(content, digest);
    await putPiece(writer, recipe.places(content), 0, bytes);
    this.#finish(content, digest);
  }

  async #takePart(content: number, offset: number, bytes: Uint8Array): Promise<void> {
    const { recipe, writer } = this.#building;
    const partial = this.#partialOf(content);
    const fresh = bytes.subarray(Math.max(0, Math.min(bytes.length, partial.hashedBytes - offset)));
    const at = offset + bytes.length - fresh.length;
    if (fresh.length === 0) return;
    await putPiece(writer, partial.places, at, fresh);
    if (partial.hash !== undefined && at === partial.hashedBytes) {
      partial.hash.update(fresh);
      partial.hashedBytes += fresh.length;
    }
    partial.ranges = withRange(partial.ranges, at, at + fresh.length);
    const [first] = partial.ranges;
    const sizeBytes = recipe.contents[content]?.sizeBytes;
    if (first?.from === 0 && first.to === sizeBytes) await this.#close(content, partial, sizeBytes);
  }

  #partialOf(content: number): Partial {
    const known = this.#partial.get(content);
    if (known !== undefined) return known;
    const hashes = this.#partial.size < HASHES_MAX ? createHash("sha256") : undefined;
    const places = this.#building.recipe.places(content);
    const partial: Partial = { places, ranges: [], hash: hashes, hashedBytes: 0 };
    this.#partial.set(content, partial);
    return partial;
  }

  async #close(content: number, partial: Partial, sizeBytes: number): Promise<void> {
    this.#partial.delete(content);
    const digest =
      partial.hash !== undefined && partial.hashedBytes === sizeBytes
        ? partial.hash.digest()
        : await hashWritten(this.#building, content);
    this.#require(content, digest);
    this.#finish(content, digest);
  }

  #require(content: number, digest: Uint8Array): void {
    const { component, recipe } = this.#building;
    if (recipe.contents[content]?.head === headOf(digest)) return;
    throw sourceLied(component, `content ${content} has another digest than the recipe says`);
  }

  #finish(content: number, digest: Uint8Array): void {
    const { whole, digests } = this.#building;
    if (whole[content] === 1) return;
    whole[content] = 1;
    digests[content] = digest;
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
