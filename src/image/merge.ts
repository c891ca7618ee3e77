import type { Tree, TreeEntry } from "./contract.ts";
import { isOpaque, isWhiteout, withoutOverlayXattrs } from "./overlay.ts";
import { nameOf, parentOf } from "./path.ts";
import { canonicalTree } from "./tree.ts";

interface Node {
  entry: TreeEntry;
  readonly children: Map<string, Node>;
}

function nodeAt(root: Node, path: string): Node | undefined {
  let node: Node | undefined = root;
  if (path === "") return node;
  for (const segment of path.split("/")) node = node?.children.get(segment);
  return node;
}

/** Link groups of different layers are different files even where their names are equal. */
function ofLayer(entry: TreeEntry, layer: number): TreeEntry {
  const shown = withoutOverlayXattrs(entry);
  if (shown.type !== "file" || shown.linkGroup === undefined) return shown;
  return { ...shown, linkGroup: `${layer} ${shown.linkGroup}` };
}

function addEntry(root: Node, entry: TreeEntry, layer: number): void {
  const shown = ofLayer(entry, layer);
  if (entry.path === "") {
    if (isOpaque(entry)) root.children.clear();
    root.entry = shown;
    return;
  }
  const siblings = nodeAt(root, parentOf(entry.path))?.children;
  const name = nameOf(entry.path);
  if (isWhiteout(entry)) {
    siblings?.delete(name);
    return;
  }
  const below = siblings?.get(name);
  const merges = below?.entry.type === "directory" && entry.type === "directory";
  if (below !== undefined && merges && !isOpaque(entry)) below.entry = shown;
  else siblings?.set(name, { entry: shown, children: new Map() });
}

function* entriesOf(root: Node): Generator<TreeEntry> {
  const pending = [root];
  for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
    yield node.entry;
    pending.push(...node.children.values());
  }
}

/**
 * What overlayfs shows of these layers, lowest first: whiteouts remove, opaque directories hide what
 * lies below them, directories merge and take the uppermost metadata.
 *
 * @throws `image.overlay-unsupported` (misuse) for redirected or metadata-only entries
 */
export function mergeTrees(layers: readonly Tree[]): Tree {
  const [bottom] = canonicalTree([]).entries;
  if (bottom === undefined) return canonicalTree([]);
  const root: Node = { entry: bottom, children: new Map() };
  for (const [index, layer] of layers.entries()) {
    for (const entry of layer.entries) addEntry(root, entry, index);
  }
  return canonicalTree(entriesOf(root));
}
