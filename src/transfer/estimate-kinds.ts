/** Which packs are alike enough to be predicted from each other's samples. Pure. */
import { isCompressed, similarity, type PackPlan } from "#delta";
import type { HeldRecipe } from "#repository";
import { isPatch } from "./encoding.ts";

/** From these mean similarities on a pack's contents are called nearly equal, or similar. */
const NEAR = 0.8;
const SIMILAR = 0.4;

/**
 * `compressed` is what is patched and yet hardly smaller, as the contents are compressed; of other
 * patched packs `near`, `similar` and `far` tell how much the sketches agree, `mixed` that they do
 * not tell.
 */
export type PackKind = "plain" | "own" | "compressed" | "near" | "similar" | "far" | "mixed";

export interface Contents {
  readonly component: HeldRecipe;
  readonly bases: readonly HeldRecipe[];
}

export function packKindOf(plan: PackPlan, contents: Contents): PackKind {
  if (plan.references.length === 0) return "plain";
  if (!isPatch(plan)) return "own";
  if (isMostlyCompressed(plan, contents)) return "compressed";
  const alike = likeness(plan, contents);
  if (alike === undefined) return "mixed";
  if (alike >= NEAR) return "near";
  return alike >= SIMILAR ? "similar" : "far";
}

function isMostlyCompressed({ segments, rawBytes }: PackPlan, { component }: Contents): boolean {
  const compressed = segments.filter(({ content }) =>
    isCompressed(component.recipe.contents[content]?.path ?? ""),
  );
  return 2 * compressed.reduce((sum, { length }) => sum + length, 0) > rawBytes;
}

/** How much contents and references agree by their sketches, 0 to 1, where they come in pairs. */
function likeness(
  { segments, references }: PackPlan,
  { component, bases }: Contents,
): number | undefined {
  if (segments.length !== references.length) return undefined;
  let [agreeing, compared] = [0, 0];
  for (const [at, { content, length }] of segments.entries()) {
    const reference = references[at];
    if (reference === undefined) continue;
    const sketch = component.sketches[content];
    const old = bases[reference.base]?.sketches[reference.content];
    if (sketch === undefined || old === undefined || sketch.length === 0) continue;
    agreeing += similarity(sketch, old) * length;
    compared += length;
  }
  return compared === 0 ? undefined : agreeing / compared;
}
