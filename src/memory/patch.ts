/** Differences between two versions of a page: runs of equal bytes and of new ones. */
import { VarintReader, VarintWriter } from "#core";
import { PAGE_BYTES, streamInvalid } from "./format.ts";

/** Words of four bytes that are equal between two changes and yet belong to one run. */
const GAP_WORDS = 2;
const WORDS = PAGE_BYTES / 4;

/** A run of new bytes. */
interface Run {
  readonly start: number;
  readonly end: number;
}

function changedRuns(old: Uint8Array, page: Uint8Array): Run[] {
  const before = words(old);
  const after = words(page);
  const runs: Run[] = [];
  let start = -1;
  let last = -1;
  for (let at = 0; at < WORDS; at += 1) {
    if (before[at] === after[at]) continue;
    if (start !== -1 && at - last > GAP_WORDS) {
      runs.push({ start: start * 4, end: last * 4 + 4 });
      start = -1;
    }
    if (start === -1) start = at;
    last = at;
  }
  if (start !== -1) runs.push({ start: start * 4, end: last * 4 + 4 });
  return runs;
}

function words(page: Uint8Array): Uint32Array {
  const aligned = page.byteOffset % 4 === 0 ? page : Uint8Array.from(page);
  return new Uint32Array(aligned.buffer, aligned.byteOffset, WORDS);
}

/** What makes `page` of `old`; undefined where it would have more than `bytesMax`. */
export function makePatch(old: Uint8Array, page: Uint8Array, bytesMax: number): Buffer | undefined {
  const runs = changedRuns(old, page);
  if (runs.reduce((sum, { start, end }) => sum + end - start + 2, 0) > bytesMax) return undefined;
  const pieces: Uint8Array[] = [];
  let at = 0;
  for (const { start, end } of runs) {
    const numbers = new VarintWriter();
    numbers.number(start - at);
    numbers.number(end - start);
    pieces.push(numbers.bytes(), page.subarray(start, end));
    at = end;
  }
  const patch = Buffer.concat(pieces);
  return patch.length > bytesMax ? undefined : patch;
}

/**
 * The page that `patch` makes of `old`, in memory of its own.
 *
 * @throws `memory.stream-invalid`
 */
export function applyPatch(old: Uint8Array, patch: Buffer): Buffer {
  const page = Buffer.from(old);
  const reader = new VarintReader(patch, 0, streamInvalid);
  let at = 0;
  while (reader.remaining > 0) {
    at += reader.number();
    const length = reader.number();
    const from = patch.length - reader.remaining;
    if (length > reader.remaining || length > PAGE_BYTES - at || length === 0) {
      throw streamInvalid("a patch goes beyond its page");
    }
    page.set(patch.subarray(from, from + length), at);
    reader.skip(length);
    at += length;
  }
  return page;
}
