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

/**
 * The length of the chunk that begins at `start`; `end` is the end of the image, or leaves at least
 * `CHUNK_BYTES_MAX` bytes.
 */
export function chunkLength(bytes: Uint8Array, start: number, end: number): number {
  const last = Math.min(end, start + CHUNK_BYTES_MAX);
  const normal = Math.min(last, start + CHUNK_BYTES_NORMAL);
  const table = GEAR;
  let gear = 0;
  let at = start + CHUNK_BYTES_MIN;
  /* Within both arrays; a test for it would cost a third of the speed. */
  while (at < normal) {
    gear = ((gear << 1) + (table[bytes[at] as number] as number)) | 0;
    at += 1;
    if (gear >>> SHIFT_BEFORE === 0) return at - start;
  }
  while (at < last) {
    gear = ((gear << 1) + (table[bytes[at] as number] as number)) | 0;
    at += 1;
    if (gear >>> SHIFT_AFTER === 0) return at - start;
  }
  return last - start;
}
