/** The answer to a stream `map`, before compression; see doc/data-protocol.md, "Maps". */
import { endOf, mergeRanges, type ByteRange } from "#core";
import { violation } from "./errors.ts";
import { EXTENTS_MAX } from "./protocol.ts";
import { VarintReader, VarintWriter } from "./varint.ts";

const UNIT_LOG_MAX = 16;

/**
 * At most so many extents that cover those given: where there are more, the smallest gaps are taken
 * in. Pure.
 *
 * @param extents ascending and apart
 */
export function coarsen(
  extents: readonly ByteRange[],
  extentsMax = EXTENTS_MAX,
): readonly ByteRange[] {
  const excess = extents.length - extentsMax;
  if (excess <= 0) return extents;
  const gaps = gapsOf(extents);
  const limit = gaps.toSorted()[excess - 1] ?? 0;
  let ties = excess - gaps.reduce((sum, gap) => sum + (gap < limit ? 1 : 0), 0);
  const coarse: { offset: number; length: number }[] = [];
  extents.forEach((extent, at) => {
    const gap = at === 0 ? Infinity : (gaps[at - 1] ?? Infinity);
    const last = coarse.at(-1);
    const joins = gap < limit || (gap === limit && ties > 0);
    if (last === undefined || !joins) {
      coarse.push({ offset: extent.offset, length: extent.length });
    } else last.length = endOf(extent) - last.offset;
    if (joins && gap === limit) ties -= 1;
  });
  return coarse;
}

/** The extents ascending and apart; the same ones where they are, which is quick to see. */
export function inOrder(extents: readonly ByteRange[]): readonly ByteRange[] {
  let end = -1;
  const are = extents.every((extent) => {
    const apart = extent.offset > end && extent.length > 0;
    end = endOf(extent);
    return apart;
  });
  return are ? extents : mergeRanges(extents);
}

/** Between neighbours: one less than there are extents. */
function gapsOf(extents: readonly ByteRange[]): Float64Array {
  const gaps = new Float64Array(Math.max(0, extents.length - 1));
  extents.forEach((extent, at) => {
    const next = extents[at + 1];
    if (next !== undefined) gaps[at] = next.offset - endOf(extent);
  });
  return gaps;
}

/** The largest power of two, as its logarithm, of which all offsets and lengths are multiples. */
function unitLogOf(extents: readonly ByteRange[]): number {
  let log = UNIT_LOG_MAX;
  for (const { offset, length } of extents) {
    while (offset % 2 ** log !== 0 || length % 2 ** log !== 0) log -= 1;
  }
  return log;
}

/** @param extents ascending and apart, none empty, at most {@link EXTENTS_MAX} */
export function encodeExtents(extents: readonly ByteRange[]): Buffer {
  const writer = new VarintWriter();
  const unitLog = unitLogOf(extents);
  const unit = 2 ** unitLog;
  writer.number(unitLog);
  writer.number(extents.length);
  let end = 0;
  for (const extent of extents) {
    writer.number((extent.offset - end) / unit);
    writer.number(extent.length / unit);
    end = endOf(extent);
  }
  return writer.bytes();
}

/**
 * Ascending and apart, none empty, all within `sizeBytes`.
 *
 * @throws `transfer.protocol-violation`
 */
export function decodeExtents(bytes: Uint8Array, sizeBytes: number): ByteRange[] {
  const reader = new VarintReader(bytes);
  const unitLog = reader.number();
  if (unitLog > UNIT_LOG_MAX) throw violation(`a map in units of 2^${unitLog} bytes`);
  const unit = 2 ** unitLog;
  const units = Math.floor(sizeBytes / unit);
  const count = reader.count(2);
  if (count > EXTENTS_MAX) throw violation(`a map of ${count} extents`);
  const extents: ByteRange[] = [];
  for (let end = 0; extents.length < count;) {
    const gap = reader.number();
    const length = reader.number();
    if (length === 0 || (gap === 0 && extents.length > 0)) throw violation("extents that touch");
    if (gap > units - end || length > units - end - gap) throw violation("a map beyond the disk");
    extents.push({ offset: (end + gap) * unit, length: length * unit });
    end += gap + length;
  }
  if (reader.remaining > 0) throw violation("bytes behind a map");
  return extents;
}
