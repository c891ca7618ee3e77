import type { Tree } from "#image";

const HOPS_MAX = 40;

/**
 * Where a path of the machine leads in its tree, with links of the directories above followed and the
 * last name left as it is; undefined where a directory is missing. Nothing leads out of the tree.
 */
export function placeIn(tree: Tree, path: string): string | undefined {
  const names = path.split("/").filter((name) => name !== "" && name !== ".");
  const last = names.pop();
  if (last === undefined) return "";
  const parent = directoryIn(tree, names);
  if (parent === undefined) return undefined;
  return parent === "" ? last : `${parent}/${last}`;
}

function directoryIn(tree: Tree, names: readonly string[]): string | undefined {
  const pending = names.toReversed();
  let at: string[] = [];
  let hops = 0;
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    if (name === "" || name === ".") continue;
    if (name === "..") {
      at.pop();
      continue;
    }
    const entry = tree.get([...at, name].join("/"));
    if (entry?.type === "directory") at.push(name);
    else if (entry?.type === "symlink" && hops < HOPS_MAX) {
      hops += 1;
      if (entry.target.startsWith("/")) at = [];
      pending.push(...entry.target.split("/").toReversed());
    } else return undefined;
  }
  return at.join("/");
}

/** As {@link placeIn} for many paths: each directory is looked up once. */
export function placesIn(tree: Tree): (path: string) => string | undefined {
  const known = new Map<string, string | undefined>();
  return (path) => {
    const slash = path.lastIndexOf("/");
    const parent = path.slice(0, Math.max(0, slash));
    if (!known.has(parent)) known.set(parent, directoryIn(tree, parent.split("/")));
    const place = known.get(parent);
    if (place === undefined) return undefined;
    const name = path.slice(slash + 1);
    return place === "" ? name : `${place}/${name}`;
  };
}

/** The entry that a path leads to at last, as `open` would find it. */
export function entryAt(tree: Tree, path: string) {
  let place = placeIn(tree, path);
  for (let hops = 0; place !== undefined && hops < HOPS_MAX; hops += 1) {
    const entry = tree.get(place);
    if (entry?.type !== "symlink") return entry;
    const slash = place.lastIndexOf("/");
    const base = entry.target.startsWith("/") ? "" : place.slice(0, Math.max(0, slash));
    place = placeIn(tree, `${base}/${entry.target}`);
  }
  return undefined;
}
