/** A half-open range of bytes: `offset` up to but not including `offset + length`. */
export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

export function endOf(range: ByteRange): number {
  return range.offset + range.length;
}

/** Sorts by offset and joins ranges that touch or overlap; empty ranges vanish. */
export function mergeRanges(ranges: readonly ByteRange[]): ByteRange[] {
  const sorted = ranges.filter((r) => r.length > 0).toSorted((a, b) => a.offset - b.offset);
  const merged: { offset: number; length: number }[] = [];
  for (const range of sorted) {
    const last = merged.at(-1);
    if (last === undefined || range.offset > endOf(last)) merged.push({ ...range });
    else last.length = Math.max(endOf(last), endOf(range)) - last.offset;
  }
  return merged;
}

/** What of `ranges` is in none of `others`, in order. */
export function subtractRanges(
  ranges: readonly ByteRange[],
  others: readonly ByteRange[],
): ByteRange[] {
  const holes = mergeRanges(others);
  const left: ByteRange[] = [];
  let next = 0;
  for (const range of mergeRanges(ranges)) {
    let { offset } = range;
    for (; next < holes.length; next += 1) {
      const hole = holes[next];
      if (hole === undefined || hole.offset >= endOf(range)) break;
      if (hole.offset > offset) left.push({ offset, length: hole.offset - offset });
      offset = Math.max(offset, endOf(hole));
      // It may reach into the next range.
      if (endOf(hole) > endOf(range)) break;
    }
    if (offset < endOf(range)) left.push({ offset, length: endOf(range) - offset });
  }
  return left;
}

export function totalLength(ranges: readonly ByteRange[]): number {
  return ranges.reduce((sum, range) => sum + range.length, 0);
}

/** Widens every range to whole blocks within `sizeBytes`, then merges. */
export function alignRanges(
  ranges: readonly ByteRange[],
  blockBytes: number,
  sizeBytes: number,
): ByteRange[] {
  return mergeRanges(
    ranges.map((range) => {
      const offset = Math.floor(range.offset / blockBytes) * blockBytes;
      const end = Math.min(Math.ceil(endOf(range) / blockBytes) * blockBytes, sizeBytes);
      return { offset, length: end - offset };
    }),
  );
}
