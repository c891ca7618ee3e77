/**
 * What an assembly records at a checkpoint: which contents of which recipe are whole, and which
 * parts of others are there.
 *
 *     version (1 byte: 2) | digest of the recipe (32 bytes) | parts | run lengths
 *
 * All numbers are those of the data protocol. First the number of parts, then of each the content's
 * distance from that of the part before, its offset, its length. The run lengths alternate,
 * beginning with a run of contents that are not whole; what they do not reach is not whole.
 * Specified in doc/gathering.md.
 */
import { endOf, TesseraError } from "#core";
import type { HeldPart } from "../held-parts.ts";
import { HELD_PARTS_MAX } from "../protocol.ts";
import { VarintReader, VarintWriter } from "../varint.ts";

const VERSION = 2;
const HEAD_BYTES = 33;

interface State {
  /** One element per content, 1 where it is whole. */
  readonly whole: Uint8Array;
  /** Of contents that are not whole: ascending, apart from each other. */
  readonly parts: readonly HeldPart[];
}

/** @param recipe 32 bytes */
export function encodeState(recipe: Uint8Array, { whole, parts }: State): Uint8Array {
  const writer = new VarintWriter();
  writer.number(parts.length);
  let before = 0;
  for (const { content, offset, length } of parts) {
    writer.number(content - before);
    writer.number(offset);
    writer.number(length);
    before = content;
  }
  let value = 0;
  let run = 0;
  for (const element of whole) {
    if (element !== value) {
      writer.number(run);
      value = element;
      run = 0;
    }
    run += 1;
  }
  if (value === 1) writer.number(run);
  return Buffer.concat([Buffer.of(VERSION), recipe, writer.bytes()]);
}

/** Undefined when the state is of another recipe or cannot be read. */
export function decodeState(
  state: Uint8Array,
  recipe: Uint8Array,
  contents: readonly { readonly sizeBytes: number }[],
): State | undefined {
  const own = state[0] === VERSION && Buffer.compare(state.subarray(1, HEAD_BYTES), recipe) === 0;
  if (!own) return undefined;
  try {
    const reader = new VarintReader(state, HEAD_BYTES);
    const parts = readParts(reader);
    const whole = readWhole(reader, contents.length);
    if (parts === undefined || whole === undefined) return undefined;
    const sizes = contents.map(({ sizeBytes }, content) => (whole[content] === 1 ? 0 : sizeBytes));
    return parts.every((part, at) => isSound(part, parts[at - 1], sizes))
      ? { whole, parts }
      : undefined;
  } catch (error) {
    if (error instanceof TesseraError) return undefined;
    throw error;
  }
}

/** Within its content, apart from the part before, and not all of it. */
function isSound(part: HeldPart, before: HeldPart | undefined, sizes: readonly number[]): boolean {
  const { content, length } = part;
  const sizeBytes = sizes[content] ?? 0;
  const follows = before?.content !== content || part.offset > endOf(before);
  return follows && length > 0 && length < sizeBytes && endOf(part) <= sizeBytes;
}

function readParts(reader: VarintReader): HeldPart[] | undefined {
  const count = reader.count(3);
  if (count > HELD_PARTS_MAX) return undefined;
  let content = 0;
  return Array.from({ length: count }, () => {
    content += reader.number();
    return { content, offset: reader.number(), length: reader.number() };
  });
}

function readWhole(reader: VarintReader, contents: number): Uint8Array | undefined {
  const whole = new Uint8Array(contents);
  let [value, index] = [0, 0];
  while (reader.remaining > 0) {
    const run = reader.number();
    if (run > contents - index) return undefined;
    whole.fill(value, index, index + run);
    index += run;
    value = 1 - value;
  }
  return whole;
}
