/** What a machine has written, as its files are: without the notes that overlayfs keeps for itself. */
import type { Tree, TreeEntry } from "#image";
import { canonicalTree } from "#image";
import type { FineTree } from "#import";

const PREFIX = "trusted.overlay.";
/** Of no meaning to what is shown (Linux, fs/overlayfs/overlayfs.h); with the options of our initramfs. */
const NOTES: ReadonlySet<string> = new Set(
  ["origin", "impure", "nlink", "upper", "uuid", "protattr"].map((name) => `${PREFIX}${name}`),
);

function withoutNotes(entry: TreeEntry): TreeEntry {
  const names = [...entry.xattrs.keys()];
  if (!names.some((name) => NOTES.has(name))) return entry;
  return { ...entry, xattrs: new Map([...entry.xattrs].filter(([name]) => !NOTES.has(name))) };
}

/** The upper layer with only the marks that `mergeTrees` knows. */
export function plainUpper({ tree, fractions }: FineTree): FineTree {
  return { tree: canonicalTree(tree.entries.map(withoutNotes)), fractions };
}

/** Fractions of seconds of what is shown: of all that comes from the upper layer and hides nothing. */
export function shownFractions(shown: Tree, { tree, fractions }: FineTree): Map<string, number> {
  const isShown = (path: string): boolean =>
    shown.get(path) !== undefined && shown.get(path)?.type === tree.get(path)?.type;
  return new Map([...fractions].filter(([path]) => isShown(path)));
}
