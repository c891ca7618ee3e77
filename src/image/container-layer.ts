/** Layers of container images (OCI image specification 1.1, "Image Layer Filesystem Changeset"). */
import type { ContentSource, Tree, TreeEntry } from "./contract.ts";
import { plainDirectory } from "./entry.ts";
import { tarInvalid } from "./errors.ts";
import { checkNoOverlay, opaque, whiteout } from "./overlay.ts";
import { checkPath, nameOf, parentOf } from "./path.ts";
import { readTarEntries, treeOf } from "./tar.ts";

const MARK = ".wh.";
const OPAQUE_MARK = ".wh..wh..opq";
/** What aufs kept for itself. */
const FOREIGN_MARK = ".wh..wh.";
/** As many as Linux follows. */
const LINKS_MAX = 40;

/** A layer as overlayfs would have it. */
export interface ContainerLayer {
  readonly tree: Tree;
  /** Paths of lower layers that it removes. */
  readonly removed: readonly string[];
  /** Directories of which it removes what lower layers have in them. */
  readonly emptied: readonly string[];
}

/**
 * A layer over what lies below it. Directories that the archive leaves out are those of below; a
 * path that leads through a link of below is where the link leads.
 *
 * @throws `image.tar-invalid` (corrupt), `image.overlay-unsupported` (misuse)
 */
export async function readContainerLayer(
  source: ContentSource,
  below: Tree,
): Promise<ContainerLayer> {
  const given = await readTarEntries(source);
  const entries = new Map<string, TreeEntry>();
  const places = new Places(entries, below);
  const marks = { removed: new Set<string>(), emptied: new Set<string>() };
  for (const entry of given.values()) {
    const path = places.of(entry.path);
    if (takeMark(path, marks)) continue;
    checkNoOverlay(entry);
    entries.set(path, { ...entry, path });
  }
  const emptied = [...marks.emptied];
  const removed: string[] = [];
  for (const path of marks.removed) {
    // A mark is about lower layers only: what this layer has at the path stays, and hides them.
    if (entries.get(path)?.type === "directory") emptied.push(path);
    if (entries.has(path) || below.get(path) === undefined) continue;
    removed.push(path);
    entries.set(path, whiteout(path));
  }
  addDirectories(entries, emptied, below);
  return { tree: treeOf(entries.values()), removed, emptied };
}

interface Marks {
  readonly removed: Set<string>;
  readonly emptied: Set<string>;
}

/** False for an entry that is no mark. */
function takeMark(path: string, { removed, emptied }: Marks): boolean {
  const name = nameOf(path);
  if (!name.startsWith(MARK)) return false;
  const directory = parentOf(path);
  if (name === OPAQUE_MARK) {
    emptied.add(directory);
    return true;
  }
  if (name.startsWith(FOREIGN_MARK)) return true;
  const target = name.slice(MARK.length);
  if (target === "" || target === "." || target === "..")
    throw tarInvalid(`"${path}" marks nothing`);
  removed.add(childOf(directory, target));
  return true;
}

/** What the archive leaves out on the way to its entries, and the marks of those that are emptied. */
function addDirectories(
  entries: Map<string, TreeEntry>,
  emptied: readonly string[],
  below: Tree,
): void {
  const ofBelow = (path: string): TreeEntry => {
    const entry = below.get(path);
    return entry?.type === "directory" ? entry : plainDirectory(path);
  };
  for (const path of [...entries.keys(), ...emptied.map((directory) => `${directory}/.`)]) {
    for (let parent = parentOf(path); !entries.has(parent); parent = parentOf(parent)) {
      entries.set(parent, ofBelow(parent));
    }
  }
  for (const path of emptied) {
    const entry = entries.get(path);
    if (entry?.type === "directory") entries.set(path, opaque(entry));
  }
}

/** Where paths of an archive lead, when it is unpacked over what lies below. */
class Places {
  readonly #entries: ReadonlyMap<string, TreeEntry>;
  readonly #below: Tree;
  readonly #directories = new Map<string, string>([["", ""]]);

  /** @param entries what was unpacked so far: it hides what is below it */
  constructor(entries: ReadonlyMap<string, TreeEntry>, below: Tree) {
    this.#entries = entries;
    this.#below = below;
  }

  of(path: string): string {
    requirePlain(path);
    if (path === "") return "";
    return childOf(this.#directory(parentOf(path)), nameOf(path));
  }

  #directory(path: string): string {
    const unknown: string[] = [];
    let known = path;
    while (!this.#directories.has(known)) {
      unknown.push(known);
      known = parentOf(known);
    }
    let place = this.#directories.get(known) ?? "";
    for (const next of unknown.toReversed()) {
      place = this.#followed(place, [nameOf(next)]);
      this.#directories.set(next, place);
    }
    return place;
  }

  /** As Linux walks, within the root. */
  #followed(start: string, names: readonly string[]): string {
    let place = start;
    const rest = names.toReversed();
    for (let links = 0; rest.length > 0;) {
      const name = rest.pop() ?? "";
      const next = name === ".." ? parentOf(place) : childOf(place, name);
      const entry = this.#entries.has(next) ? undefined : this.#below.get(next);
      if (name === ".." || entry?.type !== "symlink") {
        place = next;
        continue;
      }
      if ((links += 1) > LINKS_MAX) throw tarInvalid(`"${next}" leads through too many links`);
      if (entry.target.startsWith("/")) place = "";
      rest.push(...namesIn(entry.target).toReversed());
    }
    return place;
  }
}

function namesIn(target: string): string[] {
  return target.split("/").filter((name) => name !== "" && name !== ".");
}

function childOf(directory: string, name: string): string {
  return directory === "" ? name : `${directory}/${name}`;
}

function requirePlain(path: string): void {
  try {
    checkPath(path);
  } catch (cause) {
    throw tarInvalid(cause instanceof Error ? cause.message : "it has a path that is none", cause);
  }
}
