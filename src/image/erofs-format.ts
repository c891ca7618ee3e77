/**
 * The on-disk structures of EROFS (Linux 6.1, `fs/erofs/erofs_fs.h`), as far as uncompressed images
 * need them. `doc/component-image.md` describes what the writer chooses among them.
 */
import { erofsInvalid } from "./errors.ts";

export const BLOCK_BYTES = 4096;
export const SUPERBLOCK_OFFSET = 1024;
export const SUPERBLOCK_BYTES = 128;
/** Inodes are addressed in slots of this size, counted from the start of `metaBlock`. */
export const SLOT_BYTES = 32;
export const COMPACT_INODE_BYTES = 32;
export const EXTENDED_INODE_BYTES = 64;

const MAGIC = 0xe0f5_e1e2;
export const COMPAT_CHECKSUM = 1;
const COMPAT_MTIME = 2;
/** Concerns compressed files only; `mkfs.erofs` sets it always. */
export const INCOMPAT_ZERO_PADDING = 1;

export const LAYOUT_PLAIN = 0;
export const LAYOUT_INLINE = 2;

/** File types in inode modes and in directory entries (Linux, `S_IFMT` and `FT_*`). */
export const TYPES = [
  { type: "file", mode: 0o100000, entry: 1 },
  { type: "directory", mode: 0o040000, entry: 2 },
  { type: "character", mode: 0o020000, entry: 3 },
  { type: "block", mode: 0o060000, entry: 4 },
  { type: "fifo", mode: 0o010000, entry: 5 },
  { type: "socket", mode: 0o140000, entry: 6 },
  { type: "symlink", mode: 0o120000, entry: 7 },
] as const;

export type InodeType = (typeof TYPES)[number]["type"];

export interface Superblock {
  readonly checksum: number;
  readonly compat: number;
  readonly incompat: number;
  readonly blockBits: number;
  readonly rootNid: number;
  readonly inodes: number;
  readonly buildTime_s: number;
  readonly blocks: number;
  readonly metaBlock: number;
  readonly xattrBlock: number;
  readonly uuid: Uint8Array;
}

/** Without its checksum, which covers the rest of the first block as well. */
export function encodeSuperblock(
  fields: Pick<Superblock, "rootNid" | "inodes" | "blocks" | "uuid">,
): Buffer {
  const bytes = Buffer.alloc(SUPERBLOCK_BYTES);
  bytes.writeUInt32LE(MAGIC, 0);
  bytes.writeUInt32LE(COMPAT_CHECKSUM | COMPAT_MTIME, 8);
  bytes.writeUInt8(12, 12);
  bytes.writeUInt16LE(fields.rootNid, 14);
  bytes.writeBigUInt64LE(BigInt(fields.inodes), 16);
  bytes.writeUInt32LE(fields.blocks, 36);
  bytes.set(fields.uuid, 48);
  return bytes;
}

/** A 64-bit number that must fit a double. */
function readNumber(bytes: Buffer, offset: number): number {
  const value = bytes.readBigInt64LE(offset);
  if (value < Number.MIN_SAFE_INTEGER || value > Number.MAX_SAFE_INTEGER) {
    throw erofsInvalid(`the number ${value} is out of bounds`);
  }
  return Number(value);
}

/** @throws `image.erofs-invalid` (corrupt) when these are not the bytes of a superblock. */
export function decodeSuperblock(bytes: Buffer): Superblock {
  if (bytes.readUInt32LE(0) !== MAGIC) throw erofsInvalid("it does not begin with a superblock");
  return {
    checksum: bytes.readUInt32LE(4),
    compat: bytes.readUInt32LE(8),
    blockBits: bytes.readUInt8(12),
    rootNid: bytes.readUInt16LE(14),
    inodes: readNumber(bytes, 16),
    buildTime_s: readNumber(bytes, 24),
    blocks: bytes.readUInt32LE(36),
    metaBlock: bytes.readUInt32LE(40),
    xattrBlock: bytes.readUInt32LE(44),
    uuid: Uint8Array.from(bytes.subarray(48, 64)),
    incompat: bytes.readUInt32LE(80),
  };
}

export interface Inode {
  readonly layout: number;
  /** Bytes of the xattr area that follows the inode. */
  readonly xattrBytes: number;
  readonly type: InodeType;
  /** Permission bits. */
  readonly mode: number;
  readonly sizeBytes: number;
  /** First data block, or the device number. */
  readonly union: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime_s: number;
}

const XATTR_HEADER_BYTES = 12;

/** An extended inode. `number` is for tools that want 32-bit inode numbers. */
export function encodeInode(inode: Inode, number: number, links: number): Buffer {
  const bytes = Buffer.alloc(EXTENDED_INODE_BYTES);
  const kind = TYPES.find(({ type }) => type === inode.type);
  bytes.writeUInt16LE((inode.layout << 1) | 1, 0);
  if (inode.xattrBytes > 0) {
    bytes.writeUInt16LE((inode.xattrBytes - XATTR_HEADER_BYTES) / 4 + 1, 2);
  }
  bytes.writeUInt16LE((kind?.mode ?? 0) | inode.mode, 4);
  bytes.writeBigUInt64LE(BigInt(inode.sizeBytes), 8);
  bytes.writeUInt32LE(inode.union, 16);
  bytes.writeUInt32LE(number, 20);
  bytes.writeUInt32LE(inode.uid, 24);
  bytes.writeUInt32LE(inode.gid, 28);
  bytes.writeBigInt64LE(BigInt(inode.mtime_s), 32);
  bytes.writeUInt32LE(links, 44);
  return bytes;
}

export function isExtended(format: number): boolean {
  return (format & 1) === 1;
}

/** Compact inodes have no time of their own: they take the image's. */
export function decodeInode(bytes: Buffer, buildTime_s: number): Inode {
  const format = bytes.readUInt16LE(0);
  const slots = bytes.readUInt16LE(2);
  const mode = bytes.readUInt16LE(4);
  const kind = TYPES.find((row) => row.mode === (mode & 0o170000));
  if (format > 0xf) throw erofsInvalid(`an inode has the unknown format ${format}`);
  if (kind === undefined) throw erofsInvalid(`an inode has the unknown mode ${mode.toString(8)}`);
  const common = {
    layout: (format >> 1) & 7,
    xattrBytes: slots === 0 ? 0 : XATTR_HEADER_BYTES + (slots - 1) * 4,
    type: kind.type,
    mode: mode & 0o7777,
    union: bytes.readUInt32LE(16),
  };
  if (isExtended(format)) {
    return {
      ...common,
      sizeBytes: readNumber(bytes, 8),
      uid: bytes.readUInt32LE(24),
      gid: bytes.readUInt32LE(28),
      mtime_s: readNumber(bytes, 32),
    };
  }
  return {
    ...common,
    sizeBytes: bytes.readUInt32LE(8),
    uid: bytes.readUInt16LE(24),
    gid: bytes.readUInt16LE(26),
    mtime_s: buildTime_s,
  };
}

/** Linux's `new_encode_dev`. */
export function encodeDevice(major: number, minor: number): number {
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

export function decodeDevice(device: number): { major: number; minor: number } {
  return { major: (device >>> 8) & 0xfff, minor: (device & 0xff) | ((device >>> 12) & 0xf_ff00) };
}
