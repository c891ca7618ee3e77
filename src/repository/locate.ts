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
  const values = new Uint32Array(facts.count);
  for (let index = 0; index < values.length; index += 1) values[index] = facts.prefix(index);
  return sorted(values);
}

export function prefixesWanted(wanted: readonly Wanted[]): Prefixes {
  return sorted(Uint32Array.from(wanted, ({ head }) => Number.parseInt(head.slice(0, 8), 16)));
}

/** 21 bits beside 32 still fit a number exactly; more contents are sorted by a comparison. */
const INDEX_SPAN = 2 ** 21;

function sorted(values: Uint32Array): Prefixes {
  const contents = new Uint32Array(values.length);
  if (values.length <= INDEX_SPAN) {
    const keys = new Float64Array(values.length);
    for (let index = 0; index < keys.length; index += 1) {
      keys[index] = (values[index] as number) * INDEX_SPAN + index;
    }
    keys.sort();
    for (let at = 0; at < keys.length; at += 1) contents[at] = (keys[at] ?? 0) % INDEX_SPAN;
  } else {
    for (let index = 0; index < contents.length; index += 1) contents[index] = index;
    contents.sort((a, b) => (values[a] ?? 0) - (values[b] ?? 0));
  }
  return { prefixes: picked(values, contents), contents };
}

function picked(values: Uint32Array, positions: Uint32Array): Uint32Array {
  const picks = new Uint32Array(positions.length);
  for (let at = 0; at < picks.length; at += 1)
    picks[at] = values[positions[at] as number] as number;
  return picks;
}

/** As little-endian numbers: the prefixes, then the contents. */
export function encodePrefixes({ prefixes, contents }: Prefixes): Uint8Array {
  const bytes = Buffer.alloc(8 * prefixes.length);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at < prefixes.length; at += 1) {
    view.setUint32(4 * at, prefixes[at] as number, true);
    view.setUint32(4 * (prefixes.length + at), contents[at] as number, true);
  }
  return bytes;
}

export function decodePrefixes(bytes: Uint8Array): Prefixes {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const numbers = new Uint32Array(Math.floor(bytes.length / 4));
  for (let at = 0; at < numbers.length; at += 1) numbers[at] = view.getUint32(4 * at, true);
  const count = Math.floor(numbers.length / 2);
  return { prefixes: numbers.subarray(0, count), contents: numbers.subarray(count, 2 * count) };
}

/**
 * Every pair of equal prefixes. Both are walked once; long stretches without a pair are passed over
 * by steps that double.
 */
export function candidates(wanted: Prefixes, held: Prefixes): Candidate[] {
  const found: Candidate[] = [];
  const [left, right] = [wanted.prefixes, held.prefixes];
  let i = 0;
  let j = 0;
  while (i < left.length && j < right.length) {
    const a = left[i] as number;
    const b = right[j] as number;
    if (a < b) i = advance(left, i + 1, b);
    else if (a > b) j = advance(right, j + 1, a);
    else {
      for (let same = j; right[same] === a; same += 1) {
        found.push({
          wanted: wanted.contents[i] as number,
          content: held.contents[same] as number,
        });
      }
      i += 1;
    }
  }
  return found;
}

const LINEAR_STEPS = 8;

/** The first position from `from` whose value is not below `value`. */
function advance(values: Uint32Array, from: number, value: number): number {
  let low = from;
  for (const end = from + LINEAR_STEPS; low < end; low += 1) {
    if (low >= values.length || (values[low] as number) >= value) return low;
  }
  let step = 1;
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
  const contents = wanted.contents.filter((content) => !found(content));
  const prefixes = new Uint32Array(contents.length);
  let at = 0;
  for (let from = 0; at < contents.length; from += 1) {
    if (wanted.contents[from] !== contents[at]) continue;
    prefixes[at] = wanted.prefixes[from] as number;
    at += 1;
  }
  return { prefixes, contents };
}
