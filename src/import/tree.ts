/** A tree with what components do not have: times below a second, and which bytes of a file are held. */
import type { ContentSource, Tree, TreeEntry } from "#image";

/** A file's content that knows its holes. */
export interface SparseContent extends ContentSource {
  /** Bytes outside of holes, in whole blocks as far as the file goes. */
  dataRanges(): Promise<readonly { readonly offset: number; readonly length: number }[]>;
}

export interface FineTree {
  readonly tree: Tree;
  /** Nanoseconds below the second, of the entries that have any. */
  readonly fractions: ReadonlyMap<string, number>;
}

export function isSparse(content: ContentSource): content is SparseContent {
  return "dataRanges" in content;
}

/** Bytes of all contents, each file once however many links it has. */
export function contentBytes(entries: readonly TreeEntry[]): number {
  const seen = new Set<ContentSource>();
  let sum = 0;
  for (const entry of entries) {
    if (entry.type !== "file" || seen.has(entry.content)) continue;
    seen.add(entry.content);
    sum += entry.content.sizeBytes;
  }
  return sum;
}
