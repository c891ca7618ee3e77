import { hexOf, type Digest } from "#core";
import { sketcher, type Sketcher } from "#delta";
import { decodeRecipe, encodeRecipe, readRecipe, type ContentSource } from "#image";
import { digestOf } from "./blobs.ts";
import type { HeldRecipe } from "./contract.ts";
import { invalid } from "./decode.ts";

const DIGEST_BYTES = 32;
const SIZE_BYTES = 8;
/** Size (little-endian) and sha256 of a content. */
const FACT_BYTES = SIZE_BYTES + DIGEST_BYTES;
const WORD_BYTES = 4;

/** Reads what an image is made of; each content is hashed and sketched on the way. */
export async function describeImage(id: Digest, image: ContentSource): Promise<HeldRecipe> {
  const sketches: Uint32Array[] = [];
  let current: { readonly index: number; readonly sketcher: Sketcher } | undefined;
  const finish = () => {
    if (current !== undefined) sketches[current.index] = current.sketcher.digest();
  };
  const { recipe, digests } = await readRecipe(image, {
    visit: (index, bytes, offset) => {
      if (offset === 0) {
        finish();
        current = { index, sketcher: sketcher() };
      }
      current?.sketcher.update(bytes);
    },
  });
  finish();
  const { length } = recipe.contents;
  return { component: id, recipe, digests, sketches: sketches.slice(0, length) };
}

/** True when sizes, heads and numbers agree: what a caller says of a component can be kept. */
export function isConsistent(held: HeldRecipe, id: Digest, sizeBytes: number): boolean {
  const { component, recipe, digests, sketches } = held;
  const { length } = recipe.contents;
  if (component !== id || recipe.sizeBytes !== sizeBytes) return false;
  if (digests.length !== length || sketches.length !== length) return false;
  return recipe.contents.every(({ head }, index) => headOf(digests[index]) === head);
}

function headOf(digest: Uint8Array | undefined): string | undefined {
  return digest?.length === DIGEST_BYTES ? hexOfBytes(digest.subarray(0, 8)) : undefined;
}

function hexOfBytes(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex");
}

/** A held recipe as the file index keeps it. */
export interface DescribedBytes {
  readonly recipe: Uint8Array;
  /** Per content its size and sha256. */
  readonly facts: Uint8Array;
  /** Per content the count of numbers in its sketch, then the numbers; little-endian. */
  readonly sketches: Uint8Array;
  /** Over all of them. */
  readonly check: Uint8Array;
}

export function encodeDescribed({ recipe, digests, sketches }: HeldRecipe): DescribedBytes {
  const bytes = {
    recipe: encodeRecipe(recipe),
    facts: encodeFacts(recipe.contents, digests),
    sketches: encodeSketches(sketches),
  };
  return { ...bytes, check: checkOf(bytes) };
}

/** @throws `repository.json-invalid`, or what the recipe's decoder throws (corrupt) */
export function decodeDescribed(id: Digest, bytes: DescribedBytes): HeldRecipe {
  if (!Buffer.from(checkOf(bytes)).equals(bytes.check)) {
    throw invalid("file index", `the entry of ${id} has another digest`);
  }
  const recipe = decodeRecipe(bytes.recipe);
  const facts = new ContentFacts(bytes.facts);
  const digests = recipe.contents.map((_, index) => facts.digest(index));
  const sketches = decodeSketches(bytes.sketches, recipe.contents.length);
  return { component: id, recipe, digests, sketches };
}

function checkOf(bytes: Omit<DescribedBytes, "check">): Uint8Array {
  const digests = [bytes.recipe, bytes.facts, bytes.sketches].map((part) => hexOf(digestOf(part)));
  return Buffer.from(hexOf(digestOf(Buffer.from(digests.join(""), "hex"))), "hex");
}

function encodeFacts(
  contents: readonly { readonly sizeBytes: number }[],
  digests: readonly Uint8Array[],
): Uint8Array {
  const facts = Buffer.alloc(contents.length * FACT_BYTES);
  for (const [index, { sizeBytes }] of contents.entries()) {
    const at = index * FACT_BYTES;
    facts.writeBigUInt64LE(BigInt(sizeBytes), at);
    facts.set(digests[index] ?? new Uint8Array(DIGEST_BYTES), at + SIZE_BYTES);
  }
  return facts;
}

/** Sizes and digests of a component's contents, by index. */
export class ContentFacts {
  readonly #bytes: Buffer;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get count(): number {
    return Math.floor(this.#bytes.length / FACT_BYTES);
  }

  get bytes(): number {
    return this.#bytes.length;
  }

  /** The first 4 bytes of the digest as a number. */
  prefix(index: number): number {
    return this.#bytes.readUInt32BE(index * FACT_BYTES + SIZE_BYTES);
  }

  sizeBytes(index: number): number {
    return Number(this.#bytes.readBigUInt64LE(index * FACT_BYTES));
  }

  /** The first 8 bytes of the digest in hexadecimal. */
  head(index: number): string {
    const at = index * FACT_BYTES + SIZE_BYTES;
    return this.#bytes.toString("hex", at, at + 8);
  }

  digest(index: number): Uint8Array {
    const at = index * FACT_BYTES + SIZE_BYTES;
    return this.#bytes.subarray(at, at + DIGEST_BYTES);
  }
}

function encodeSketches(sketches: readonly Uint32Array[]): Uint8Array {
  const words = sketches.reduce((sum, { length }) => sum + 1 + length, 0);
  const bytes = Buffer.alloc(words * WORD_BYTES);
  let at = 0;
  for (const sketch of sketches) {
    at = bytes.writeUInt32LE(sketch.length, at);
    for (const value of sketch) at = bytes.writeUInt32LE(value, at);
  }
  return bytes;
}

function decodeSketches(content: Uint8Array, count: number): Uint32Array[] {
  const bytes = Buffer.from(content.buffer, content.byteOffset, content.byteLength);
  const sketches: Uint32Array[] = [];
  let at = 0;
  for (let index = 0; index < count; index += 1) {
    const length = at + WORD_BYTES <= bytes.length ? bytes.readUInt32LE(at) : Infinity;
    at += WORD_BYTES;
    if (at + length * WORD_BYTES > bytes.length) throw invalid("file index", "a sketch ends early");
    const sketch = new Uint32Array(length);
    for (let word = 0; word < length; word += 1, at += WORD_BYTES) {
      sketch[word] = bytes.readUInt32LE(at);
    }
    sketches.push(sketch);
  }
  return sketches;
}
