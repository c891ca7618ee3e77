/** Which files are still as their packages brought them. */
import { contentMd5, type ContentSource, type TreeEntry } from "#image";
import type { OwnedFile, PackageDatabase } from "./dpkg.ts";
import { isSparse, type FineTree } from "./tree.ts";

/** Files that are read side by side, so that reading the one overlaps with hashing the other. */
const AT_ONCE = 16;
const TOLD_EACH = 256;

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
  const sum: Sum = async (content) => {
    const known = sums.get(content) ?? contentMd5(content);
    sums.set(content, known);
    return await known;
  };
  const intact = new Set<string>();
  const all = [...owned];
  for (let done = 0; done < all.length; done += AT_ONCE) {
    if (done % TOLD_EACH === 0) tell(done, all.length);
    const judge = async ([path, owner]: (typeof all)[number]): Promise<void> => {
      const entry = tree.get(path);
      if (entry === undefined || fractions.has(path)) return;
      if (await isIntact(entry, owner, sum)) intact.add(path);
    };
    await Promise.all(all.slice(done, done + AT_ONCE).map(judge));
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
