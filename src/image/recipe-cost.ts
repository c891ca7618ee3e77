/** What a decoded recipe takes of memory, estimated so that everybody gets the same number. */
import type { TreeEntry } from "./contract.ts";
import { ENTRIES_MAX } from "./tree.ts";

/** Default, and what recipes that are made here stay within. */
export const RECIPE_MEMORY_BYTES_MAX = 384 * 1024 * 1024;

/** Measured while decoding: objects, indices and plan, apart from texts. */
const ENTRY_BYTES = 600;
const CONTENT_BYTES = 400;
const XATTR_BYTES = 200;
/** Of a chunk. */
export const CHUNK_COST_BYTES = 400;

export function xattrCost(nameBytes: number, valueBytes: number): number {
  return XATTR_BYTES + nameBytes + valueBytes;
}

/** Of a row for this entry, but for its xattrs. */
export function rowCost(entry: TreeEntry): number {
  const common = ENTRY_BYTES + 2 * Buffer.byteLength(entry.path);
  if (entry.type === "symlink") return common + 2 * Buffer.byteLength(entry.target);
  if (entry.type !== "file" || entry.content.sizeBytes === 0) return common;
  return isLaterLink(entry) ? common : common + CONTENT_BYTES;
}

function isLaterLink(entry: Extract<TreeEntry, { type: "file" }>): boolean {
  return entry.linkGroup !== undefined && entry.linkGroup !== entry.path;
}

function xattrsCost(entry: TreeEntry): number {
  if (entry.xattrs.size === 0 || (entry.type === "file" && isLaterLink(entry))) return 0;
  let sum = 0;
  for (const [name, value] of entry.xattrs) sum += xattrCost(Buffer.byteLength(name), value.length);
  return sum;
}

export function treeCost(entries: readonly TreeEntry[]): number {
  let sum = 0;
  for (const entry of entries) sum += rowCost(entry) + xattrsCost(entry);
  return sum;
}

/** True when the default limits allow a recipe of these entries. */
export function treeFits(entries: readonly TreeEntry[]): boolean {
  return entries.length <= ENTRIES_MAX && treeCost(entries) <= RECIPE_MEMORY_BYTES_MAX;
}

export function chunksFit(count: number): boolean {
  return count <= ENTRIES_MAX && count * CHUNK_COST_BYTES <= RECIPE_MEMORY_BYTES_MAX;
}
