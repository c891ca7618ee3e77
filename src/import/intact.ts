/** Which files are still as their packages brought them. */
import { createHash } from "node:crypto";
import type { ContentSource, TreeEntry } from "#image";
import type { OwnedFile, PackageDatabase } from "./dpkg.ts";
import { isSparse, type FineTree } from "./tree.ts";

const CHUNK_BYTES = 2 ** 20;

async function md5Of(content: ContentSource, buffer: Uint8Array): Promise<string> {
  const hash = createHash("md5");
  for (let at = 0; at < content.sizeBytes; at += CHUNK_BYTES) {
    const piece = buffer.subarray(0, Math.min(CHUNK_BYTES, content.sizeBytes - at));
    await content.read(piece, at);
    hash.update(piece);
  }
  return hash.digest("hex");
}

type Sum = (content: ContentSource) => Promise<string>;

async function isIntact(entry: TreeEntry, owner: OwnedFile, sum: Sum): Promise<boolean> {
  if (entry.type === "symlink") return true;
  if (entry.type !== "file") return false;
  if (owner.isControl === true) return true;
  return owner.md5 !== undefined && (await sum(entry.content)) === owner.md5;
}

/**
 * The paths whose content is that of the package. A time below the second says that the file was
 * written in the machine: archives of packages have whole seconds, and so have components.
 */
export async function intactPaths(
  { tree, fractions }: FineTree,
  { owned }: PackageDatabase,
  tell: (done: number, total: number) => void,
): Promise<ReadonlySet<string>> {
  const sums = new Map<ContentSource, Promise<string>>();
  const buffer = new Uint8Array(CHUNK_BYTES);
  const sum: Sum = async (content) => {
    const known = sums.get(content) ?? md5Of(content, buffer);
    sums.set(content, known);
    return await known;
  };
  const intact = new Set<string>();
  let done = 0;
  for (const [path, owner] of owned) {
    done += 1;
    if (done % 256 === 0) tell(done, owned.size);
    const entry = tree.get(path);
    if (entry === undefined || fractions.has(path)) continue;
    if (await isIntact(entry, owner, sum)) intact.add(path);
  }
  return intact;
}

/** The files that have holes. */
export async function holedPaths({ tree }: FineTree): Promise<ReadonlySet<string>> {
  const holed = new Set<string>();
  for (const entry of tree.entries) {
    if (entry.type !== "file" || !isSparse(entry.content)) continue;
    const ranges = await entry.content.dataRanges();
    const held = ranges.reduce((sum, { length }) => sum + length, 0);
    if (held < entry.content.sizeBytes) holed.add(entry.path);
  }
  return holed;
}
