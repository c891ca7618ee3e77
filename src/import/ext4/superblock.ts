/** The superblock and the group descriptors of ext2, ext3 and ext4 (Linux, Documentation/filesystems/ext4). */
import { crc32c } from "#image";
import { damaged, unsupported } from "../errors.ts";
import { bytesAt, type DiskBytes } from "../source.ts";

export const SUPERBLOCK_OFFSET = 1024;
const SUPERBLOCK_BYTES = 1024;
const MAGIC = 0xef53;
/** 16 TiB of 4 KiB blocks take 131,072 groups. */
const GROUPS_MAX = 2 ** 18;

export const INCOMPAT = {
  FILETYPE: 0x2,
  RECOVER: 0x4,
  META_BG: 0x10,
  BIT64: 0x80,
  EA_INODE: 0x400,
  CSUM_SEED: 0x2000,
} as const;

/** What may be set: the above, extents, flexible groups, MMP, large directories, inline data, folded case. */
const INCOMPAT_KNOWN =
  0x2 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000 | 0x20000;
const INCOMPAT_NAMES: readonly (readonly [bit: number, name: string])[] = [
  [0x1, "compression"],
  [0x8, "a journal of another disk"],
  [0x1000, "data in directory entries"],
  [0x10000, "encryption"],
];
const METADATA_CSUM = 0x400;

export interface Superblock {
  readonly name: string;
  readonly blockBytes: number;
  readonly blocks: number;
  readonly firstDataBlock: number;
  readonly blocksPerGroup: number;
  readonly inodes: number;
  readonly inodesPerGroup: number;
  readonly inodeBytes: number;
  readonly descriptorBytes: number;
  readonly firstMetaGroup: number;
  readonly incompat: number;
  readonly journalInode: number;
  readonly uuid: string;
  readonly label: string;
  /** Absent where metadata have no checksums. */
  readonly checksumSeed?: number;
}

function uuidText(bytes: Buffer): string {
  const hex = bytes.toString("hex");
  const parts = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20)];
  return [...parts, hex.slice(20)].join("-");
}

/** True where an ext2, ext3 or ext4 superblock lies. */
export async function isExt4(disk: DiskBytes): Promise<boolean> {
  if (disk.sizeBytes < SUPERBLOCK_OFFSET + SUPERBLOCK_BYTES) return false;
  const magic = await bytesAt(disk, SUPERBLOCK_OFFSET + 56, 2);
  return magic.readUInt16LE(0) === MAGIC;
}

function checkFeatures(name: string, incompat: number): void {
  const unknown = incompat & ~INCOMPAT_KNOWN;
  if (unknown === 0) return;
  const known = INCOMPAT_NAMES.find(([bit]) => (unknown & bit) !== 0)?.[1];
  const feature = known ?? `the feature 0x${unknown.toString(16)} of ext4`;
  throw unsupported(name, feature, "copy the files to a file system without it");
}

function seedOf(name: string, bytes: Buffer, incompat: number): number | undefined {
  if ((bytes.readUInt32LE(100) & METADATA_CSUM) === 0) return undefined;
  if (crc32c(bytes.subarray(0, 1020)) !== bytes.readUInt32LE(1020)) {
    throw damaged(name, "the checksum of its superblock is wrong");
  }
  if ((incompat & INCOMPAT.CSUM_SEED) !== 0) return bytes.readUInt32LE(0x270);
  return crc32c(bytes.subarray(104, 120));
}

/**
 * Reads and checks the superblock; every later size follows from what is checked here.
 *
 * @throws `import.image-damaged` (corrupt), `import.unsupported` (misuse)
 */
