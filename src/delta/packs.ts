import type { PackLimits, PackPlan, ReferenceFact, WantedFact } from "./contract.ts";
import { kindOf } from "./content-kind.ts";
import { familyName, referToEarlier, type OwnReferences } from "./own-references.ts";
import { directoryOf } from "./version-path.ts";
import { hashOf } from "./text-hash.ts";
import { slicesOf, wholeReference, wholeSegment } from "./slices.ts";

/** A wanted content and what it is patched against. */
export interface PairedContent {
  readonly fact: WantedFact;
  readonly reference?: ReferenceFact | undefined;
}

/** A content of this size, or with such a reference, is patched in packs of its own. */
export const ALONE_BYTES = 2 ** 20;
/**
 * Limits of packs with references, where those of the caller are wider: smaller ones leave as few
 * bytes, take less time and a quarter of the memory.
 */
export const PATCHED_LIMITS: PackLimits = {
  rawBytesMax: 4 * 2 ** 20,
  referenceBytesMax: 8 * 2 ** 20,
};
/** One directory in so many begins a group of patched contents. */
const GROUP_DIRECTORIES = 8;

/**
 * Divides wanted contents into packs, every byte once. Patched contents come first: large ones in
 * packs of their own, small ones with their neighbours by path, where the groups' borders depend
 * on the names of directories only, so that packs are equal for destinations that want different
 * things elsewhere. Then the others, similar ones beside each other; with `own` they may refer to
 * what lies in packs before them. The result depends on nothing but the arguments, not even on the
 * order of `wanted`.
 */
export function planPacks(
  wanted: readonly PairedContent[],
  limits: PackLimits,
  own?: OwnReferences,
): PackPlan[] {
  const patched = wanted.filter((pair) => pair.reference !== undefined);
  const other = wanted.filter((pair) => pair.reference === undefined);
  const narrow = narrower(limits, PATCHED_LIMITS);
  const small = patched.filter((pair) => !isLarge(pair, narrow));
  const large = patched.filter((pair) => isLarge(pair, narrow)).toSorted(byPath);
  return [
    ...large.flatMap((pair) => slicesOf(pair.fact, pair.reference, narrow)),
    ...groupPatched(small.toSorted(byPath), narrow),
    ...groupOthers(
      other.map(({ fact }) => fact),
      limits,
      own,
    ),
  ];
}

function narrower(a: PackLimits, b: PackLimits): PackLimits {
  return {
    rawBytesMax: Math.min(a.rawBytesMax, b.rawBytesMax),
    referenceBytesMax: Math.min(a.referenceBytesMax, b.referenceBytesMax),
  };
}

function isLarge({ fact, reference }: PairedContent, limits: PackLimits): boolean {
  const referenceBytes = reference?.sizeBytes ?? 0;
  return (
    fact.sizeBytes > Math.min(ALONE_BYTES, limits.rawBytesMax) ||
    referenceBytes > Math.min(ALONE_BYTES * 2, limits.referenceBytesMax)
  );
}

function byPath(a: PairedContent, b: PairedContent): number {
  return compareText(a.fact.path, b.fact.path) || a.fact.content - b.fact.content;
}

/** By UTF-16 code units: the same everywhere, whatever the locale. */
function compareText(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

/** A pack that is being filled. */
interface Filling {
  readonly pairs: PairedContent[];
  /** By base and content. */
  readonly references: Map<string, ReferenceFact>;
  rawBytes: number;
  referenceBytes: number;
}

function empty(): Filling {
  return { pairs: [], references: new Map(), rawBytes: 0, referenceBytes: 0 };
}

function referenceKey(reference: ReferenceFact): string {
  return `${reference.base}:${reference.content}`;
}

/** What the pair's reference adds to the dictionary. */
function addedBytes(filling: Filling, { reference }: PairedContent): number {
  if (reference === undefined || filling.references.has(referenceKey(reference))) return 0;
  return reference.sizeBytes;
}

function fits(filling: Filling, pair: PairedContent, limits: PackLimits): boolean {
  return (
    filling.rawBytes + pair.fact.sizeBytes <= limits.rawBytesMax &&
    filling.referenceBytes + addedBytes(filling, pair) <= limits.referenceBytesMax
  );
}

function put(filling: Filling, pair: PairedContent): void {
  filling.referenceBytes += addedBytes(filling, pair);
  filling.rawBytes += pair.fact.sizeBytes;
  filling.pairs.push(pair);
  if (pair.reference !== undefined) {
    filling.references.set(referenceKey(pair.reference), pair.reference);
  }
}

function planOf(filling: Filling): PackPlan {
  return {
    segments: filling.pairs.map((pair) => wholeSegment(pair.fact)),
    references: Array.from(filling.references.values(), wholeReference),
    rawBytes: filling.rawBytes,
  };
}

/** Fills packs in order; a new one begins where one is full or `border` says so. */
function fill(
  pairs: readonly PairedContent[],
  limits: PackLimits,
  border: (pair: PairedContent, before: PairedContent) => boolean,
): PackPlan[] {
  const packs: Filling[] = [];
  for (const pair of pairs) {
    let last = packs.at(-1);
    const before = last?.pairs.at(-1);
    if (last === undefined || !fits(last, pair, limits) || (before && border(pair, before))) {
      last = empty();
      packs.push(last);
    }
    put(last, pair);
  }
  return packs.map(planOf);
}

function groupPatched(pairs: readonly PairedContent[], limits: PackLimits): PackPlan[] {
  return fill(pairs, limits, (pair, before) => {
    const directory = directoryOf(pair.fact.path);
    const same = directory === directoryOf(before.fact.path);
    return !same && hashOf(directory) % GROUP_DIRECTORIES === 0;
  });
}

function groupOthers(
  facts: readonly WantedFact[],
  limits: PackLimits,
  own: OwnReferences | undefined,
): PackPlan[] {
  const sorted = facts
    .map((fact) => ({ fact, key: orderOf(fact, own !== undefined) }))
    .toSorted((a, b) => compareText(a.key, b.key) || a.fact.content - b.fact.content)
    .map(({ fact }) => fact);
  const large = sorted.filter((fact) => fact.sizeBytes > limits.rawBytesMax);
  const small = sorted.filter((fact) => fact.sizeBytes <= limits.rawBytesMax);
  const filled = fill(
    small.map((fact) => ({ fact })),
    limits,
    () => false,
  );
  const slices = large.flatMap((fact) => slicesOf(fact, undefined, limits));
  if (own === undefined) return [...slices, ...filled];
  return referToEarlier([...filled, ...slices], sorted, own);
}

/** By kind, programs that may refer to each other by name, then by path. */
function orderOf({ path }: WantedFact, refers: boolean): string {
  const kind = kindOf(path);
  const name = refers && kind === "elf" ? familyName(path) : "";
  return [kind, name, path].join("\0");
}
