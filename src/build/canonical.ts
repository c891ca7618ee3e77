import { bufferSource, canonicalTree, type Tree, type TreeEntry } from "#image";
import type { Recipe } from "./contract.ts";

/** Everything below these directories goes, the directory stays. */
const EMPTIED = [
  "dev",
  "proc",
  "run",
  "sys",
  "tmp",
  "var/backups",
  "var/cache/apt",
  "var/cache/ldconfig",
  "var/cache/man",
  "var/lib/apt/lists",
  "var/lib/systemd/timers",
  "var/tmp",
] as const;

/** Of these directories the files go, the directories stay: services expect them. */
const WITHOUT_FILES = ["var/log"] as const;

/** Traces of the building, state of tools that they make again, and data of one machine. */
const DROPPED = new Set([
  "etc/.pwd.lock",
  "etc/apt/apt.conf.d/99mmdebstrap",
  "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
  "etc/group-",
  "etc/gshadow-",
  "etc/hostname",
  "etc/ld.so.cache",
  "etc/machine-id",
  "etc/passwd-",
  "etc/resolv.conf",
  "etc/shadow-",
  "etc/ssl/certs/ssl-cert-snakeoil.pem",
  "etc/ssl/private/ssl-cert-snakeoil.key",
  "etc/subgid-",
  "etc/subuid-",
  "var/cache/debconf/config.dat-old",
  "var/cache/debconf/passwords.dat",
  "var/cache/debconf/templates.dat-old",
  "var/lib/apt/daily_lock",
  "var/lib/dbus/machine-id",
  "var/lib/dpkg/available",
  "var/lib/dpkg/available-old",
  "var/lib/dpkg/diversions-old",
  "var/lib/dpkg/lock",
  "var/lib/dpkg/lock-frontend",
  "var/lib/dpkg/statoverride-old",
  "var/lib/dpkg/status-old",
  "var/lib/dpkg/triggers/Lock",
  "var/lib/dpkg/triggers/Unincorp",
  "var/lib/systemd/random-seed",
]);

const HOST_KEY = /^etc\/ssh\/ssh_host_[^/]+_key(\.pub)?$/;

function isBelow(path: string, directories: readonly string[]): boolean {
  return directories.some((directory) => path.startsWith(`${directory}/`));
}

/** Is this entry of an installed tree no part of a component? */
export function isDropped(
  entry: Pick<TreeEntry, "path" | "type">,
  instancePaths: readonly string[],
): boolean {
  const { path, type } = entry;
  if (DROPPED.has(path) || HOST_KEY.test(path) || type === "socket") return true;
  if (isBelow(path, EMPTIED) || isBelow(path, instancePaths)) return true;
  return type !== "directory" && isBelow(path, WITHOUT_FILES);
}

const NO_XATTRS: ReadonlyMap<string, Uint8Array> = new Map();

function plain(path: string, mode: number, mtime_s: number) {
  return { path, mode, uid: 0, gid: 0, mtime_s, xattrs: NO_XATTRS };
}

export function textEntry(path: string, text: string, mode: number, mtime_s: number): TreeEntry {
  const content = bufferSource(new TextEncoder().encode(text));
  return { type: "file", ...plain(path, mode, mtime_s), content };
}

/** `/etc/x` as trees have it. */
export function treePathOf(path: string): string {
  return path.slice(1);
}

function recipeEntries(recipe: Recipe, epoch_s: number): TreeEntry[] {
  const files = recipe.files.map(({ path, text, mode }) =>
    textEntry(treePathOf(path), text, mode, epoch_s),
  );
  const links = recipe.links.map(({ path, target }): TreeEntry => {
    return { type: "symlink", ...plain(treePathOf(path), 0o777, epoch_s), target };
  });
  return [...files, ...links];
}

