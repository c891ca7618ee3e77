/** Which held components the contents of an image are copied from. */
import { TesseraError, type ComponentReference, type Digest } from "#core";
import type { Recipe } from "#image";
import type { ComponentStore, HeldRecipe } from "#repository";
import type { CopyPair } from "./copy.ts";

/** Contents to copy from one held component. */
export interface CopyPlan {
  readonly held: HeldRecipe;
  readonly pairs: readonly CopyPair[];
}

interface Wanted {
  readonly store: ComponentStore;
  readonly recipe: Recipe;
  /** Contents that are not whole yet. */
  readonly open: readonly number[];
  /** In which to look first, the nearest first. */
  readonly bases: readonly ComponentReference[];
  /** Components that turned out to be unsound. */
  readonly avoid: ReadonlySet<Digest>;
  /** Keeps components from being collected. */
  readonly pin: (ids: readonly Digest[]) => Promise<void>;
}

/**
 * Finds held contents and yields what to copy from each component: as few components as come of
 * asking the nearest first. Each is pinned before it is looked at, so that it stays; one that is
 * gone is passed over. One recipe is in memory at a time.
 */
export async function* planCopies(wanted: Wanted): AsyncGenerator<CopyPlan, void, undefined> {
  const { store, recipe, open, bases, avoid, pin } = wanted;
  const facts = open.map((content) => contentOf(recipe, content));
  const found = await store.locate(facts);
  const holders = new Map<number, Digest>();
  for (const [index, content] of open.entries()) {
    const component = found[index]?.component;
    if (component !== undefined) holders.set(content, component);
  }
  const order = [...bases.map(({ id }) => id), ...new Set(holders.values())];
  for (const id of new Set(order)) {
    if (holders.size === 0) return;
    if (avoid.has(id) || !worthLooking(id, holders, bases)) continue;
    await pin([id]);
    const held = await heldRecipe(store, id);
    if (held === undefined) continue;
    const pairs = pairsIn(held, recipe, holders);
    for (const { to } of pairs) holders.delete(to);
    if (pairs.length > 0) yield { held, pairs };
  }
}

/** A base may have what was found in another component; the others only what was found there. */
function worthLooking(
  id: Digest,
  holders: ReadonlyMap<number, Digest>,
  [nearest]: readonly ComponentReference[],
): boolean {
  if (id === nearest?.id) return true;
  for (const holder of holders.values()) if (holder === id) return true;
  return false;
}

async function heldRecipe(store: ComponentStore, id: Digest): Promise<HeldRecipe | undefined> {
  try {
    return await store.recipe(id);
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

/** True when a held component has left, or cannot be read. */
export function isGone(error: unknown): boolean {
  const codes = ["component-unknown", "blob-corrupt", "blob-missing"];
  return error instanceof TesseraError && codes.some((code) => error.code === `repository.${code}`);
}

function pairsIn(
  held: HeldRecipe,
  recipe: Recipe,
  wanted: ReadonlyMap<number, Digest>,
): CopyPair[] {
  const byFact = new Map<string, number>();
  for (const [index, content] of held.recipe.contents.entries()) byFact.set(keyOf(content), index);
  const pairs: CopyPair[] = [];
  for (const to of wanted.keys()) {
    const from = byFact.get(keyOf(contentOf(recipe, to)));
    if (from !== undefined) pairs.push({ from, to });
  }
  return pairs;
}

/** What a content is found by. */
export function keyOf({ head, sizeBytes }: { head: string; sizeBytes: number }): string {
  return `${head}:${sizeBytes}`;
}

function contentOf(recipe: Recipe, content: number): { head: string; sizeBytes: number } {
  const fact = recipe.contents[content];
  if (fact === undefined) throw new RangeError(`content ${content} of ${recipe.contents.length}`);
  return fact;
}
