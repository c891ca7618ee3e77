import { canonicalTree, treeDifference, type Tree, type TreeEntry } from "#image";
import type { FineTree } from "./tree.ts";

const parentOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf("/")));

/**
 * The upper layer that turns `base` into exactly `target`: as `treeDifference`, and with what differs
 * by its time alone, directories and fractions of seconds among it.
 *
 * @throws `image.overlay-unsupported` (misuse) when the target has marks of an overlay of its own
 */
export async function fineDifference(base: Tree, target: FineTree): Promise<FineTree> {
  const difference = await treeDifference(base, target.tree);
  const upper = new Map(difference.entries.map((entry) => [entry.path, entry]));
  for (const entry of target.tree.entries) {
    if (upper.has(entry.path)) continue;
    const same = base.get(entry.path)?.mtime_s === entry.mtime_s;
    if (!same || target.fractions.has(entry.path)) add(upper, target.tree, entry);
  }
  const fractions = new Map([...target.fractions].filter(([path]) => upper.has(path)));
  return { tree: canonicalTree(upper.values()), fractions };
}

/** With the directories above. */
function add(upper: Map<string, TreeEntry>, tree: Tree, entry: TreeEntry): void {
  upper.set(entry.path, entry);
  for (let path = parentOf(entry.path); !upper.has(path); path = parentOf(path)) {
    const parent = tree.get(path);
    if (parent !== undefined) upper.set(path, parent);
  }
}
