import { TesseraError } from "#core";
import type { Tree, TreeEntry } from "./contract.ts";
import { checkEntry, plainDirectory, sameXattrs, sortedXattrs } from "./entry.ts";
import { pathInvalid, tooLarge } from "./errors.ts";
import { checkPath, compareBytes, parentOf } from "./path.ts";

export const ENTRIES_MAX = 2_000_000;
/** Bounds what hostile trees of many long paths take in memory. */
const PATHS_BYTES_MAX = 512 * 1024 * 1024;

type FileEntry = Extract<TreeEntry, { type: "file" }>;

function collect(entries: Iterable<TreeEntry>): Map<string, TreeEntry> {
  const byPath = new Map<string, TreeEntry>();
  let pathsBytes = 0;
  for (const entry of entries) {
    checkPath(entry.path);
    checkEntry(entry);
    if (byPath.has(entry.path)) throw pathInvalid(entry.path, "occurs twice");
    byPath.set(entry.path, entry);
    pathsBytes += entry.path.length;
    if (byPath.size > ENTRIES_MAX) throw tooLarge(`a tree has more than ${ENTRIES_MAX} entries`);
    if (pathsBytes > PATHS_BYTES_MAX) throw tooLarge("the paths of a tree take too much memory");
  }
  return byPath;
}

function addParents(byPath: Map<string, TreeEntry>): void {
  const given = [...byPath.keys()];
  if (!byPath.has("")) byPath.set("", plainDirectory(""));
  for (const path of given) {
    for (let parent = parentOf(path); ; parent = parentOf(parent)) {
      const entry = byPath.get(parent);
      if (entry === undefined) byPath.set(parent, plainDirectory(parent));
      else if (entry.type === "directory") break;
      else throw pathInvalid(path, `lies below "${parent}", which is no directory`);
    }
  }
  if (byPath.get("")?.type !== "directory") throw pathInvalid("", "must be a directory");
  if (byPath.size > ENTRIES_MAX) throw tooLarge(`a tree has more than ${ENTRIES_MAX} entries`);
}

/** One inode has one set of metadata; the content is taken from the first path. */
function linked(first: FileEntry, entry: FileEntry): FileEntry {
  const same =
    first.mode === entry.mode &&
    first.uid === entry.uid &&
    first.gid === entry.gid &&
    first.mtime_s === entry.mtime_s &&
    first.content.sizeBytes === entry.content.sizeBytes &&
    sameXattrs(first.xattrs, entry.xattrs);
  if (same) return { ...entry, content: first.content, linkGroup: first.path };
  const message = `"${entry.path}" and "${first.path}" are links of one file but differ`;
  throw new TesseraError("misuse", "image.link-invalid", message, { subject: entry.path });
}

function withoutGroup(entry: FileEntry): FileEntry {
  const { linkGroup: _, ...rest } = entry;
  return rest;
}

/** Names every group after its first path and drops groups of one. */
function normaliseLinks(sorted: readonly TreeEntry[]): TreeEntry[] {
  const groups = new Map<string, { first: FileEntry; count: number }>();
  for (const entry of sorted) {
    if (entry.type !== "file" || entry.linkGroup === undefined) continue;
    const group = groups.get(entry.linkGroup);
    if (group === undefined) groups.set(entry.linkGroup, { first: entry, count: 1 });
    else group.count += 1;
  }
  return sorted.map((entry) => {
    if (entry.type !== "file" || entry.linkGroup === undefined) return entry;
    const group = groups.get(entry.linkGroup);
    return group === undefined || group.count < 2
      ? withoutGroup(entry)
      : linked(group.first, entry);
  });
}

/** Linux ignores the mode of a symbolic link and shows 0777; trees say the same. */
function normalise(entry: TreeEntry): TreeEntry {
  const modeStays = entry.type !== "symlink" || entry.mode === 0o777;
  if (modeStays && entry.xattrs.size === 0) return entry;
  const xattrs = sortedXattrs(entry.xattrs);
  return entry.type === "symlink" ? { ...entry, mode: 0o777, xattrs } : { ...entry, xattrs };
}

/**
 * The canonical tree of these entries, in any order: validated, missing parents added (root's, 0755,
 * time 0), sorted by the bytes of the path, xattrs sorted, link groups named after their first path.
 *
 * @throws `image.path-invalid`, `image.entry-invalid`, `image.link-invalid`, `image.too-large`
 *   (misuse)
 */
export function canonicalTree(entries: Iterable<TreeEntry>): Tree {
  const byPath = collect(entries);
  addParents(byPath);
  const sorted = [...byPath.values()].map(normalise).sort((a, b) => compareBytes(a.path, b.path));
  const canonical = normaliseLinks(sorted);
  let index: ReadonlyMap<string, TreeEntry> | undefined;
  const get = (path: string): TreeEntry | undefined => {
    index ??= new Map(canonical.map((entry) => [entry.path, entry]));
    return index.get(path);
  };
  return { entries: canonical, get };
}

/** The paths of every link group of a tree, by the group's name, in order. */
export function linkGroupsOf(tree: Tree): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const entry of tree.entries) {
    if (entry.type !== "file" || entry.linkGroup === undefined) continue;
    const group = groups.get(entry.linkGroup);
    if (group === undefined) groups.set(entry.linkGroup, [entry.path]);
    else group.push(entry.path);
  }
  return groups;
}
