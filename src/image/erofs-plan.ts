/** Decides where everything in an EROFS image goes, from sizes alone. */
import { bufferSource } from "./content.ts";
import type { ContentSource, Tree, TreeEntry } from "./contract.ts";
import { directoryBytes, encodeDirectory } from "./erofs-directory.ts";
import { BLOCK_BYTES, EXTENDED_INODE_BYTES, SLOT_BYTES } from "./erofs-format.ts";
import { tooLarge } from "./errors.ts";
import { nameOf, parentOf } from "./path.ts";
import { xattrAreaBytes } from "./xattr.ts";

/** Blocks of inodes that are not full and still taken into account for the next inode. */
const OPEN_BLOCKS_MAX = 32;

export interface PlannedInode {
  readonly entry: TreeEntry;
  readonly sizeBytes: number;
  readonly xattrBytes: number;
  /** Bytes of the content's end that follow the inode instead of filling a block. */
  readonly tailBytes: number;
  /** Blocks of content. */
  readonly blocks: number;
  links: number;
  nid: number;
  firstBlock: number;
}

export interface ErofsPlan {
  /** In the order of their first paths: the root first. */
  readonly inodes: readonly PlannedInode[];
  /** First block after those of the inodes. */
  readonly dataBlock: number;
  /** Blocks of the image. */
  readonly blocks: number;
  /** The content of an inode that is no file: a directory's entries, a link's target. */
  metadataOf(inode: PlannedInode): Buffer;
  /** The content of any inode that has one. */
  bodyOf(inode: PlannedInode): ContentSource;
}

/** Bytes between the end of what is used and the end of its block. */
function roomAfter(used: number): number {
  return (BLOCK_BYTES - (used % BLOCK_BYTES)) % BLOCK_BYTES;
}

/** Gives out places for inodes, block by block: the fullest open block that still has room. */
function placer(firstBlock: number) {
  let next = firstBlock * BLOCK_BYTES;
  /** End of what is used, by ascending block. */
  let open: number[] = [];
  const keep = (used: number): void => {
    if (roomAfter(used) >= EXTENDED_INODE_BYTES) open.push(used);
    if (open.length <= OPEN_BLOCKS_MAX) return;
    const least = open.reduce((a, b) => (roomAfter(b) < roomAfter(a) ? b : a));
    open = open.filter((other) => other !== least);
  };
  return {
    place(bytes: number): number {
      const length = Math.ceil(bytes / SLOT_BYTES) * SLOT_BYTES;
      let best: number | undefined;
      for (const used of open) {
        if (roomAfter(used) < length) continue;
        if (best === undefined || roomAfter(used) < roomAfter(best)) best = used;
      }
      const start = best ?? next;
      if (best === undefined) next += Math.ceil(length / BLOCK_BYTES) * BLOCK_BYTES;
      open = open.filter((used) => used !== best);
      keep(start + length);
      return start;
    },
    endBlock: (): number => next / BLOCK_BYTES,
  };
}

type Names = ReadonlyMap<string, readonly string[]>;

/** The paths in each directory, by its path. */
function childrenOf(tree: Tree): Names {
  const children = new Map<string, string[]>();
  for (const { path, type } of tree.entries) {
    if (type === "directory") children.set(path, []);
    if (path !== "") children.get(parentOf(path))?.push(path);
  }
  return children;
}

function bodyBytes(entry: TreeEntry, children: Names): number {
  if (entry.type === "file") return entry.content.sizeBytes;
  if (entry.type === "symlink") return Buffer.byteLength(entry.target);
  if (entry.type === "directory") {
    return directoryBytes((children.get(entry.path) ?? []).map(nameOf));
  }
  return 0;
}

/** A tail stays with its inode when both fit into one block together. */
function sizesOf(entry: TreeEntry, children: Names): PlannedInode {
  const sizeBytes = bodyBytes(entry, children);
  const xattrBytes = xattrAreaBytes(entry.xattrs);
  const tail = sizeBytes % BLOCK_BYTES;
  const fits = EXTENDED_INODE_BYTES + xattrBytes + tail <= BLOCK_BYTES;
  const tailBytes = fits ? tail : 0;
  const blocks = Math.ceil((sizeBytes - tailBytes) / BLOCK_BYTES);
  return { entry, sizeBytes, xattrBytes, tailBytes, blocks, links: 0, nid: 0, firstBlock: 0 };
}

/** One inode for each entry, one for all links of a file. */
function inodesOf(tree: Tree, children: Names): Map<string, PlannedInode> {
  const byPath = new Map<string, PlannedInode>();
  for (const entry of tree.entries) {
    const group = entry.type === "file" ? entry.linkGroup : undefined;
    const inode = byPath.get(group ?? entry.path) ?? sizesOf(entry, children);
    byPath.set(entry.path, inode);
    inode.links += entry.type === "directory" ? 2 : 1;
    const parent =
      entry.type === "directory" && entry.path !== "" ? parentOf(entry.path) : undefined;
    const above = parent === undefined ? undefined : byPath.get(parent);
    if (above !== undefined) above.links += 1;
  }
  return byPath;
}

function directoryContent(
  path: string,
  children: Names,
  byPath: ReadonlyMap<string, PlannedInode>,
): Buffer {
  const direntOf = (name: string, target: string) => {
    const inode = byPath.get(target);
    return { name, nid: inode?.nid ?? 0, type: inode?.entry.type ?? "directory" };
  };
  return encodeDirectory([
    direntOf(".", path),
    direntOf("..", parentOf(path)),
    ...(children.get(path) ?? []).map((child) => direntOf(nameOf(child), child)),
  ]);
}

/** @throws `image.too-large` (misuse) above 16 TiB */
export function planErofs(tree: Tree): ErofsPlan {
  const children = childrenOf(tree);
  const byPath = inodesOf(tree, children);
  const inodes = [...new Set(byPath.values())];
  const places = placer(1);
  for (const inode of inodes) {
    const bytes = EXTENDED_INODE_BYTES + inode.xattrBytes + inode.tailBytes;
    inode.nid = places.place(bytes) / SLOT_BYTES;
  }
  const dataBlock = places.endBlock();
  let next = dataBlock;
  for (const inode of inodes) {
    if (inode.blocks === 0) continue;
    inode.firstBlock = next;
    next += inode.blocks;
  }
  if (next > 0xffff_ffff) throw tooLarge("the image would exceed 16 TiB");
  const metadataOf = ({ entry }: PlannedInode): Buffer =>
    entry.type === "symlink"
      ? Buffer.from(entry.target)
      : directoryContent(entry.path, children, byPath);
  return {
    inodes,
    dataBlock,
    blocks: next,
    metadataOf,
    bodyOf: (inode) =>
      inode.entry.type === "file" ? inode.entry.content : bufferSource(metadataOf(inode)),
  };
}
