/** A new ext4 file system that holds a tree: equal trees give equal bytes. Needs no tool and no root. */
import type { ContentSource, TreeEntry } from "#image";
import type { FineTree } from "../tree.ts";
import { CHUNK_BYTES, deviceBlock, heldBlocks, joined, piecesOf } from "./contents.ts";
import {
  EXTENTS_FLAG,
  encodeDirectory,
  encodeExtents,
  encodeInode,
  encodeXattrs,
  sealXattrBlock,
  type NewInode,
  type NewName,
} from "./encode.ts";
import {
  Allocator,
  BLOCK_BYTES,
  FIRST_INODE,
  GROUP_BLOCKS,
  INODE_BYTES,
  layoutOf,
  type Layout,
} from "./layout.ts";
import type { Run } from "./mapping.ts";
import { hasCopy, SUPERBLOCK_OFFSET } from "./superblock.ts";
import {
  checksumSeed,
  encodeGroup,
  encodeJournal,
  encodeSuperblock,
  type Identity,
  type Usage,
} from "./tables.ts";

/** What is written to: zero everywhere before. */
export interface DiskTarget {
  readonly sizeBytes: number;
  write(source: Uint8Array, offset: number): Promise<void>;
}

const ROOT_INODE = 2;
const JOURNAL_INODE = 8;
const LOST_AND_FOUND = "lost+found";
const MIB = 2 ** 20;
const ZEROES = Buffer.alloc(BLOCK_BYTES);
const TYPE_BITS: Readonly<Record<TreeEntry["type"], readonly [mode: number, kind: number]>> = {
  file: [0x8000, 1],
  directory: [0x4000, 2],
  character: [0x2000, 3],
  block: [0x6000, 4],
  fifo: [0x1000, 5],
  socket: [0xc000, 6],
  symlink: [0xa000, 7],
};

interface Numbered {
  readonly entry: TreeEntry;
  readonly number: number;
  links: number;
}

/** Inodes in the order of the paths, one for all links of a file. */
function numberEntries(entries: readonly TreeEntry[]): {
  byPath: Map<string, Numbered>;
  next: number;
} {
  const byPath = new Map<string, Numbered>();
  const groups = new Map<string, Numbered>();
  let next = FIRST_INODE + 1;
  for (const entry of entries) {
    const group = entry.type === "file" ? entry.linkGroup : undefined;
    const known = group === undefined ? undefined : groups.get(group);
    if (known !== undefined) {
      known.links += 1;
      byPath.set(entry.path, known);
      continue;
    }
    const number = entry.path === "" ? ROOT_INODE : next;
    if (entry.path !== "") next += 1;
    const made = { entry, number, links: entry.type === "directory" ? 2 : 1 };
    byPath.set(entry.path, made);
    if (group !== undefined) groups.set(group, made);
  }
  return { byPath, next };
}

const parentOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf("/")));
const nameOf = (path: string): string => path.slice(path.lastIndexOf("/") + 1);

class Writer {
  readonly #disk: DiskTarget;
  readonly #source: FineTree;
  readonly #identity: Identity;
  readonly #seed: number;
  readonly #byPath: Map<string, Numbered>;
  readonly #inodes: Buffer;
  readonly #layout: Layout;
  readonly #allocator: Allocator;
  readonly #directories: number[];
  readonly #buffer = Buffer.alloc(CHUNK_BYTES);

  constructor(disk: DiskTarget, source: FineTree, identity: Identity) {
    this.#disk = disk;
    this.#source = source;
    this.#identity = identity;
    this.#seed = checksumSeed(identity);
    const { byPath, next } = numberEntries(source.tree.entries);
    this.#byPath = byPath;
    this.#layout = layoutOf(disk.sizeBytes, next);
    this.#allocator = new Allocator(this.#layout);
    this.#inodes = Buffer.alloc((next - 1) * INODE_BYTES);
    this.#directories = Array.from({ length: this.#layout.groups }, () => 0);
  }

  async run(): Promise<void> {
    const children = this.#children();
    const journal = await this.#writeJournal();
    for (const [path, item] of this.#byPath) {
      if (item.entry.path !== path) continue;
      await this.#writeEntry(item, children);
    }
    await this.#writeLostAndFound();
    await this.#writeInodes();
    await this.#writeGroups(journal);
  }

