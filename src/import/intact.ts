/** Which files are still as their packages brought them. */
import { contentMd5, type ContentSource, type Tree, type TreeEntry } from "#image";
import type { InstalledPackage, OwnedFile, PackageDatabase } from "./dpkg.ts";
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

/** Accounts that are made on the machine begin here (Debian policy 9.2.2). */
const DYNAMIC_ID_MIN = 100;

/** A maintainer's script has given it to an account whose number differs between machines. */
const isGiven = ({ uid, gid }: TreeEntry): boolean => Math.max(uid, gid) >= DYNAMIC_ID_MIN;

/** The newest time of each package's own intact files. */
function newestTimes(
  tree: Tree,
  owned: PackageDatabase["owned"],
  intact: ReadonlySet<string>,
): ReadonlyMap<InstalledPackage, number> {
  const newest = new Map<InstalledPackage, number>();
  for (const path of intact) {
    const [entry, owner] = [tree.get(path), owned.get(path)];
    if (entry?.type !== "file" || owner === undefined || owner.isControl === true) continue;
    newest.set(owner.package, Math.max(newest.get(owner.package) ?? 0, entry.mtime_s));
  }
  return newest;
}

/** A link that is newer than all files of its package was made when that was installed. */
function withoutLateLinks(
  tree: Tree,
  owned: PackageDatabase["owned"],
  intact: ReadonlySet<string>,
): ReadonlySet<string> {
  const newest = newestTimes(tree, owned, intact);
  const isLate = (path: string): boolean => {
    const [entry, owner] = [tree.get(path), owned.get(path)];
    if (entry?.type !== "symlink" || owner === undefined) return false;
    return entry.mtime_s > (newest.get(owner.package) ?? Number.POSITIVE_INFINITY);
  };
  return new Set([...intact].filter((path) => !isLate(path)));
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
      if (entry === undefined || fractions.has(path) || isGiven(entry)) return;
      if (await isIntact(entry, owner, sum)) intact.add(path);
    };
    await Promise.all(all.slice(done, done + AT_ONCE).map(judge));
  }
  return withoutLateLinks(tree, owned, intact);
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
