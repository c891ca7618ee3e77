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
  return near(lists, featuresOf(fact), fact).filter(
    (reference) => similarity(fact.sketch, reference.sketch) >= SIMILARITY_MIN,
  );
}

function best(fact: ContentFact, candidates: readonly ReferenceFact[]): ReferenceFact | undefined {
  let chosen: ReferenceFact | undefined;
  for (const candidate of candidates) {
    if (!comparable(fact.sizeBytes, candidate.sizeBytes)) continue;
    if (chosen === undefined || preference(fact, candidate, chosen) < 0) chosen = candidate;
  }
  return chosen;
}

function comparable(a: number, b: number): boolean {
  return Math.max(a, b) <= SMALL_BYTES || Math.max(a, b) <= SIZE_RATIO_MAX * Math.min(a, b);
}

/** Below 0 when `a` is the better reference. */
function preference(fact: ContentFact, a: ReferenceFact, b: ReferenceFact): number {
  const name = baseName(fact.path);
  return (
    Number(baseName(b.path) === name) - Number(baseName(a.path) === name) ||
    similarity(fact.sketch, b.sketch) - similarity(fact.sketch, a.sketch) ||
    ratio(fact.sizeBytes, a.sizeBytes) - ratio(fact.sizeBytes, b.sizeBytes) ||
    a.base - b.base ||
    a.content - b.content
  );
}

/** 1 for equal sizes, else above. */
function ratio(a: number, b: number): number {
  return Math.max(a, b) / Math.min(a, b);
}
