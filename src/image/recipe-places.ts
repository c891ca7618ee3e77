import type { ContentExtent } from "./contract.ts";

/** One occurrence of a content in an image: its head in one run, its tail in another. */
export interface Occurrence {
  readonly content: number;
  /** Where the head lies; of no meaning when the head is empty. */
  readonly position: number;
  /** Where the tail lies; of no meaning when the tail is empty. */
  readonly tailPosition: number;
  readonly tailBytes: number;
}

export type Places = (index: number) => readonly (readonly ContentExtent[])[];

function extentsOf(
  sizeBytes: number,
  head: number,
  tail: number,
  tailBytes: number,
): ContentExtent[] {
  const headBytes = sizeBytes - tailBytes;
  return [
    { offset: 0, length: headBytes, position: head },
    { offset: headBytes, length: tailBytes, position: tail },
  ].filter(({ length }) => length > 0);
}

/** Looks occurrences up by content; takes 30 bytes for each. */
export function placesOf(
  sizes: readonly { readonly sizeBytes: number }[],
  occurrences: readonly Occurrence[],
): Places {
  const ends = new Uint32Array(sizes.length + 1);
  for (const { content } of occurrences) ends[content + 1] = (ends[content + 1] ?? 0) + 1;
  for (let index = 1; index < ends.length; index += 1) {
    ends[index] = (ends[index] ?? 0) + (ends[index - 1] ?? 0);
  }
  const next = ends.slice();
  const heads = new Float64Array(occurrences.length);
  const tails = new Float64Array(occurrences.length);
  const tailBytes = new Uint16Array(occurrences.length);
  for (const occurrence of occurrences) {
    const row = next[occurrence.content] ?? 0;
    next[occurrence.content] = row + 1;
    heads[row] = occurrence.position;
    tails[row] = occurrence.tailPosition;
    tailBytes[row] = occurrence.tailBytes;
  }
  return (index) => {
    const size = sizes[index]?.sizeBytes;
    if (size === undefined) return [];
    const places: ContentExtent[][] = [];
    for (let row = ends[index] ?? 0; row < (ends[index + 1] ?? 0); row += 1) {
      places.push(extentsOf(size, heads[row] ?? 0, tails[row] ?? 0, tailBytes[row] ?? 0));
    }
    return places;
  };
}
