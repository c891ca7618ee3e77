import { crc32c } from "#image";
import { damaged } from "../errors.ts";
import type { Superblock } from "./superblock.ts";

export const FLAG = {
  ENCRYPTED: 0x800,
  EXTENTS: 0x80000,
  EA_INODE: 0x200000,
  INLINE: 0x10000000,
} as const;

export interface Inode {
  readonly number: number;
  /** Type and permission bits, as in `st_mode`. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly sizeBytes: number;
  readonly links: number;
  readonly flags: number;
  readonly mtime_s: number;
  /** Below a second, 0 to 999,999,999. */
  readonly mtime_ns: number;
  /** Blocks that it takes, in units of 512 bytes, or of blocks for huge files. */
  readonly occupies: number;
  /** 60 bytes: block numbers, the root of the extents, a short target, a device number, inline data. */
  readonly block: Buffer;
  /** Block with extended attributes, or 0. */
  readonly xattrBlock: number;
  /** What follows the inode's fields: extended attributes. */
  readonly rest: Buffer;
}

const LARGE_FILE_BYTES_MAX = 2 ** 43;

function checkSum(s: Superblock, number: number, bytes: Buffer, extra: number): void {
  if (s.checksumSeed === undefined) return;
  const stated = bytes.readUInt16LE(124) + (extra >= 4 ? bytes.readUInt16LE(130) * 65_536 : 0);
  const blank = Buffer.from(bytes);
  blank.writeUInt16LE(0, 124);
  if (extra >= 4) blank.writeUInt16LE(0, 130);
  const actual = crc32c(blank, inodeSeed(s.checksumSeed, number, bytes.readUInt32LE(100)));
  if ((extra >= 4 ? actual : actual & 0xffff) === stated) return;
  throw damaged(s.name, `the checksum of inode ${number} is wrong`);
}

/** Where the checksums of what belongs to an inode begin. */
export function inodeSeed(seed: number, number: number, generation: number): number {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(number, 0);
  bytes.writeUInt32LE(generation, 4);
  return crc32c(bytes, seed);
}

/** @throws `import.image-damaged` (corrupt) */
export function decodeInode(s: Superblock, number: number, bytes: Buffer): Inode {
  const extra = s.inodeBytes > 128 ? bytes.readUInt16LE(128) : 0;
  if (extra % 4 !== 0 || 128 + extra > s.inodeBytes) {
    throw damaged(s.name, `inode ${number} claims ${extra} additional bytes`);
  }
  checkSum(s, number, bytes, extra);
  const timeExtra = extra >= 12 ? bytes.readUInt32LE(136) : 0;
  const sizeBytes = bytes.readUInt32LE(4) + bytes.readUInt32LE(108) * 2 ** 32;
  if (sizeBytes > LARGE_FILE_BYTES_MAX)
    throw damaged(s.name, `inode ${number} has a size beyond all`);
  return {
    number,
    mode: bytes.readUInt16LE(0),
    uid: bytes.readUInt16LE(2) + bytes.readUInt16LE(120) * 65_536,
    gid: bytes.readUInt16LE(24) + bytes.readUInt16LE(122) * 65_536,
    sizeBytes,
    links: bytes.readUInt16LE(26),
    flags: bytes.readUInt32LE(32),
    mtime_s: bytes.readInt32LE(16) + (timeExtra & 3) * 2 ** 32,
    mtime_ns: Math.min(999_999_999, timeExtra >>> 2),
    occupies: bytes.readUInt32LE(28) + bytes.readUInt16LE(116) * 2 ** 32,
    block: bytes.subarray(40, 100),
    xattrBlock: bytes.readUInt32LE(104) + bytes.readUInt16LE(118) * 2 ** 32,
    rest: bytes.subarray(128 + extra),
  };
}
