import type { ContentFact, ReferenceFact, WantedFact } from "./contract.ts";
import { similarity } from "./sketch.ts";
import { baseName, versionlessPath } from "./version-path.ts";

/** A content and its reference differ by no more than this factor in size, unless both are small. */
export const SIZE_RATIO_MAX = 8;
/** Up to this size the ratio does not matter. */
export const SMALL_BYTES = 65_536;
/** Least similarity at which a content of another name serves as reference. */
export const SIMILARITY_MIN = 0.25;
/** Candidates of one key that are looked at for one content. */
const CANDIDATES_MAX = 24;

/**
 * Finds for each wanted content the content of a base that its patch will be made against: one of
 * the same path, else of the same path apart from version numbers, else the most similar by
 * sketch; undefined where there is none. Of several the one of the same base name, the most
 * similar, the closest in size, of the lowest base, with the lowest index.
 *
 * @param references the contents of the bases, the nearest base having the lowest index
 */
export function chooseReferences(
  wanted: readonly WantedFact[],
  references: readonly ReferenceFact[],
): (ReferenceFact | undefined)[] {
  const byPath = index(references, (reference) => keyOf(reference.path));
  const byShape = index(references, (reference) => keyOf(versionlessPath(reference.path)));
  const byShapeAndName = index(references, (reference) => keyOf(shapeAndName(reference.path)));
  const byFeature = featureIndex(references);
  return wanted.map(
    (fact) =>
      best(fact, near(byPath, keyOf(fact.path), fact)) ??
      best(fact, [
        ...near(byShapeAndName, keyOf(shapeAndName(fact.path)), fact),
        ...near(byShape, keyOf(versionlessPath(fact.path)), fact),
      ]) ??
      best(fact, similar(byFeature, fact)),
  );
}

type Index<K> = ReadonlyMap<K, readonly ReferenceFact[]>;

/** A content without a path has no key. */
function keyOf(path: string): string[] {
  return path === "" ? [] : [path];
}

function shapeAndName(path: string): string {
  return path === "" ? "" : `${versionlessPath(path)}\0${baseName(path)}`;
}

/** References by key, each list by ascending size, then base and content. */
function index<K>(
  references: readonly ReferenceFact[],
  keysOf: (reference: ReferenceFact) => readonly K[],
): Index<K> {
  const lists = new Map<K, ReferenceFact[]>();
  for (const reference of references) {
    for (const key of keysOf(reference)) {
      const list = lists.get(key);
      if (list === undefined) lists.set(key, [reference]);
      else list.push(reference);
    }
  }
  for (const list of lists.values()) if (list.length > 1) list.sort(bySize);
  return lists;
}

function bySize(a: ReferenceFact, b: ReferenceFact): number {
  return a.sizeBytes - b.sizeBytes || a.base - b.base || a.content - b.content;
}

/** The references of a key whose sizes are closest to the content's. */
function near<K>(lists: Index<K>, keys: readonly K[], fact: ContentFact): readonly ReferenceFact[] {
  const found: ReferenceFact[] = [];
  for (const key of keys) {
    const list = lists.get(key) ?? [];
    const middle = lowerBound(list, fact.sizeBytes);
    const half = CANDIDATES_MAX / 2;
    found.push(...list.slice(Math.max(0, middle - half), middle + half));
  }
  return found;
}

function lowerBound(list: readonly ReferenceFact[], sizeBytes: number): number {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((list[middle]?.sizeBytes ?? 0) < sizeBytes) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** By position and value of each number of the sketch. */
function featureIndex(references: readonly ReferenceFact[]): Index<number> {
  return index(references, featuresOf);
}

function featuresOf(fact: ContentFact): number[] {
  return Array.from(fact.sketch, (value, position) => position * 2 ** 32 + value);
}

function similar(lists: Index<number>, fact: ContentFact): ReferenceFact[] {
  const candidates = new Set(near(lists, featuresOf(fact), fact));
  return Array.from(candidates).filter(
    (reference) => similarity(fact.sketch, reference.sketch) >= SIMILARITY_MIN,
  );
}

function best(fact: ContentFact, candidates: readonly ReferenceFact[]): ReferenceFact | undefined {
  if (candidates.length === 0) return undefined;
  const name = baseName(fact.path);
  let chosen: Rated | undefined;
  for (const reference of candidates) {
    if (reference === chosen?.reference || !comparable(fact.sizeBytes, reference.sizeBytes)) {
      continue;
    }
    const rated = {
      reference,
      named: reference.path.endsWith(name) && baseName(reference.path) === name,
      similarity: similarity(fact.sketch, reference.sketch),
      ratio: ratio(fact.sizeBytes, reference.sizeBytes),
    };
    if (chosen === undefined || preference(rated, chosen) < 0) chosen = rated;
  }
  return chosen?.reference;
}

/** A candidate with what speaks for it. */
interface Rated {
  readonly reference: ReferenceFact;
  /** It has the base name of the wanted content. */
  readonly named: boolean;
  readonly similarity: number;
  readonly ratio: number;
}

/** True when one may serve as reference of the other. */
export function comparable(a: number, b: number): boolean {
  return Math.max(a, b) <= SMALL_BYTES || Math.max(a, b) <= SIZE_RATIO_MAX * Math.min(a, b);
}

/** Below 0 when `a` is the better reference. */
function preference(a: Rated, b: Rated): number {
  return (
    Number(b.named) - Number(a.named) ||
    b.similarity - a.similarity ||
    a.ratio - b.ratio ||
    a.reference.base - b.reference.base ||
    a.reference.content - b.reference.content
  );
}

/** 1 for equal sizes, else above. */
function ratio(a: number, b: number): number {
  return Math.max(a, b) / Math.min(a, b);
}
