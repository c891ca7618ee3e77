import { createHash, type Hash } from "node:crypto";
import type { Digest } from "#core";
import { contentHash, knownHash } from "./content.ts";
import type { ContentSource, Tree, TreeEntry } from "./contract.ts";

const HASHED_AT_ONCE = 16;
const HEADING = "tessera tree 1\n";

const LETTERS: Readonly<Record<TreeEntry["type"], string>> = {
  directory: "d",
  file: "f",
  symlink: "l",
  character: "c",
  block: "b",
  fifo: "p",
  socket: "s",
};

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function i64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(BigInt(value));
  return bytes;
}

function addText(hasher: Hash, text: string): void {
  hasher.update(u32(Buffer.byteLength(text))).update(text);
}

function addCommon(hasher: Hash, entry: TreeEntry): void {
  for (const field of [entry.mode, entry.uid, entry.gid]) hasher.update(u32(field));
  hasher.update(i64(entry.mtime_s)).update(u32(entry.xattrs.size));
  for (const [name, value] of entry.xattrs) {
    addText(hasher, name);
    hasher.update(u32(value.length)).update(value);
  }
}

type HashOf = (content: ContentSource) => Uint8Array;

function addEntry(hasher: Hash, entry: TreeEntry, hashOf: HashOf): void {
  const group = entry.type === "file" ? entry.linkGroup : undefined;
  if (group !== undefined && group !== entry.path) {
    hasher.update("h");
    addText(hasher, entry.path);
    addText(hasher, group);
    return;
  }
  hasher.update(LETTERS[entry.type]);
  addText(hasher, entry.path);
  addCommon(hasher, entry);
  if (entry.type === "file") {
    hasher.update(i64(entry.content.sizeBytes)).update(hashOf(entry.content));
  } else if (entry.type === "symlink") addText(hasher, entry.target);
  else if (entry.type === "character" || entry.type === "block") {
    hasher.update(u32(entry.major)).update(u32(entry.minor));
  }
}

/** Hashes contents side by side, so that reading the one overlaps with hashing the other. */
async function hashContents(tree: Tree): Promise<void> {
  const files = tree.entries.filter((entry) => entry.type === "file");
  const contents = [...new Set(files.map(({ content }) => content))];
  for (let start = 0; start < contents.length; start += HASHED_AT_ONCE) {
    await Promise.all(contents.slice(start, start + HASHED_AT_ONCE).map(contentHash));
  }
}

/** The same as {@link treeDigest}, with the sha256 of each content given: nothing is read. */
export function treeDigestFrom(entries: readonly TreeEntry[], hashOf: HashOf): Digest {
  const hasher = createHash("sha256").update(HEADING);
  for (const entry of entries) addEntry(hasher, entry, hashOf);
  return `sha256:${hasher.digest("hex")}`;
}

/**
 * The identity of a tree: sha256 over its canonical serialisation (`doc/component-image.md`,
 * "Tree digest"). Reads every content that was not hashed before.
 */
export async function treeDigest(tree: Tree): Promise<Digest> {
  await hashContents(tree);
  return treeDigestFrom(tree.entries, knownHash);
}
