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

/** Wanted prefixes, and which of their upper bits occur. */
export interface WantedPrefixes extends Prefixes {
  /** By `prefix >>> shift`: 1 where a prefix may be wanted. */
  readonly filter: Uint8Array;
  readonly shift: number;
}

/** Slots of the filter for each wanted content, so that few others pass. */
const FILTER_FACTOR = 32;
const FILTER_BITS_MAX = 22;

export function prefixesWanted(wanted: readonly Wanted[]): WantedPrefixes {
  const values = Uint32Array.from(wanted, ({ head }) => Number.parseInt(head.slice(0, 8), 16));
  return filtered(sorted(values));
}

function filtered(wanted: Prefixes): WantedPrefixes {
  const bits = Math.ceil(Math.log2(FILTER_FACTOR * (wanted.prefixes.length + 1)));
  const shift = 32 - Math.min(bits, FILTER_BITS_MAX);
  const filter = new Uint8Array(2 ** (32 - shift));
  for (const prefix of wanted.prefixes) filter[prefix >>> shift] = 1;
  return { ...wanted, filter, shift };
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
 * Every pair of equal prefixes. The held ones are passed over quickly where the filter says that
 * none is wanted; both are walked once.
 */
export function candidates(wanted: WantedPrefixes, held: Prefixes): Candidate[] {
  const found: Candidate[] = [];
  const { prefixes, contents, filter, shift } = wanted;
  let from = 0;
  for (let at = 0; at < held.prefixes.length; at += 1) {
    const prefix = held.prefixes[at] as number;
    if (filter[prefix >>> shift] === 0) continue;
    from = advance(prefixes, from, prefix);
    for (let same = from; prefixes[same] === prefix; same += 1) {
      found.push({ wanted: contents[same] as number, content: held.contents[at] as number });
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
export function without(
  wanted: WantedPrefixes,
  found: (content: number) => boolean,
): WantedPrefixes {
  const left: number[] = [];
  for (let at = 0; at < wanted.contents.length; at += 1) {
    if (!found(wanted.contents[at] as number)) left.push(at);
  }
  const positions = Uint32Array.from(left);
  return filtered({
    prefixes: picked(wanted.prefixes, positions),
    contents: picked(wanted.contents, positions),
  });
}
