import { damaged, unsupported } from "../errors.ts";
import { bytesAt, type DiskBytes } from "../source.ts";
import type { SparseContent } from "../tree.ts";
import { FLAG, decodeInode, type Inode } from "./inode.ts";
import { recoveredBlocks, withBlocks } from "./journal.ts";
import { runsOf, type Run } from "./mapping.ts";
import { INCOMPAT, readInodeTables, readSuperblock, type Superblock } from "./superblock.ts";
import { INLINE_DATA, xattrsInBlock, xattrsInInode } from "./xattr.ts";

/** Inode tables are read in pieces of this length; the last used are kept. */
const PIECE_BYTES = 65_536;
const PIECES_MAX = 128;
const INLINE_BYTES_MAX = 60;

/** An ext2, ext3 or ext4 file system that is only read. */
export class Ext4 {
  readonly superblock: Superblock;
  readonly #disk: DiskBytes;
  readonly #tables: readonly number[];
  readonly #pieces = new Map<number, Buffer>();
  #metadataLeft: number;

  constructor(disk: DiskBytes, superblock: Superblock, tables: readonly number[]) {
    this.#disk = disk;
    this.superblock = superblock;
    this.#tables = tables;
    this.#metadataLeft = superblock.blocks;
  }

  /** @throws `import.image-damaged` (corrupt) */
  async inode(number: number): Promise<Inode> {
    const s = this.superblock;
    if (number < 1 || number > s.inodes) throw damaged(s.name, `inode ${number} cannot be`);
    const group = Math.floor((number - 1) / s.inodesPerGroup);
    const table = this.#tables[group] ?? 0;
    const at = table * s.blockBytes + ((number - 1) % s.inodesPerGroup) * s.inodeBytes;
    const piece = await this.#piece(Math.floor(at / PIECE_BYTES));
    const start = at % PIECE_BYTES;
    return decodeInode(s, number, Buffer.from(piece.subarray(start, start + s.inodeBytes)));
  }

