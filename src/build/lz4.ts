/**
 * The LZ4 legacy frame, as the Linux kernel is packed with it: the magic number, then blocks, each
 * preceded by its compressed size in four bytes (LZ4 Frame Format, "Legacy frame"; LZ4 Block
 * Format). The input may be hostile: reads and writes are checked.
 */

const MAGIC = 0x184c2102;
const BLOCK_BYTES_MAX = 8 * 2 ** 20;
const MATCH_BYTES_MIN = 4;

/** The input is no legacy frame or breaks its rules. */
export class Lz4Error extends Error {}

function lengthFrom(source: Uint8Array, start: number, nibble: number) {
  let length = nibble;
  let at = start;
  if (nibble === 15) {
    for (let more = 255; more === 255; at += 1) {
      more = source[at] ?? fail("a length is cut off");
      length += more;
    }
  }
  return { length, at };
}

function fail(problem: string): never {
  throw new Lz4Error(problem);
}

/** Most pieces are short, and then a call costs more than the bytes. */
const SHORT_BYTES = 48;

function copyLiterals(
  target: Uint8Array,
  position: number,
  source: Uint8Array,
  from: number,
  length: number,
): void {
  if (length > SHORT_BYTES) {
    target.set(source.subarray(from, from + length), position);
    return;
  }
  for (let index = 0; index < length; index += 1) {
    target[position + index] = source[from + index] ?? 0;
  }
}

/** Copies a match; it may overlap what it makes, so it goes byte by byte where it must. */
function copyMatch(target: Uint8Array, position: number, distance: number, length: number): void {
  const from = position - distance;
  if (distance >= length && length > SHORT_BYTES) {
    target.copyWithin(position, from, from + length);
    return;
  }
  for (let index = 0; index < length; index += 1) {
    target[position + index] = target[from + index] ?? 0;
  }
}

/** Unpacks one block into `target`; returns the bytes made. */
function decodeBlock(source: Uint8Array, target: Uint8Array): number {
  let at = 0;
  let made = 0;
  while (at < source.length) {
    const token = source[at] ?? 0;
    const literals = lengthFrom(source, at + 1, token >> 4);
    const end = literals.at + literals.length;
    if (end > source.length || made + literals.length > target.length) fail("literals run over");
    copyLiterals(target, made, source, literals.at, literals.length);
    made += literals.length;
    if (end === source.length) return made;
    const distance = (source[end] ?? 0) | ((source[end + 1] ?? 0) << 8);
    if (end + 2 > source.length || distance === 0 || distance > made) fail("a match is outside");
    const match = lengthFrom(source, end + 2, token & 15);
    const length = match.length + MATCH_BYTES_MIN;
    if (made + length > target.length) fail("a match runs over");
    copyMatch(target, made, distance, length);
    made += length;
    at = match.at;
  }
  return made;
}

/**
 * Unpacks a legacy frame of at most `bytesMax`.
 *
 * @throws {@link Lz4Error}
 */
export function decodeLz4Legacy(source: Uint8Array, bytesMax: number): Uint8Array {
  const view = new DataView(source.buffer, source.byteOffset, source.byteLength);
  if (source.length < 4 || view.getUint32(0, true) !== MAGIC) fail("there is no legacy frame");
  const block = new Uint8Array(BLOCK_BYTES_MAX);
  const blocks: Uint8Array[] = [];
  let total = 0;
  for (let at = 4; at < source.length;) {
    if (at + 4 > source.length) fail("a block size is cut off");
    const size = view.getUint32(at, true);
    at += 4;
    if (size === 0 || at + size > source.length) fail("a block is cut off");
    const made = block.slice(0, decodeBlock(source.subarray(at, at + size), block));
    total += made.length;
    if (total > bytesMax) fail("it unpacks to too much");
    blocks.push(made);
    at += size;
  }
  return new Uint8Array(Buffer.concat(blocks));
}
