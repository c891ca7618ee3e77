import { endOf, type ByteRange } from "#core";
import { EXTENT } from "./protocol.ts";

export interface Descriptor {
  readonly length: number;
  readonly flags: number;
}

/** The first of sorted ranges that ends after `offset`. */
function firstAfter(ranges: readonly ByteRange[], offset: number): number {
  let [low, high] = [0, ranges.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    const range = ranges[middle];
    if (range !== undefined && endOf(range) <= offset) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * The descriptors of `base:allocation` for a range that is not empty: what lies outside of the
 * sorted, merged `allocated` ranges is a hole that reads as zeroes. At most `countMax`; the client
 * asks again for the rest.
 */
export function allocationOf(
  allocated: readonly ByteRange[],
  range: ByteRange,
  countMax: number,
): Descriptor[] {
  const found: Descriptor[] = [];
  const end = endOf(range);
  let at = range.offset;
  for (let index = firstAfter(allocated, at); at < end && found.length < countMax;) {
    const next = allocated[index];
    const isData = next !== undefined && next.offset <= at;
    const until = next === undefined ? end : isData ? endOf(next) : next.offset;
    const length = Math.min(until, end) - at;
    found.push({ length, flags: isData ? 0 : EXTENT.HOLE | EXTENT.ZERO });
    if (isData) index += 1;
    at += length;
  }
  return found;
}