  /** The names in each directory, with `.` and `..`. */
  #children(): Map<string, NewName[]> {
    const children = new Map<string, NewName[]>();
    const add = (path: string, name: string, inode: number, kind: number): void => {
      const names = children.get(path) ?? [];
      names.push({ name: Buffer.from(name), inode, kind });
      children.set(path, names);
    };
    for (const [path, { entry, number }] of this.#byPath) {
      const parent = this.#byPath.get(parentOf(path));
      if (entry.type === "directory") {
        add(path, ".", number, 2);
        add(path, "..", parent?.number ?? ROOT_INODE, 2);
        if (path !== "" && parent !== undefined) parent.links += 1;
      }
      if (path !== "") add(parentOf(path), nameOf(path), number, TYPE_BITS[entry.type][1]);
    }
    add("", LOST_AND_FOUND, FIRST_INODE, 2);
    const root = this.#byPath.get("");
    if (root !== undefined) root.links += 1;
    return children;
  }

  #take(blocks: number): Run[] {
    const runs: Run[] = [];
    for (let first = 0; first < blocks;) {
      const taken = this.#allocator.take(blocks - first);
      runs.push({ first, ...taken });
      first += taken.blocks;
    }
    return runs;
  }

  #takeOne = (): number => this.#allocator.take(1).start;

  #put(inode: NewInode): void {
    this.#inodes.set(encodeInode(inode, this.#seed), (inode.number - 1) * INODE_BYTES);
  }

  async #writeBlock(bytes: Uint8Array, place: number): Promise<void> {
    await this.#disk.write(bytes, place * BLOCK_BYTES);
  }

  /** Writes the tree of a file's extents. */
  async #extents(runs: readonly Run[], number: number): Promise<{ block: Buffer; blocks: number }> {
    const { root, nodes } = encodeExtents(runs, number, this.#seed, this.#takeOne);
    for (const { place, bytes } of nodes) await this.#writeBlock(bytes, place);
    const own = runs.reduce((sum, run) => sum + run.blocks, 0);
    return { block: root, blocks: own + nodes.length };
  }

  async #writeJournal(): Promise<{ root: Buffer; sizeBytes: number }> {
    const sizeBytes = (this.#disk.sizeBytes < 2 ** 30 ? 4 : 16) * MIB;
    const runs = this.#take(sizeBytes / BLOCK_BYTES);
    const [first] = runs;
    const blocks = sizeBytes / BLOCK_BYTES;
    await this.#writeBlock(encodeJournal(this.#identity, blocks), first?.start ?? 0);
    const extents = await this.#extents(runs, JOURNAL_INODE);
    const common = { uid: 0, gid: 0, links: 1, mtime_s: 0, mtime_ns: 0 };
    const none = { xattrBlock: 0, xattrs: new Uint8Array() };
    const place = { number: JOURNAL_INODE, mode: 0o100600, sizeBytes, flags: EXTENTS_FLAG };
    this.#put({ ...common, ...none, ...place, ...extents });
    return { root: extents.block, sizeBytes };
  }

  async #writeEntry(item: Numbered, children: ReadonlyMap<string, NewName[]>): Promise<void> {
    const { entry, number } = item;
    const body = await this.#writeBody(item, children.get(entry.path) ?? []);
    const { inInode, block } = encodeXattrs(entry.xattrs);
    const xattrBlock = block === undefined ? 0 : this.#takeOne();
    if (block !== undefined) {
      sealXattrBlock(block, xattrBlock, this.#seed);
      await this.#writeBlock(block, xattrBlock);
    }
    if (entry.type === "directory") this.#countDirectory(number);
    this.#put({
      number,
      mode: TYPE_BITS[entry.type][0] | entry.mode,
      uid: entry.uid,
      gid: entry.gid,
      links: item.links,
      mtime_s: entry.mtime_s,
      mtime_ns: this.#source.fractions.get(entry.path) ?? 0,
      xattrs: inInode,
      xattrBlock,
      ...body,
      blocks: body.blocks + (xattrBlock === 0 ? 0 : 1),
    });
  }

  #countDirectory(number: number): void {
    const group = Math.floor((number - 1) / this.#layout.inodesPerGroup);
    this.#directories[group] = (this.#directories[group] ?? 0) + 1;
  }

  async #writeBody(
    { entry, number }: Numbered,
    names: readonly NewName[],
  ): Promise<Pick<NewInode, "block" | "blocks" | "flags" | "sizeBytes">> {
    if (entry.type === "file") return await this.#writeFile(entry.content, number);
    if (entry.type === "directory") return await this.#writeDirectory(names, number);
    if (entry.type === "symlink") return await this.#writeLink(entry.target, number);
    const none = { blocks: 0, flags: 0, sizeBytes: 0 };
    if (entry.type !== "character" && entry.type !== "block")
      return { ...none, block: Buffer.alloc(60) };
    return { ...none, block: deviceBlock(entry.major, entry.minor) };
  }

  async #writeDirectory(names: readonly NewName[], number: number) {
    const blocks = encodeDirectory(names, number, this.#seed);
    const runs = this.#take(blocks.length);
    for (const run of runs) {
      for (let index = 0; index < run.blocks; index += 1) {
        await this.#writeBlock(blocks[run.first + index] ?? ZEROES, run.start + index);
      }
    }
    const extents = await this.#extents(runs, number);
    return { ...extents, flags: EXTENTS_FLAG, sizeBytes: blocks.length * BLOCK_BYTES };
  }

  async #writeLink(target: string, number: number) {
    const bytes = Buffer.from(target);
    if (bytes.length < 60) {
      const block = Buffer.alloc(60);
      block.set(bytes);
      return { block, blocks: 0, flags: 0, sizeBytes: bytes.length };
    }
    const padded = Buffer.alloc(BLOCK_BYTES);
    padded.set(bytes);
    const runs = this.#take(1);
    await this.#writeBlock(padded, runs[0]?.start ?? 0);
    const extents = await this.#extents(runs, number);
    return { ...extents, flags: EXTENTS_FLAG, sizeBytes: bytes.length };
  }

  async #writeFile(content: ContentSource, number: number) {
    const runs: Run[] = [];
    for await (const piece of piecesOf(content)) await this.#writePiece(content, piece, runs);
    const extents = await this.#extents(joined(runs), number);
    return { ...extents, flags: EXTENTS_FLAG, sizeBytes: content.sizeBytes };
  }

  /** Whole blocks of a content; those that are zero stay holes. */
  async #writePiece(
    content: ContentSource,
    { offset, length }: { readonly offset: number; readonly length: number },
    runs: Run[],
  ): Promise<void> {
    const wholeBytes = Math.ceil(length / BLOCK_BYTES) * BLOCK_BYTES;
    const bytes = this.#buffer.subarray(0, wholeBytes);
    bytes.fill(0, length);
    await content.read(bytes.subarray(0, length), offset);
    for (const { first, blocks } of heldBlocks(bytes)) {
      for (const run of this.#take(blocks)) {
        const start = (first + run.first) * BLOCK_BYTES;
        await this.#writeBlock(bytes.subarray(start, start + run.blocks * BLOCK_BYTES), run.start);
        runs.push({ ...run, first: offset / BLOCK_BYTES + first + run.first });
      }
    }
  }

  async #writeLostAndFound(): Promise<void> {
    const number = FIRST_INODE;
    const names = [
      { name: Buffer.from("."), inode: number, kind: 2 },
      { name: Buffer.from(".."), inode: ROOT_INODE, kind: 2 },
    ];
    const body = await this.#writeDirectory(names, number);
    const common = { uid: 0, gid: 0, links: 2, mtime_s: 0, mtime_ns: 0 };
    const none = { xattrBlock: 0, xattrs: new Uint8Array() };
    this.#put({ ...common, ...none, ...body, number, mode: 0o40700 });
    this.#countDirectory(number);
  }

  async #writeInodes(): Promise<void> {
    const { inodesPerGroup, groups, overhead, inodeTableBlocks } = this.#layout;
    const groupBytes = inodesPerGroup * INODE_BYTES;
    for (let group = 0; group < groups; group += 1) {
      const bytes = this.#inodes.subarray(group * groupBytes, (group + 1) * groupBytes);
      const table = group * GROUP_BLOCKS + overhead(group) - inodeTableBlocks;
      if (bytes.length > 0) await this.#disk.write(bytes, table * BLOCK_BYTES);
    }
  }

  #usage(): Usage {
    const { inodesPerGroup } = this.#layout;
    const used = this.#inodes.length / INODE_BYTES;
    return {
      blocks: (group) => this.#allocator.takenIn(group),
      inodes: (group) => Math.max(0, Math.min(inodesPerGroup, used - group * inodesPerGroup)),
      directories: (group) => this.#directories[group] ?? 0,
    };
  }

  async #writeGroups(journal: { root: Buffer; sizeBytes: number }): Promise<void> {
    const usage = this.#usage();
    const layout = this.#layout;
    const descriptors = Buffer.alloc(layout.descriptorBlocks * BLOCK_BYTES);
    for (let group = 0; group < layout.groups; group += 1) {
      const made = encodeGroup(layout, group, usage, this.#seed);
      descriptors.set(made.descriptor, group * made.descriptor.length);
      if (made.blockBitmap) await this.#writeBlock(made.blockBitmap, made.bitmapsAt);
      if (made.inodeBitmap) await this.#writeBlock(made.inodeBitmap, made.bitmapsAt + 1);
    }
    for (let group = 0; group < layout.groups; group += 1) {
      if (!hasCopy(group)) continue;
      const copy = encodeSuperblock(layout, this.#identity, usage, journal, group);
      const at = group * GROUP_BLOCKS * BLOCK_BYTES;
      await this.#disk.write(copy, at + (group === 0 ? SUPERBLOCK_OFFSET : 0));
      await this.#disk.write(descriptors, at + BLOCK_BYTES);
    }
  }
}

/**
 * Writes a file system with everything of `source`, besides `lost+found`. Blocks that are zero stay
 * holes of the files and of the disk.
 *
 * @param disk zero everywhere; its size is the file system's
 * @throws `import.data-size-invalid`, `import.xattr-unsuitable` (misuse)
 */
export async function writeExt4(
  disk: DiskTarget,
  source: FineTree,
  identity: Identity,
): Promise<void> {
  await new Writer(disk, source, identity).run();
}
