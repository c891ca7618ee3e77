import type { ContentFacts } from "./described.ts";

/** Contents sorted by the first 4 bytes of their sha256. */
export interface Prefixes {
  /** Ascending. */
  readonly prefixes: Uint32Array;
  /** The index of the content at each position of `prefixes`. */
  readonly contents: Uint32Array;
}

export interface Wanted {
  /** The first 16 hexadecimal digits of its sha256. */
  readonly head: string;
  readonly sizeBytes: number;
}

/** A wanted content and one of a component that may be it: the prefixes agree. */
export interface Candidate {
  readonly wanted: number;
  readonly content: number;
}

export function prefixesOf(facts: ContentFacts): Prefixes {
  return sorted(Array.from({ length: facts.count }, (_, index) => facts.prefix(index)));
}

export function prefixesWanted(wanted: readonly Wanted[]): Prefixes {
  return sorted(wanted.map(({ head }) => Number.parseInt(head.slice(0, 8), 16)));
}

/** 21 bits beside 32 still fit a number exactly; more contents are sorted by a comparison. */
const INDEX_SPAN = 2 ** 21;

function sorted(values: readonly number[]): Prefixes {
  const contents = new Uint32Array(values.length);
  if (values.length <= INDEX_SPAN) {
    const keys = Float64Array.from(values, (value, index) => value * INDEX_SPAN + index).sort();
    for (let at = 0; at < keys.length; at += 1) contents[at] = (keys[at] ?? 0) % INDEX_SPAN;
  } else {
    for (let index = 0; index < contents.length; index += 1) contents[index] = index;
    contents.sort((a, b) => (values[a] ?? 0) - (values[b] ?? 0));
  }
  return { prefixes: Uint32Array.from(contents, (index) => values[index] ?? 0), contents };
}

/**
 * Every pair of equal prefixes. Both are walked once; where one is much shorter, the other is
 * searched by halves.
 */
export function candidates(wanted: Prefixes, held: Prefixes): Candidate[] {
  const found: Candidate[] = [];
  let at = 0;
  for (let index = 0; index < wanted.prefixes.length; index += 1) {
    const prefix = wanted.prefixes[index] ?? 0;
    at = advance(held.prefixes, at, prefix);
    if (at === held.prefixes.length) break;
    for (let same = at; held.prefixes[same] === prefix; same += 1) {
      found.push({ wanted: wanted.contents[index] ?? 0, content: held.contents[same] ?? 0 });
    }
  }
  return found;
}

/** The first position from `from` whose value is not below `value`, by steps that double. */
function advance(values: Uint32Array, from: number, value: number): number {
  let step = 1;
  let low = from;
  while (low + step <= values.length && (values[low + step - 1] as number) < value) {
    low += step;
    step *= 2;
  }
  let high = Math.min(low + step - 1, values.length);
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((values[middle] as number) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The same without what has been found. */
export function without(wanted: Prefixes, found: (content: number) => boolean): Prefixes {
  const keep = Array.from(wanted.contents.keys()).filter(
    (at) => !found(wanted.contents[at] as number),
  );
  return {
    prefixes: Uint32Array.from(keep, (at) => wanted.prefixes[at] ?? 0),
    contents: Uint32Array.from(keep, (at) => wanted.contents[at] ?? 0),
  };
}
