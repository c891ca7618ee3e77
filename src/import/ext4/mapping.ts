/** Where the blocks of a file lie: extents, or ext2's tree of block numbers. */
import { damaged } from "../errors.ts";
import { FLAG, type Inode } from "./inode.ts";
import type { Superblock } from "./superblock.ts";

/** Blocks of a file that lie one after the other; what no run covers is a hole. */
export interface Run {
  /** In the file. */
  readonly first: number;
  readonly blocks: number;
  /** On the disk. */
  readonly start: number;
}

/** Reads a block of metadata; fails when more were read than the file system can hold. */
export type ReadBlock = (block: number) => Promise<Buffer>;

const EXTENT_MAGIC = 0xf30a;
const DEPTH_MAX = 5;
const ENTRY_BYTES = 12;
/** A longer length stands for blocks that were reserved and never written. */
const WRITTEN_MAX = 32_768;
/** Of one file: the worst of fragmentation of 256 GiB in single blocks. */
const RUNS_MAX = 2 ** 22;

/** Collects runs in order; neighbours are joined. */
class Runs {
  readonly list: Run[] = [];
  readonly #s: Superblock;
  readonly #number: number;
  #end = 0;

  constructor(s: Superblock, number: number) {
    this.#s = s;
    this.#number = number;
  }

  fail(problem: string): Error {
    return damaged(this.#s.name, `inode ${this.#number}: ${problem}`);
  }

  checkBlock(start: number, blocks = 1): void {
    if (start > 0 && start + blocks <= this.#s.blocks) return;
    throw this.fail(`block ${start} lies beyond the file system`);
  }

  /** Blocks that were reserved: a hole, in order with everything else. */
  pass(first: number, blocks: number): void {
    if (first < this.#end) throw this.fail("its blocks are not in order");
    this.#end = first + blocks;
  }

  add(run: Run): void {
    const last = this.list.at(-1);
    this.pass(run.first, run.blocks);
    this.checkBlock(run.start, run.blocks);
    const joins =
      last !== undefined &&
      last.first + last.blocks === run.first &&
      last.start + last.blocks === run.start;
    if (joins) this.list[this.list.length - 1] = { ...last, blocks: last.blocks + run.blocks };
    else this.list.push(run);
    if (this.list.length > RUNS_MAX) throw this.fail("it has too many pieces");
  }
}

interface ExtentWalk {
  readonly s: Superblock;
  readonly runs: Runs;
  readonly readBlock: ReadBlock;
}

/** One node of the tree of extents; the depth falls by one with each level, so the walk ends. */
async function walkExtents(walk: ExtentWalk, node: Buffer, depthMax: number): Promise<void> {
  const { s, runs } = walk;
  if (node.readUInt16LE(0) !== EXTENT_MAGIC)
    throw runs.fail("a node of its extents has no magic number");
  const entries = node.readUInt16LE(2);
  const depth = node.readUInt16LE(6);
  if (depth > depthMax) throw runs.fail("its extents are too deep");
  if ((entries + 1) * ENTRY_BYTES > node.length)
    throw runs.fail("a node of its extents is too full");
  for (let index = 1; index <= entries; index += 1) {
    const entry = node.subarray(index * ENTRY_BYTES, (index + 1) * ENTRY_BYTES);
    if (depth === 0) addExtent(runs, entry);
    else {
      const child = entry.readUInt32LE(4) + entry.readUInt16LE(8) * 2 ** 32;
      runs.checkBlock(child);
      const next = (await walk.readBlock(child)).subarray(0, s.blockBytes);
      if (next.readUInt16LE(6) !== depth - 1) throw runs.fail("a level of its extents is missing");
      if (next.readUInt16LE(2) === 0) throw runs.fail("a node of its extents is empty");
      await walkExtents(walk, next, depth - 1);
    }
  }
}

function addExtent(runs: Runs, entry: Buffer): void {
  const first = entry.readUInt32LE(0);
  const blocks = entry.readUInt16LE(4);
  const start = entry.readUInt32LE(8) + entry.readUInt16LE(6) * 2 ** 32;
  if (blocks === 0) throw runs.fail("an extent of no blocks");
  if (blocks <= WRITTEN_MAX) runs.add({ first, blocks, start });
  else runs.pass(first, blocks - WRITTEN_MAX);
}

interface PointerWalk extends ExtentWalk {
  /** Blocks that the file has by its size; pointers behind are not followed. */
  readonly blocksMax: number;
  next: number;
}

async function walkPointers(walk: PointerWalk, pointers: Buffer, level: number): Promise<void> {
  const perBlock = walk.s.blockBytes / 4;
  const span = perBlock ** level;
  for (let at = 0; at + 4 <= pointers.length && walk.next < walk.blocksMax; at += 4) {
    const block = pointers.readUInt32LE(at);
    if (block === 0) walk.next += span;
    else if (level === 0) {
      walk.runs.add({ first: walk.next, blocks: 1, start: block });
      walk.next += 1;
    } else {
      walk.runs.checkBlock(block);
      await walkPointers(walk, await walk.readBlock(block), level - 1);
    }
  }
}

/**
 * The runs of a file, by ascending place.
 *
 * @throws `import.image-damaged` (corrupt)
 */
export async function runsOf(
  s: Superblock,
  inode: Inode,
  readBlock: ReadBlock,
): Promise<readonly Run[]> {
  const runs = new Runs(s, inode.number);
  if ((inode.flags & FLAG.EXTENTS) !== 0) {
    await walkExtents({ s, runs, readBlock }, inode.block, DEPTH_MAX);
    return runs.list;
  }
  const blocksMax = Math.ceil(inode.sizeBytes / s.blockBytes);
  const walk: PointerWalk = { s, runs, readBlock, blocksMax, next: 0 };
  await walkPointers(walk, inode.block.subarray(0, 48), 0);
  for (const level of [1, 2, 3]) {
    const start = 44 + level * 4;
    await walkPointers(walk, inode.block.subarray(start, start + 4), level);
  }
  return runs.list;
}
