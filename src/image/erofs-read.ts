import { TesseraError } from "#core";
import { readAll } from "./content.ts";
import type { ContentSource, Tree, TreeEntry } from "./contract.ts";
import { decodeDirectoryBlock, type Dirent } from "./erofs-directory.ts";
import { BLOCK_BYTES, decodeDevice } from "./erofs-format.ts";
import {
  bodyOf,
  metadataBodyOf,
  openErofs,
  readInode,
  type ErofsImage,
  type LocatedInode,
} from "./erofs-inode.ts";
import { erofsInvalid } from "./errors.ts";
import { PATH_BYTES_MAX, compareBytes } from "./path.ts";
import { ENTRIES_MAX, canonicalTree } from "./tree.ts";

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A directory that is still to be read. */
interface Pending {
  readonly path: string;
  readonly nid: number;
  readonly parentNid: number;
  readonly inode: LocatedInode;
}

/** What has been read; it bounds the work and the memory that a hostile image can cost. */
interface Walk {
  readonly image: ErofsImage;
  readonly entries: TreeEntry[];
  readonly pending: Pending[];
  readonly directories: Set<number>;
  /** Files by inode: where in the entries their first path is, as more than one may name them. */
  readonly files: Map<number, number>;
  /** Bytes of paths, targets and xattrs that may still be held. */
  memoryBytes: number;
}

const MEMORY_BYTES_MAX = 512 * 1024 * 1024;

function spend(walk: Walk, bytes: number): void {
  walk.memoryBytes -= bytes;
  if (walk.memoryBytes < 0) throw erofsInvalid("its tree takes too much memory");
}

async function readTarget(image: ErofsImage, inode: LocatedInode): Promise<string> {
  if (inode.sizeBytes > PATH_BYTES_MAX) throw erofsInvalid("a link target is too long");
  const bytes = await readAll(metadataBodyOf(image, inode), PATH_BYTES_MAX);
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw erofsInvalid("a link target is not UTF-8", cause);
  }
}

async function entryOf(image: ErofsImage, path: string, inode: LocatedInode): Promise<TreeEntry> {
  const { mode, uid, gid, mtime_s, xattrs, type } = inode;
  const common = { path, mode, uid, gid, mtime_s, xattrs };
  if (type === "file") return { ...common, type, content: bodyOf(image, inode) };
  if (type === "symlink") return { ...common, type, target: await readTarget(image, inode) };
  if (type === "character" || type === "block") {
    return { ...common, type, ...decodeDevice(inode.union) };
  }
  return { ...common, type };
}

function addDirectory(walk: Walk, pending: Pending): void {
  if (walk.directories.has(pending.nid)) throw erofsInvalid("a directory occurs twice");
  walk.directories.add(pending.nid);
  walk.pending.push(pending);
}

function xattrBytes(inode: LocatedInode): number {
  let sum = 0;
  for (const [name, value] of inode.xattrs) sum += name.length + value.length;
  return sum;
}

/** A further path of a file; false when the inode was not seen before. */
function addLink(walk: Walk, nid: number, path: string): boolean {
  const index = walk.files.get(nid);
  const first = index === undefined ? undefined : walk.entries[index];
  if (index === undefined || first?.type !== "file") return false;
  const linkGroup = String(nid);
  walk.entries[index] = { ...first, linkGroup };
  walk.entries.push({ ...first, path, linkGroup });
  if (walk.entries.length > ENTRIES_MAX) throw erofsInvalid("it has too many entries");
  return true;
}

async function addEntry(walk: Walk, above: Pending, dirent: Dirent): Promise<void> {
  const { nid, name, type } = dirent;
  const path = above.path === "" ? name : `${above.path}/${name}`;
  if (path.length > PATH_BYTES_MAX) throw erofsInvalid("a path is too long");
  spend(walk, path.length + name.length);
  if (type === "file" && addLink(walk, nid, path)) return;
  const inode = await readInode(walk.image, nid);
  if (inode.type !== type) throw erofsInvalid(`"${path}" has two types`);
  spend(walk, xattrBytes(inode) + (type === "symlink" ? inode.sizeBytes : 0));
  const entry = await entryOf(walk.image, path, inode);
  walk.entries.push(entry);
  if (walk.entries.length > ENTRIES_MAX) throw erofsInvalid("it has too many entries");
  if (entry.type === "file") walk.files.set(nid, walk.entries.length - 1);
  if (type === "directory") addDirectory(walk, { path, nid, parentNid: above.nid, inode });
}

function checkDots(directory: Pending, { name, nid, type }: Dirent): void {
  const expected = name === "." ? directory.nid : directory.parentNid;
  if (type !== "directory" || nid !== expected) throw erofsInvalid(`"${name}" leads elsewhere`);
}

/** Names ascend strictly over all blocks, so each block brings at least one that is new. */
async function readDirectory(walk: Walk, directory: Pending): Promise<void> {
  const body = metadataBodyOf(walk.image, directory.inode);
  let previous: string | undefined;
  for (let offset = 0; offset < body.sizeBytes; offset += BLOCK_BYTES) {
    const block = Buffer.alloc(Math.min(BLOCK_BYTES, body.sizeBytes - offset));
    await body.read(block, offset);
    for (const dirent of decodeDirectoryBlock(block)) {
      if (previous !== undefined && compareBytes(previous, dirent.name) >= 0) {
        throw erofsInvalid(`the names in "${directory.path}" are not in order`);
      }
      previous = dirent.name;
      if (dirent.name === "." || dirent.name === "..") checkDots(directory, dirent);
      else await addEntry(walk, directory, dirent);
    }
  }
}

async function walkImage(image: ErofsImage): Promise<TreeEntry[]> {
  const walk: Walk = {
    image,
    entries: [],
    pending: [],
    directories: new Set(),
    files: new Map(),
    memoryBytes: MEMORY_BYTES_MAX,
  };
  const nid = image.superblock.rootNid;
  const inode = await readInode(image, nid);
  if (inode.type !== "directory") throw erofsInvalid("its root is no directory");
  walk.entries.push(await entryOf(image, "", inode));
  addDirectory(walk, { path: "", nid, parentNid: nid, inode });
  for (let next = walk.pending.pop(); next !== undefined; next = walk.pending.pop()) {
    await readDirectory(walk, next);
  }
  return walk.entries;
}

/**
 * The tree in an uncompressed EROFS image, ours or one of `mkfs.erofs`; contents are read from the
 * source when wanted. Images may come from anywhere: sizes, counts, depth and memory are bounded.
 *
 * @throws `image.erofs-invalid` (corrupt), `image.erofs-unsupported` (misuse)
 */
export async function readErofs(source: ContentSource): Promise<Tree> {
  const image = await openErofs(source);
  const entries = await walkImage(image);
  try {
    return canonicalTree(entries);
  } catch (cause) {
    if (!(cause instanceof TesseraError)) throw cause;
    throw erofsInvalid(cause.message, cause);
  }
}
