import type {
  PackLimits,
  PackPlan,
  PackReference,
  PackSegment,
  ReferenceFact,
  WantedFact,
} from "./contract.ts";

export function wholeSegment(fact: WantedFact): PackSegment {
  return { content: fact.content, offset: 0, length: fact.sizeBytes };
}

export function wholeReference(fact: ReferenceFact): PackReference {
  return { base: fact.base, content: fact.content, offset: 0, length: fact.sizeBytes };
}

/**
 * Cuts a content into packs of its own, as equal as can be, each with the window of the reference
 * that lies where the slice lies.
 */
export function slicesOf(
  fact: WantedFact,
  reference: ReferenceFact | undefined,
  limits: PackLimits,
): PackPlan[] {
  const count = Math.ceil(fact.sizeBytes / limits.rawBytesMax);
  const plans: PackPlan[] = [];
  for (let number = 0; number < count; number += 1) {
    const offset = Math.floor((fact.sizeBytes * number) / count);
    const length = Math.floor((fact.sizeBytes * (number + 1)) / count) - offset;
    const segment = { content: fact.content, offset, length };
    const window = reference && windowOf(segment, fact, reference, limits.referenceBytesMax);
    plans.push({ segments: [segment], references: window ? [window] : [], rawBytes: length });
  }
  return plans;
}

/**
 * As much of the reference as may be, up to twice the slice's share of it, centred where the slice
 * lies in proportion. A content that is not cut gets the whole reference where it fits.
 */
function windowOf(
  segment: PackSegment,
  fact: WantedFact,
  reference: ReferenceFact,
  bytesMax: number,
): PackReference | undefined {
  const scale = reference.sizeBytes / fact.sizeBytes;
  const wide = Math.ceil(2 * Math.max(segment.length, segment.length * scale));
  const length = Math.min(bytesMax, reference.sizeBytes, wide);
  if (length === 0) return undefined;
  const centre = (segment.offset + segment.length / 2) * scale;
  const last = reference.sizeBytes - length;
  const offset = Math.max(0, Math.min(last, Math.round(centre - length / 2)));
  return { base: reference.base, content: reference.content, offset, length };
}