  async #piece(index: number): Promise<Buffer> {
    const known = this.#pieces.get(index);
    this.#pieces.delete(index);
    const offset = index * PIECE_BYTES;
    const length = Math.min(PIECE_BYTES, this.#disk.sizeBytes - offset);
    const piece = known ?? (await bytesAt(this.#disk, offset, length));
    this.#pieces.set(index, piece);
    const [oldest] = this.#pieces.keys();
    if (this.#pieces.size > PIECES_MAX && oldest !== undefined) this.#pieces.delete(oldest);
    return piece;
  }

  /** A block of metadata. More of them than there are blocks are only met where they repeat. */
  async block(number: number): Promise<Buffer> {
    const s = this.superblock;
    this.#metadataLeft -= 1;
    if (this.#metadataLeft < 0) throw damaged(s.name, "its metadata turn in circles");
    if (number <= 0 || number >= s.blocks)
      throw damaged(s.name, `block ${number} lies beyond its end`);
    return await bytesAt(this.#disk, number * s.blockBytes, s.blockBytes);
  }

  async runs(inode: Inode): Promise<readonly Run[]> {
    return await runsOf(this.superblock, inode, (block) => this.block(block));
  }

  /** The extended attributes, inline data among them. */
  async xattrs(inode: Inode): Promise<Map<string, Uint8Array>> {
    const s = this.superblock;
    const into = new Map<string, Uint8Array>();
    const readValue = (number: number, bytes: number): Promise<Buffer> =>
      this.#value(number, bytes);
    await xattrsInInode(s, inode.number, inode.rest, readValue, into);
    if (inode.xattrBlock === 0) return into;
    if (inode.xattrBlock >= s.blocks)
      throw damaged(s.name, `inode ${inode.number} has xattrs nowhere`);
    const block = await bytesAt(this.#disk, inode.xattrBlock * s.blockBytes, s.blockBytes);
    await xattrsInBlock(s, inode.number, block, readValue, into);
    return into;
  }

  async #value(number: number, sizeBytes: number): Promise<Buffer> {
    const s = this.superblock;
    const inode = await this.inode(number);
    const isValue = (inode.flags & FLAG.EA_INODE) !== 0 && inode.sizeBytes === sizeBytes;
    if (!isValue) throw damaged(s.name, `inode ${number} does not hold the value of an xattr`);
    const value = Buffer.alloc(sizeBytes);
    await this.content(inode, new Map()).read(value, 0);
    return value;
  }

  /** A file's bytes. Its runs are looked up when it is read for the first time. */
  content(inode: Inode, xattrs: ReadonlyMap<string, Uint8Array>): SparseContent {
    if ((inode.flags & FLAG.ENCRYPTED) !== 0) {
      throw unsupported(this.superblock.name, "an encrypted file", "decrypt its files first");
    }
    const { sizeBytes } = inode;
    if ((inode.flags & FLAG.INLINE) !== 0) return this.#inline(inode, xattrs);
    const { blockBytes } = this.superblock;
    let known: Promise<readonly Run[]> | undefined;
    const runs = (): Promise<readonly Run[]> => (known ??= this.runs(inode));
    return {
      sizeBytes,
      read: async (target, position) => await this.#read(await runs(), target, position),
      dataRanges: async () =>
        (await runs()).flatMap(({ first, blocks }) => {
          const offset = first * blockBytes;
          const length = Math.min(blocks * blockBytes, sizeBytes - offset);
          return length > 0 ? [{ offset, length }] : [];
        }),
    };
  }

  #inline(inode: Inode, xattrs: ReadonlyMap<string, Uint8Array>): SparseContent {
    const { sizeBytes } = inode;
    const rest = xattrs.get(INLINE_DATA) ?? new Uint8Array();
    const bytes = Buffer.concat([inode.block, rest]);
    if (sizeBytes > Math.max(INLINE_BYTES_MAX, bytes.length)) {
      throw damaged(this.superblock.name, `inode ${inode.number} has more inline data than room`);
    }
    return {
      sizeBytes,
      read: async (target, at) => target.set(bytes.subarray(at, at + target.length)),
      dataRanges: async () => (sizeBytes > 0 ? [{ offset: 0, length: sizeBytes }] : []),
    };
  }

  /** Fills from the runs; holes are zero. */
  async #read(runs: readonly Run[], target: Uint8Array, position: number): Promise<void> {
    const { blockBytes } = this.superblock;
    const end = position + target.length;
    let done = position;
    for (let index = firstAfter(runs, position / blockBytes); index < runs.length; index += 1) {
      const run = runs[index];
      if (run === undefined || run.first * blockBytes >= end) break;
      const from = Math.max(done, run.first * blockBytes);
      const to = Math.min(end, (run.first + run.blocks) * blockBytes);
      target.fill(0, done - position, from - position);
      const at = run.start * blockBytes + from - run.first * blockBytes;
      await this.#disk.read(target.subarray(from - position, to - position), at);
      done = to;
    }
    target.fill(0, done - position);
  }
}

/** The first run that ends behind this block. */
function firstAfter(runs: readonly Run[], block: number): number {
  let [low, high] = [0, runs.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    const run = runs[middle];
    if (run !== undefined && run.first + run.blocks <= block) low = middle + 1;
    else high = middle;
  }
  return low;
}

async function plain(disk: DiskBytes, name: string): Promise<Ext4> {
  const superblock = await readSuperblock(disk, name);
  return new Ext4(disk, superblock, await readInodeTables(disk, superblock));
}

/**
 * Opens a file system to read it. One that was not unmounted is shown as its recovery would leave
 * it; the disk is not written to.
 *
 * @param name for messages, for instance `partition 1`
 * @throws `import.image-damaged` (corrupt), `import.unsupported` (misuse)
 */
export async function openExt4(disk: DiskBytes, name: string): Promise<Ext4> {
  const found = await plain(disk, name);
  const { incompat, journalInode, blockBytes } = found.superblock;
  if ((incompat & INCOMPAT.RECOVER) === 0) return found;
  if (journalInode === 0) throw unsupported(name, "a journal of another disk", "recover it first");
  const inode = await found.inode(journalInode);
  const content = found.content(inode, new Map());
  const blocks = Math.floor(inode.sizeBytes / blockBytes);
  const file = {
    blocks,
    read: (index: number) => bytesAt(content, index * blockBytes, blockBytes),
  };
  const recovered = await recoveredBlocks(found.superblock, file);
  return await plain(withBlocks(disk, blockBytes, recovered), name);
}
