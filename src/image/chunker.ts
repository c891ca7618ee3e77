/** Content-defined chunking (FastCDC, Xia et al., USENIX ATC 2016): see `doc/recipe.md`. */
import { hash } from "node:crypto";

export const CHUNK_BYTES_MIN = 16 * 1024;
const CHUNK_BYTES_NORMAL = 64 * 1024;
export const CHUNK_BYTES_MAX = 256 * 1024;

/** Bits that must be zero for a cut before and after the normal size (normalisation level 2). */
const SHIFT_BEFORE = 32 - 18;
const SHIFT_AFTER = 32 - 14;

/** A random number for each value of a byte, from sha256 so that everybody has the same. */
const GEAR = Int32Array.from({ length: 256 }, (_, byte) =>
  hash(
    "sha256",
    Buffer.concat([Buffer.from("tessera gear 1\n"), Buffer.of(byte)]),
    "buffer",
  ).readInt32BE(0),
);

/** What came earlier has been shifted out of the hash. */
const GEAR_WINDOW_BYTES = 32;

/**
 * The first end in `from` to `to` where the hash has `32 - shift` zero bits in front, or -1. Indices
 * are within both arrays: tests for it, or steps of one byte, would cost a third of the speed.
 */
function scan(bytes: Uint8Array, from: number, to: number, shift: number, before: number): number {
  const table = GEAR;
  let gear = before;
  let at = from;
  for (; at + 4 <= to; at += 4) {
    gear = ((gear << 1) + (table[bytes[at] as number] as number)) | 0;
    if (gear >>> shift === 0) return at + 1;
    gear = ((gear << 1) + (table[bytes[at + 1] as number] as number)) | 0;
    if (gear >>> shift === 0) return at + 2;
    gear = ((gear << 1) + (table[bytes[at + 2] as number] as number)) | 0;
    if (gear >>> shift === 0) return at + 3;
    gear = ((gear << 1) + (table[bytes[at + 3] as number] as number)) | 0;
    if (gear >>> shift === 0) return at + 4;
  }
  for (; at < to; at += 1) {
    gear = ((gear << 1) + (table[bytes[at] as number] as number)) | 0;
    if (gear >>> shift === 0) return at + 1;
  }
  return -1;
}

function gearBefore(bytes: Uint8Array, at: number): number {
  let gear = 0;
  for (const byte of bytes.subarray(at - GEAR_WINDOW_BYTES, at)) {
    gear = ((gear << 1) + (GEAR[byte] ?? 0)) | 0;
  }
  return gear;
}

/**
 * The length of the chunk that begins at `start`; `end` is the end of the image, or leaves at least
 * `CHUNK_BYTES_MAX` bytes.
 */
export function chunkLength(bytes: Uint8Array, start: number, end: number): number {
  const least = start + CHUNK_BYTES_MIN;
  const normal = start + CHUNK_BYTES_NORMAL;
  const last = Math.min(end, start + CHUNK_BYTES_MAX);
  const early = scan(bytes, least, Math.min(normal, last), SHIFT_BEFORE, 0);
  if (early >= 0 || last <= normal) return (early >= 0 ? early : last) - start;
  const late = scan(bytes, normal, last, SHIFT_AFTER, gearBefore(bytes, normal));
  return (late >= 0 ? late : last) - start;
}
