/** What describes a new ext4 file system as a whole: superblock, descriptors, bitmaps, journal. */
import { crc32c } from "#image";
import {
  BLOCK_BYTES,
  DESCRIPTOR_BYTES,
  FIRST_INODE,
  GROUP_BLOCKS,
  INODE_BYTES,
  type Layout,
} from "./layout.ts";

const COMPAT = 0x4 | 0x8 | 0x20; // journal, extended attributes, indexed directories
const INCOMPAT = 0x2 | 0x40; // types in directories, extents
const RO_COMPAT = 0x1 | 0x2 | 0x8 | 0x20 | 0x40 | 0x400; // sparse copies, sizes, links, checksums
const REMOUNT_READ_ONLY = 2;
const USER_XATTR_AND_ACL = 0xc;
const JOURNAL_INODE = 8;
const GROUP_FLAG = { INODES_UNUSED: 1, BLOCKS_UNUSED: 2, INODES_ZEROED: 4 } as const;

export interface Identity {
  /** 16 bytes. */
  readonly uuid: Buffer;
  /** At most 16 bytes of ASCII. */
  readonly label: string;
}

export interface Usage {
  /** Blocks of a group that are taken, its head among them. */
  blocks(group: number): number;
  /** Inodes of a group that are taken, always its first. */
  inodes(group: number): number;
  directories(group: number): number;
}

export interface JournalPlace {
  /** The inode's root of extents. */
  readonly root: Buffer;
  readonly sizeBytes: number;
}

export const checksumSeed = ({ uuid }: Identity): number => crc32c(uuid);

/** The copy of the superblock that lies in `group`. */
export function encodeSuperblock(
  layout: Layout,
  identity: Identity,
  usage: Usage,
  journal: JournalPlace,
  group: number,
): Buffer {
  const bytes = Buffer.alloc(1024);
  let [freeBlocks, freeInodes] = [0, 0];
  for (let index = 0; index < layout.groups; index += 1) {
    freeBlocks += layout.blocksOf(index) - usage.blocks(index);
    freeInodes += layout.inodesPerGroup - usage.inodes(index);
  }
  const words: readonly (readonly [at: number, value: number])[] = [
    [0, layout.groups * layout.inodesPerGroup],
    [4, layout.blocks],
    [12, freeBlocks],
    [16, freeInodes],
    [24, 2],
    [28, 2],
    [32, GROUP_BLOCKS],
    [36, GROUP_BLOCKS],
    [40, layout.inodesPerGroup],
    [76, 1],
    [84, FIRST_INODE],
    [92, COMPAT],
    [96, INCOMPAT],
    [100, RO_COMPAT],
    [224, JOURNAL_INODE],
    [256, USER_XATTR_AND_ACL],
    [332, journal.sizeBytes],
    [352, 1],
  ];
  for (const [at, value] of words) bytes.writeUInt32LE(value, at);
  bytes.writeUInt16LE(0xffff, 54);
  bytes.writeUInt16LE(0xef53, 56);
  bytes.writeUInt16LE(1, 58);
  bytes.writeUInt16LE(REMOUNT_READ_ONLY, 60);
  bytes.writeUInt16LE(INODE_BYTES, 88);
  bytes.writeUInt16LE(group, 90);
  bytes.set(identity.uuid, 104);
  bytes.write(identity.label, 120, 16, "latin1");
  bytes.set(identity.uuid, 236); // the seed of directory hashes
  bytes.writeUInt8(1, 252);
  bytes.writeUInt8(1, 253); // the journal's place follows, for repairs
  bytes.set(journal.root, 268);
  bytes.writeUInt16LE(32, 348);
  bytes.writeUInt16LE(32, 350);
  bytes.writeUInt8(1, 373); // checksums are CRC-32C
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, 1020)), 1020);
  return bytes;
}