export async function readSuperblock(disk: DiskBytes, name: string): Promise<Superblock> {
  const bytes = await bytesAt(disk, SUPERBLOCK_OFFSET, SUPERBLOCK_BYTES);
  const incompat = bytes.readUInt32LE(96);
  checkFeatures(name, incompat);
  const checksumSeed = seedOf(name, bytes, incompat);
  const is64 = (incompat & INCOMPAT.BIT64) !== 0;
  const revision = bytes.readUInt32LE(76);
  const logBlock = bytes.readUInt32LE(24);
  if (logBlock > 6) throw damaged(name, `blocks of 2^${logBlock + 10} bytes`);
  const superblock: Superblock = {
    name,
    blockBytes: 1024 * 2 ** logBlock,
    blocks: bytes.readUInt32LE(4) + (is64 ? bytes.readUInt32LE(0x150) * 2 ** 32 : 0),
    firstDataBlock: bytes.readUInt32LE(20),
    blocksPerGroup: bytes.readUInt32LE(32),
    inodes: bytes.readUInt32LE(0),
    inodesPerGroup: bytes.readUInt32LE(40),
    inodeBytes: revision === 0 ? 128 : bytes.readUInt16LE(88),
    descriptorBytes: is64 ? bytes.readUInt16LE(254) : 32,
    firstMetaGroup: bytes.readUInt32LE(260),
    incompat,
    journalInode: bytes.readUInt32LE(224),
    uuid: uuidText(bytes.subarray(104, 120)),
    label: bytes.toString("latin1", 120, 136).replace(/\0.*$/s, ""),
    ...(checksumSeed === undefined ? {} : { checksumSeed }),
  };
  check(superblock, disk.sizeBytes);
  return superblock;
}

const isPower = (value: number): boolean => value > 0 && (value & (value - 1)) === 0;

function check(s: Superblock, diskBytes: number): void {
  const faults: readonly (readonly [boolean, string])[] = [
    [s.blocks * s.blockBytes <= diskBytes, "it is larger than where it lies: the image is cut off"],
    [s.firstDataBlock === (s.blockBytes === 1024 ? 1 : 0), "a wrong first block"],
    [s.blocks > s.firstDataBlock, "no blocks"],
    [s.blocksPerGroup > 0 && s.blocksPerGroup <= s.blockBytes * 8, "groups of a wrong size"],
    [s.inodesPerGroup > 0 && s.inodesPerGroup <= s.blockBytes * 8, "a wrong number of inodes"],
    [
      isPower(s.inodeBytes) && s.inodeBytes >= 128 && s.inodeBytes <= s.blockBytes,
      "inodes of a wrong size",
    ],
    [
      isPower(s.descriptorBytes) && s.descriptorBytes >= 32 && s.descriptorBytes <= 1024,
      "descriptors of a wrong size",
    ],
    [groupsOf(s) <= GROUPS_MAX, "too many groups"],
    [s.inodes <= groupsOf(s) * s.inodesPerGroup, "more inodes than its groups have"],
  ];
  const fault = faults.find(([holds]) => !holds);
  if (fault !== undefined) throw damaged(s.name, `its superblock claims ${fault[1]}`);
}

export function groupsOf({ blocks, firstDataBlock, blocksPerGroup }: Superblock): number {
  return Math.ceil((blocks - firstDataBlock) / blocksPerGroup);
}

/** Does this group hold a copy of the superblock? All are taken to be sparse, as mke2fs makes them. */
export function hasCopy(group: number): boolean {
  if (group <= 1) return true;
  return [3, 5, 7].some((base) => {
    let power = base;
    while (power < group) power *= base;
    return power === group;
  });
}

/** The block with descriptor block number `index`. */
function descriptorBlock(s: Superblock, index: number): number {
  const meta = (s.incompat & INCOMPAT.META_BG) !== 0 && index >= s.firstMetaGroup;
  if (!meta) return s.firstDataBlock + 1 + index;
  const group = index * (s.blockBytes / s.descriptorBytes);
  const copy = hasCopy(group) ? 1 : 0;
  return s.firstDataBlock + group * s.blocksPerGroup + copy;
}

/** The first block of each group's inode table. */
export async function readInodeTables(disk: DiskBytes, s: Superblock): Promise<number[]> {
  const groups = groupsOf(s);
  const perBlock = s.blockBytes / s.descriptorBytes;
  const tableBlocks = Math.ceil((s.inodesPerGroup * s.inodeBytes) / s.blockBytes);
  const tables: number[] = [];
  for (let index = 0; tables.length < groups; index += 1) {
    const at = descriptorBlock(s, index);
    if (at >= s.blocks) throw damaged(s.name, "its group descriptors lie beyond its end");
    const block = await bytesAt(disk, at * s.blockBytes, s.blockBytes);
    for (let slot = 0; slot < perBlock && tables.length < groups; slot += 1) {
      const start = slot * s.descriptorBytes;
      const high = s.descriptorBytes >= 64 ? block.readUInt32LE(start + 40) : 0;
      const table = block.readUInt32LE(start + 8) + high * 2 ** 32;
      if (table === 0 || table + tableBlocks > s.blocks) {
        throw damaged(s.name, `the inode table of group ${tables.length} lies beyond its end`);
      }
      tables.push(table);
    }
  }
  return tables;
}