/** Directories above recipe entries that the tree does not have, with the epoch as their time. */
function missingParents(entries: ReadonlyMap<string, TreeEntry>, epoch_s: number): TreeEntry[] {
  const parents = new Map<string, TreeEntry>();
  for (const path of entries.keys()) {
    for (let slash = path.lastIndexOf("/"); slash > 0; slash = path.lastIndexOf("/", slash - 1)) {
      const parent = path.slice(0, slash);
      if (entries.has(parent) || parents.has(parent)) break;
      parents.set(parent, { type: "directory", ...plain(parent, 0o755, epoch_s) });
    }
  }
  return [...parents.values()];
}

/** A tree in which nothing is younger than the epoch. */
export function clampTimes(tree: Tree, epoch_s: number): Tree {
  return canonicalTree(
    tree.entries.map((entry) => (entry.mtime_s > epoch_s ? { ...entry, mtime_s: epoch_s } : entry)),
  );
}

/**
 * The part of an installed tree that is the same on every machine: without what {@link isDropped}
 * names, with the recipes' own files and links, an empty `/etc/machine-id` (machine-id(5): it is
 * set at boot, without the presets of a first boot), the archives of the OS in
 * `/etc/apt/sources.list`, and no time after the epoch.
 */
export function canonicalRoot(
  installed: Tree,
  recipes: readonly Recipe[],
  sources: readonly string[],
  epoch_s: number,
): Tree {
  const instancePaths = recipes.flatMap((recipe) => recipe.instancePaths.map(treePathOf));
  const entries = new Map<string, TreeEntry>();
  for (const entry of installed.entries) {
    if (!isDropped(entry, instancePaths)) entries.set(entry.path, entry);
  }
  const added = [
    textEntry("etc/machine-id", "", 0o444, epoch_s),
    textEntry("etc/apt/sources.list", `${sources.join("\n")}\n`, 0o644, epoch_s),
    ...recipes.flatMap((recipe) => recipeEntries(recipe, epoch_s)),
  ];
  for (const entry of added) entries.set(entry.path, entry);
  for (const entry of missingParents(entries, epoch_s)) entries.set(entry.path, entry);
  return clampTimes(canonicalTree(entries.values()), epoch_s);
}

/**
 * Gives entries the times that they have in the base: a path that exists in both and differs in
 * its time alone was not changed by the program (files that installation makes get the time of
 * the build). Hard links keep theirs, as one file has one time.
 */
export function withBaseTimes(tree: Tree, base: Tree): Tree {
  return canonicalTree(
    tree.entries.map((entry) => {
      const old = base.get(entry.path);
      const linked = entry.type === "file" && entry.linkGroup !== undefined;
      return old === undefined || linked ? entry : { ...entry, mtime_s: old.mtime_s };
    }),
  );
}

/**
 * The times of a program's tree, from the program alone, so that a newer lock of the OS does not
 * change it: its own entries have their own, and directories that the OS has too that of the
 * oldest file which the program brings. (A younger `/usr` than the OS's would make systemd take
 * the next boot for one after an upgrade, systemd-update-done.service(8).)
 */
export function withOwnTimes(difference: Tree, full: Tree, os: Tree): Tree {
  const files = difference.entries.filter(({ type }) => type !== "directory");
  const times = files.map(({ path, mtime_s }) => full.get(path)?.mtime_s ?? mtime_s);
  const oldest = times.reduce((least, time) => Math.min(least, time), full.get("")?.mtime_s ?? 0);
  return canonicalTree(
    difference.entries.map((entry) => {
      const own = full.get(entry.path);
      const shared = entry.type === "directory" && os.get(entry.path)?.type === "directory";
      if (shared) return { ...entry, mtime_s: oldest };
      return own?.type === entry.type ? { ...entry, mtime_s: own.mtime_s } : entry;
    }),
  );
}

/** Is this entry of a program in the way of one of the OS, other than as a directory of both? */
export function hidesBase(entry: TreeEntry, os: Tree): boolean {
  const old = os.get(entry.path);
  return old !== undefined && !(old.type === "directory" && entry.type === "directory");
}