/** A bitmap whose first `used` of `size` bits are set; those behind `size` are set too. */
function bitmap(used: number, size: number): Buffer {
  const bytes = Buffer.alloc(BLOCK_BYTES);
  const set = (from: number, to: number): void => {
    for (let bit = from; bit < to; bit += 1) {
      if (bit % 8 === 0 && bit + 8 <= to) {
        bytes.fill(0xff, bit / 8, Math.floor(to / 8));
        bit = Math.floor(to / 8) * 8 - 1;
      } else bytes.writeUInt8((bytes[bit >> 3] ?? 0) | (1 << (bit & 7)), bit >> 3);
    }
  };
  set(0, used);
  set(size, BLOCK_BYTES * 8);
  return bytes;
}

export interface GroupBytes {
  readonly descriptor: Buffer;
  /** Where the bitmaps lie; the inode table follows them. */
  readonly bitmapsAt: number;
  /** Absent where nothing of the group is taken. */
  readonly blockBitmap?: Buffer;
  readonly inodeBitmap?: Buffer;
}

/** A group's descriptor and bitmaps. Groups that nobody uses are left for the kernel to make. */
export function encodeGroup(layout: Layout, group: number, usage: Usage, seed: number): GroupBytes {
  const bitmapsAt = group * GROUP_BLOCKS + layout.overhead(group) - layout.inodeTableBlocks - 2;
  const [blocks, inodes] = [usage.blocks(group), usage.inodes(group)];
  const blocksUnused =
    blocks === layout.overhead(group) && group !== layout.groups - 1 && group > 0;
  const inodesUnused = inodes === 0;
  const blockBitmap = blocksUnused ? undefined : bitmap(blocks, layout.blocksOf(group));
  const inodeBitmap = inodesUnused ? undefined : bitmap(inodes, layout.inodesPerGroup);
  const bytes = Buffer.alloc(DESCRIPTOR_BYTES);
  bytes.writeUInt32LE(bitmapsAt, 0);
  bytes.writeUInt32LE(bitmapsAt + 1, 4);
  bytes.writeUInt32LE(bitmapsAt + 2, 8);
  bytes.writeUInt16LE(layout.blocksOf(group) - blocks, 12);
  bytes.writeUInt16LE(layout.inodesPerGroup - inodes, 14);
  bytes.writeUInt16LE(usage.directories(group), 16);
  const flags =
    GROUP_FLAG.INODES_ZEROED |
    (inodesUnused ? GROUP_FLAG.INODES_UNUSED : 0) |
    (blocksUnused ? GROUP_FLAG.BLOCKS_UNUSED : 0);
  bytes.writeUInt16LE(flags, 18);
  if (blockBitmap !== undefined) bytes.writeUInt16LE(crc32c(blockBitmap, seed) & 0xffff, 24);
  if (inodeBitmap !== undefined) {
    const covered = inodeBitmap.subarray(0, layout.inodesPerGroup / 8);
    bytes.writeUInt16LE(crc32c(covered, seed) & 0xffff, 26);
  }
  bytes.writeUInt16LE(layout.inodesPerGroup - inodes, 28);
  const number = Buffer.alloc(4);
  number.writeUInt32LE(group);
  bytes.writeUInt16LE(crc32c(bytes, crc32c(number, seed)) & 0xffff, 30);
  return {
    descriptor: bytes,
    bitmapsAt,
    ...(blockBitmap && { blockBitmap }),
    ...(inodeBitmap && { inodeBitmap }),
  };
}

/** The first block of an empty journal (jbd2, version 2 of its superblock). */
export function encodeJournal(identity: Identity, blocks: number): Buffer {
  const bytes = Buffer.alloc(BLOCK_BYTES);
  bytes.writeUInt32BE(0xc03b_3998, 0);
  bytes.writeUInt32BE(4, 4);
  bytes.writeUInt32BE(BLOCK_BYTES, 12);
  bytes.writeUInt32BE(blocks, 16);
  bytes.writeUInt32BE(1, 20);
  bytes.writeUInt32BE(1, 24);
  bytes.set(identity.uuid, 48);
  bytes.writeUInt32BE(1, 64);
  return bytes;
}
