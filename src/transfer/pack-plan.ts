/** Which packs a stream of contents is made of: pure, and equal on every attempt. */
import {
  chooseReferences,
  planPacks,
  type PackPlan,
  type PackSegment,
  type ReferenceFact,
  type WantedFact,
} from "#delta";
import type { HeldRecipe } from "#repository";
import { PACK_RAW_BYTES_MAX, PACK_REFERENCE_BYTES_MAX } from "./protocol.ts";

const LIMITS = {
  rawBytesMax: PACK_RAW_BYTES_MAX,
  referenceBytesMax: PACK_REFERENCE_BYTES_MAX,
} as const;
const NO_SKETCH = new Uint32Array(0);

function referenceFacts(bases: readonly HeldRecipe[]): ReferenceFact[] {
  return bases.flatMap(({ recipe, sketches }, base) =>
    recipe.contents.map(({ path, sizeBytes, head }, content) => ({
      path,
      sizeBytes,
      head,
      base,
      content,
      sketch: sketches[content] ?? NO_SKETCH,
    })),
  );
}

function wantedFacts({ recipe, sketches }: HeldRecipe, wanted: readonly number[]): WantedFact[] {
  return wanted.flatMap((content) => {
    const found = recipe.contents[content];
    if (found === undefined) return [];
    const { path, sizeBytes, head } = found;
    return [{ path, sizeBytes, head, content, sketch: sketches[content] ?? NO_SKETCH }];
  });
}

/** Segments, and references, of one pack: with so many its PACK fits in any case. */
const ITEMS_MAX = 8192;

/** Divides a pack of very many small contents; references stand in the order of the segments. */
function divided(plan: PackPlan): PackPlan[] {
  const { segments, references } = plan;
  const count = Math.ceil(Math.max(segments.length, references.length) / ITEMS_MAX);
  if (count <= 1) return [plan];
  const share = <T>(items: readonly T[], number: number): readonly T[] =>
    items.slice((items.length * number) / count, (items.length * (number + 1)) / count);
  return Array.from({ length: count }, (_, number) => {
    const part = share(segments, number);
    const rawBytes = part.reduce((sum, { length }) => sum + length, 0);
    return { ...plan, segments: part, references: share(references, number), rawBytes };
  }).filter(({ rawBytes }) => rawBytes > 0);
}

export function referenceBytes({ references }: Pick<PackPlan, "references">): number {
  return references.reduce((sum, { length }) => sum + length, 0);
}

/** The plan with the references to bases alone. */
export function withoutOwn({ own, ...plan }: PackPlan): PackPlan {
  if (own === undefined) return plan;
  return { ...plan, references: plan.references.filter(({ base }) => base !== own) };
}

/** What encoding takes, roughly. */
function effort(plan: PackPlan): number {
  return plan.rawBytes + referenceBytes(plan);
}

/**
 * The packs for some contents, those that are quick to encode first, so that the link is busy while
 * the others are encoded; then those that refer to what came before, in their order.
 *
 * @param wanted ascending indices of the component's contents
 * @param bases the nearest first
 * @param own present where packs may refer to contents of packs before them, as of a base behind the
 *   last; `except` are those that they may not refer to
 */
export function planContents(
  component: HeldRecipe,
  bases: readonly HeldRecipe[],
  wanted: readonly number[],
  own?: { readonly except: ReadonlySet<number> },
): PackPlan[] {
  const facts = wantedFacts(component, wanted);
  const references = chooseReferences(facts, referenceFacts(bases));
  const pairs = facts.map((fact, index) => ({ fact, reference: references[index] }));
  const plans = planPacks(pairs, LIMITS, own && { ...own, base: bases.length }).flatMap(divided);
  const first = plans.filter((plan) => plan.own === undefined);
  return [
    ...first.toSorted((a, b) => effort(a) - effort(b)),
    ...plans.filter((plan) => plan.own !== undefined),
  ];
}

/** A plan's raw bytes between two positions, with all its references. */
export function slicePlan(plan: PackPlan, from: number, to: number): PackPlan {
  const segments: PackSegment[] = [];
  let at = 0;
  for (const { content, offset, length } of plan.segments) {
    const start = Math.max(from - at, 0);
    const end = Math.min(to - at, length);
    if (start < end) segments.push({ content, offset: offset + start, length: end - start });
    at += length;
  }
  return { ...plan, segments, rawBytes: to - from };
}

/** What is left of the packs after `from` raw bytes, each with the position at which it starts. */
export function plansFrom(
  plans: readonly PackPlan[],
  from: number,
): { readonly start: number; readonly plan: PackPlan }[] {
  let start = 0;
  return plans.flatMap((plan) => {
    const begin = start;
    start += plan.rawBytes;
    if (start <= from) return [];
    if (begin >= from) return [{ start: begin, plan }];
    return [{ start: from, plan: slicePlan(plan, from - begin, plan.rawBytes) }];
  });
}

/**
 * Two halves of a pack, divided between contents where there are several.
 *
 * @param plan of at least 2 raw bytes
 */
export function halves(plan: PackPlan): readonly [PackPlan, PackPlan] {
  const { segments, references, rawBytes } = plan;
  const middle = Math.floor(rawBytes / 2);
  let cut = segments[0]?.length ?? 0;
  for (const { length } of segments.slice(1, -1)) {
    if (cut + length > middle) break;
    cut += length;
  }
  if (segments.length === 1) cut = middle;
  const first = slicePlan(plan, 0, cut);
  return [first, { ...slicePlan(plan, cut, rawBytes), references }];
}
