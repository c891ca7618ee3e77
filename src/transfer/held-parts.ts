/** Parts of wanted contents that a receiver has already; see doc/data-protocol.md, "Contents". */
import { endOf, totalLength, type ByteRange } from "#core";
import type { PackPlan, PackSegment } from "#delta";
import { violation } from "./errors.ts";

/** A run of a content's bytes. */
export interface HeldPart extends ByteRange {
  readonly content: number;
}

/** As it travels: content, offset, length. */
export type HeldTuple = readonly [content: number, offset: number, length: number];

export function heldTuples(parts: readonly HeldPart[]): HeldTuple[] {
  return parts.map(({ content, offset, length }) => [content, offset, length] as const);
}

/** By content, in their order. */
function byContent(parts: readonly HeldPart[]): Map<number, HeldPart[]> {
  const found = new Map<number, HeldPart[]>();
  for (const part of parts) {
    const before = found.get(part.content);
    if (before === undefined) found.set(part.content, [part]);
    else before.push(part);
  }
  return found;
}

/**
 * What a peer says that it has.
 *
 * @param parts of each content ascending, apart from each other
 * @param sizeOf undefined for what is not wanted
 * @throws `transfer.protocol-violation` for what is not wanted, is empty, lies behind a content's
 *   end, overlaps what is before it, or leaves nothing of a content to be wanted
 */
export function checkHeld(
  parts: readonly HeldPart[],
  sizeOf: (content: number) => number | undefined,
): void {
  for (const [content, ranges] of byContent(parts)) {
    const sizeBytes = sizeOf(content);
    if (sizeBytes === undefined) throw violation("a part of what is not wanted is held");
    let end = 0;
    for (const { offset, length } of ranges) {
      const fits =
        length > 0 && offset >= end && offset <= sizeBytes && length <= sizeBytes - offset;
      if (!fits) throw violation(`a held part of ${length} bytes at ${offset}`);
      end = offset + length;
    }
    if (totalLength(ranges) === sizeBytes) throw violation("a content that is held is wanted");
  }
}

/** What a receiver says that it has of what it wants. @throws as {@link checkHeld} */
export function heldOf(
  tuples: readonly HeldTuple[] = [],
  wanted: readonly number[],
  { contents }: { readonly contents: readonly { readonly sizeBytes: number }[] },
): HeldPart[] {
  const held = tuples.map(([content, offset, length]) => ({ content, offset, length }));
  const isWanted = new Set(held.length === 0 ? [] : wanted);
  checkHeld(held, (content) => (isWanted.has(content) ? contents[content]?.sizeBytes : undefined));
  return held;
}

/** The segment without what is held of its content. */
function withoutRanges(segment: PackSegment, held: readonly ByteRange[]): PackSegment[] {
  const left: PackSegment[] = [];
  const end = endOf(segment);
  let at = segment.offset;
  const keep = (to: number): void => {
    if (to > at) left.push({ content: segment.content, offset: at, length: to - at });
  };
  for (const range of held) {
    keep(Math.min(end, range.offset));
    at = Math.max(at, Math.min(end, endOf(range)));
  }
  keep(end);
  return left;
}

/** The plans without what is held; those of which nothing is left are gone. Pure. */
export function withoutHeld(plans: readonly PackPlan[], parts: readonly HeldPart[]): PackPlan[] {
  const held = byContent(parts);
  return plans.flatMap((plan) => {
    if (!plan.segments.some(({ content }) => held.has(content))) return [plan];
    const segments = plan.segments.flatMap((segment) =>
      withoutRanges(segment, held.get(segment.content) ?? []),
    );
    return segments.length === 0 ? [] : [{ ...plan, segments, rawBytes: totalLength(segments) }];
  });
}
