/** How a new ext4 file system is laid out: blocks of 4 KiB in groups, one inode for each 16 KiB or more. */
import { TesseraError } from "#core";
import { hasCopy } from "./superblock.ts";

export const BLOCK_BYTES = 4096;
export const INODE_BYTES = 256;
export const GROUP_BLOCKS = BLOCK_BYTES * 8;
export const DESCRIPTOR_BYTES = 32;
/** The first inode that is free for files; that of lost+found. */
export const FIRST_INODE = 11;
const INODES_PER_BLOCK = BLOCK_BYTES / INODE_BYTES;
const BYTES_PER_INODE = 16_384;
/** A last group with less room than this is left away. */
const LAST_GROUP_BLOCKS_MIN = 64;

export interface Layout {
  readonly blocks: number;
  readonly groups: number;
  readonly inodesPerGroup: number;
  readonly inodeTableBlocks: number;
  readonly descriptorBlocks: number;
  /** Blocks at the head of a group that are not for files. */
  readonly overhead: (group: number) => number;
  readonly blocksOf: (group: number) => number;
}

function noRoom(): TesseraError {
  const message = "the user data do not fit into a user data block of this size";
  return new TesseraError("misuse", "import.data-size-invalid", message, {
    remedy: "choose a larger one with --data",
  });
}

/** @throws `import.data-size-invalid` (misuse) where there is no room for so many inodes */
export function layoutOf(sizeBytes: number, inodesNeeded: number): Layout {
  let blocks = Math.floor(sizeBytes / BLOCK_BYTES);
  const wanted = Math.max(inodesNeeded + 1024, Math.floor(sizeBytes / BYTES_PER_INODE));
  const count = Math.ceil(blocks / GROUP_BLOCKS);
  const perGroup = Math.ceil(wanted / count / INODES_PER_BLOCK) * INODES_PER_BLOCK;
  if (perGroup > GROUP_BLOCKS) throw noRoom();
  const inodeTableBlocks = perGroup / INODES_PER_BLOCK;
  const descriptorBlocks = Math.ceil((count * DESCRIPTOR_BYTES) / BLOCK_BYTES);
  const overhead = (group: number): number =>
    (hasCopy(group) ? 1 + descriptorBlocks : 0) + 2 + inodeTableBlocks;
  const last = blocks - (count - 1) * GROUP_BLOCKS;
  const groups = last < overhead(count - 1) + LAST_GROUP_BLOCKS_MIN ? count - 1 : count;
  blocks = Math.min(blocks, groups * GROUP_BLOCKS);
  if (groups === 0 || groups * perGroup < inodesNeeded + FIRST_INODE) throw noRoom();
  return {
    blocks,
    groups,
    inodesPerGroup: perGroup,
    inodeTableBlocks,
    descriptorBlocks,
    overhead,
    blocksOf: (group) => Math.min(GROUP_BLOCKS, blocks - group * GROUP_BLOCKS),
  };
}

/** Hands out blocks in order, past what heads each group. */
export class Allocator {
  readonly #layout: Layout;
  #group = 0;
  /** Blocks of the group that are taken, its head among them. */
  #taken: number;

  constructor(layout: Layout) {
    this.#layout = layout;
    this.#taken = layout.overhead(0);
  }

  /** Up to `blocks` that lie one after the other. @throws `import.data-size-invalid` (misuse) */
  take(blocks: number): { readonly start: number; readonly blocks: number } {
    while (this.#taken === this.#layout.blocksOf(this.#group)) {
      this.#group += 1;
      if (this.#group === this.#layout.groups) throw noRoom();
      this.#taken = this.#layout.overhead(this.#group);
    }
    const start = this.#group * GROUP_BLOCKS + this.#taken;
    const count = Math.min(blocks, this.#layout.blocksOf(this.#group) - this.#taken);
    this.#taken += count;
    return { start, blocks: count };
  }

  takenIn(group: number): number {
    if (group < this.#group) return this.#layout.blocksOf(group);
    return group === this.#group ? this.#taken : this.#layout.overhead(group);
  }
}
