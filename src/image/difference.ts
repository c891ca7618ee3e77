import { sameContent } from "./content.ts";
import type { Tree, TreeEntry } from "./contract.ts";
import { sameXattrs } from "./entry.ts";
import { checkNoOverlay, opaque, whiteout } from "./overlay.ts";
import { parentOf } from "./path.ts";
import { canonicalTree, linkGroupsOf } from "./tree.ts";

type LinkGroups = ReadonlyMap<string, readonly string[]>;

interface Side {
  readonly tree: Tree;
  readonly groups: LinkGroups;
}

function sameMetadata(a: TreeEntry, b: TreeEntry): boolean {
  if (a.mode !== b.mode || a.uid !== b.uid || a.gid !== b.gid) return false;
  /* Adding or removing a name changes a directory's time; that alone is no change. */
  if (a.mtime_s !== b.mtime_s && a.type !== "directory") return false;
  return sameXattrs(a.xattrs, b.xattrs);
}

function linksOf(side: Side, entry: TreeEntry): readonly string[] {
  const group = entry.type === "file" ? entry.linkGroup : undefined;
  return (group === undefined ? undefined : side.groups.get(group)) ?? [];
}

function sameLinks(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((path, index) => path === b[index]);
}

/** True when the entry may be left to the base. */
async function unchanged(base: Side, target: Side, entry: TreeEntry): Promise<boolean> {
  const old = base.tree.get(entry.path);
  if (old === undefined || old.type !== entry.type || !sameMetadata(old, entry)) return false;
  if (entry.type === "file" && old.type === "file") {
    if (!sameLinks(linksOf(base, old), linksOf(target, entry))) return false;
    return await sameContent(old.content, entry.content);
  }
  if (entry.type === "symlink") return old.type === "symlink" && old.target === entry.target;
  if (entry.type === "character" || entry.type === "block") {
    return old.type === entry.type && old.major === entry.major && old.minor === entry.minor;
  }
  return true;
}

/** A directory in the place of something else hides it whole. */
function asUpper(entry: TreeEntry, old: TreeEntry | undefined): TreeEntry {
  const replaces = entry.type === "directory" && old !== undefined && old.type !== "directory";
  return replaces ? opaque(entry) : entry;
}

/** The topmost removed paths, for which the target has the directory that held them. */
function* whiteouts(base: Tree, target: Tree): Generator<TreeEntry> {
  for (const { path } of base.entries) {
    if (target.get(path) !== undefined) continue;
    if (target.get(parentOf(path))?.type === "directory") yield whiteout(path);
  }
}

/** Adds the directories above, with the target's metadata. */
function addParents(upper: Map<string, TreeEntry>, base: Tree, target: Tree): void {
  for (const path of [...upper.keys(), ""]) {
    for (let parent = parentOf(path); !upper.has(parent); parent = parentOf(parent)) {
      const entry = target.get(parent);
      if (entry !== undefined) upper.set(parent, asUpper(entry, base.get(parent)));
    }
  }
}

/**
 * The upper layer that turns `base` into `target` under overlayfs: new and changed entries,
 * whiteouts for removed ones, the directories above them with the target's metadata; a directory
 * that replaces something else is opaque. A directory of which only the time changed is left out,
 * so `mergeTrees([base, difference])` equals `target` but for such times. Contents that may be equal
 * are read from both.
 *
 * @throws `image.overlay-unsupported` (misuse) when either tree has marks of an overlay
 */
export async function treeDifference(base: Tree, target: Tree): Promise<Tree> {
  for (const tree of [base, target]) for (const entry of tree.entries) checkNoOverlay(entry);
  const below = { tree: base, groups: linkGroupsOf(base) };
  const above = { tree: target, groups: linkGroupsOf(target) };
  const upper = new Map<string, TreeEntry>();
  for (const entry of target.entries) {
    if (await unchanged(below, above, entry)) continue;
    upper.set(entry.path, asUpper(entry, base.get(entry.path)));
  }
  for (const entry of whiteouts(base, target)) upper.set(entry.path, entry);
  addParents(upper, base, target);
  return canonicalTree(upper.values());
}
