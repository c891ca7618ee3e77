/** The parts of an ext4 file system as bytes, with their checksums. */
import { TesseraError } from "#core";
import { crc32c } from "#image";
import { storedAcl } from "./acl.ts";
import { inodeSeed } from "./inode.ts";
import { BLOCK_BYTES, INODE_BYTES } from "./layout.ts";
import type { Run } from "./mapping.ts";
import { BLOCK_HEADER_BYTES, ENTRY_BYTES, PREFIXES, XATTR_MAGIC } from "./xattr.ts";

export const EXTENTS_FLAG = 0x80000;
/** Bytes behind the first 128 that hold fields. */
const EXTRA_BYTES = 32;
const INODE_XATTRS_AT = 128 + EXTRA_BYTES;
const EXTENT_MAGIC = 0xf30a;
const EXTENT_BYTES = 12;
/** Extents in the inode itself, and in a block that ends with a checksum. */
const ROOT_EXTENTS = 4;
const BLOCK_EXTENTS = Math.floor((BLOCK_BYTES - EXTENT_BYTES) / EXTENT_BYTES);
const EXTENT_BLOCKS_MAX = 32_768;
const LINKS_MAX = 65_000;

export interface NewInode {
  readonly number: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly sizeBytes: number;
  readonly links: number;
  readonly mtime_s: number;
  readonly mtime_ns: number;
  readonly flags: number;
  /** Blocks that it takes, those of its extents and attributes among them. */
  readonly blocks: number;
  /** At most 60 bytes. */
  readonly block: Uint8Array;
  readonly xattrBlock: number;
  /** At most 96 bytes. */
  readonly xattrs: Uint8Array;
}

/** Seconds and the 32 bits beside them: two more of seconds, and the nanoseconds. */
function writeTime(bytes: Buffer, inode: NewInode, at: number, extraAt: number): void {
  const { mtime_s, mtime_ns } = inode;
  const low = mtime_s | 0;
  bytes.writeInt32LE(low, at);
  bytes.writeUInt32LE((((mtime_s - low) / 2 ** 32) & 3) + mtime_ns * 4, extraAt);
}

/** @param seed of the file system's checksums */
export function encodeInode(inode: NewInode, seed: number): Buffer {
  const bytes = Buffer.alloc(INODE_BYTES);
  bytes.writeUInt16LE(inode.mode, 0);
  bytes.writeUInt16LE(inode.uid & 0xffff, 2);
  bytes.writeUInt16LE(inode.uid >>> 16, 120);
  bytes.writeUInt16LE(inode.gid & 0xffff, 24);
  bytes.writeUInt16LE(inode.gid >>> 16, 122);
  bytes.writeUInt32LE(inode.sizeBytes % 2 ** 32, 4);
  bytes.writeUInt32LE(Math.floor(inode.sizeBytes / 2 ** 32), 108);
  bytes.writeUInt16LE(inode.links > LINKS_MAX ? 1 : inode.links, 26);
  const sectors = inode.blocks * (BLOCK_BYTES / 512);
  bytes.writeUInt32LE(sectors % 2 ** 32, 28);
  bytes.writeUInt16LE(Math.floor(sectors / 2 ** 32), 116);
  bytes.writeUInt32LE(inode.flags, 32);
  bytes.set(inode.block, 40);
  bytes.writeUInt32LE(inode.xattrBlock, 104);
  bytes.writeUInt16LE(EXTRA_BYTES, 128);
  writeTime(bytes, inode, 8, 140);
  writeTime(bytes, inode, 12, 132);
  writeTime(bytes, inode, 16, 136);
  writeTime(bytes, inode, 144, 148);
  bytes.set(inode.xattrs, INODE_XATTRS_AT);
  const sum = crc32c(bytes, inodeSeed(seed, inode.number, 0));
  bytes.writeUInt16LE(sum & 0xffff, 124);
  bytes.writeUInt16LE(sum >>> 16, 130);
  return bytes;
}

export interface EncodedXattrs {
  readonly inInode: Uint8Array;
  /** Without the checksum, which needs the block's number. */
  readonly block?: Buffer;
}

interface StoredXattr {
  readonly index: number;
  readonly rest: Buffer;
  readonly value: Uint8Array;
}

function xattrInvalid(name: string, problem: string): TesseraError {
  const message = `the extended attribute ${name} ${problem}`;
  return new TesseraError("misuse", "import.xattr-unsuitable", message, {
    subject: name,
    remedy: "shorten or remove it in the machine, and import again",
  });
}

function stored(name: string, value: Uint8Array): StoredXattr {
  const [index, prefix] = PREFIXES.find(([, head]) => name.startsWith(head)) ?? [0, ""];
  const isAcl = index === 2 || index === 3;
  const own = isAcl ? storedAcl(Buffer.from(value)) : value;
  if (index === 0 || own === undefined) throw xattrInvalid(name, "is of no kind that ext4 has");
  return { index, rest: Buffer.from(name.slice(prefix.length)), value: own };
}

/** The order that ext4 wants in a block. */
function compareXattrs(a: StoredXattr, b: StoredXattr): number {
  return a.index - b.index || a.rest.length - b.rest.length || Buffer.compare(a.rest, b.rest);
}

const aligned = (bytes: number): number => Math.ceil(bytes / 4) * 4;

function hashOf({ rest, value }: StoredXattr): number {
  let hash = 0;
  for (const byte of rest) hash = ((hash << 5) ^ (hash >>> 27) ^ byte) >>> 0;
  const words = Buffer.alloc(aligned(value.length));
  words.set(value);
  for (let at = 0; at < words.length; at += 4) {
    hash = ((hash << 16) ^ (hash >>> 16) ^ words.readUInt32LE(at)) >>> 0;
  }
  return hash;
}

/** Entries from `start` on and values from the end; false where they do not fit. */
function fill(
  bytes: Buffer,
  xattrs: readonly StoredXattr[],
  place: { readonly start: number; readonly base: number; readonly hashed: boolean },
): boolean {
  let at = place.start;
  let end = bytes.length;
  for (const xattr of xattrs) {
    const { index, rest, value } = xattr;
    const entryBytes = aligned(ENTRY_BYTES + rest.length);
    end -= aligned(value.length);
    /* Four zero bytes end the list. */
    if (at + entryBytes + 4 > end) return false;
    bytes.writeUInt8(rest.length, at);
    bytes.writeUInt8(index, at + 1);
    bytes.writeUInt16LE(value.length === 0 ? 0 : end - place.base, at + 2);
    bytes.writeUInt32LE(value.length, at + 8);
    bytes.writeUInt32LE(place.hashed ? hashOf(xattr) : 0, at + 12);
    bytes.set(rest, at + ENTRY_BYTES);
    bytes.set(value, end);
    at += entryBytes;
  }
  return true;
}

/** @throws `import.xattr-unsuitable` (misuse) for more than a block holds */
export function encodeXattrs(xattrs: ReadonlyMap<string, Uint8Array>): EncodedXattrs {
  if (xattrs.size === 0) return { inInode: new Uint8Array() };
  const sorted = [...xattrs].map(([name, value]) => stored(name, value)).sort(compareXattrs);
  const inInode = Buffer.alloc(INODE_BYTES - INODE_XATTRS_AT);
  inInode.writeUInt32LE(XATTR_MAGIC, 0);
  if (fill(inInode, sorted, { start: 4, base: 4, hashed: false })) return { inInode };
  const block = Buffer.alloc(BLOCK_BYTES);
  block.writeUInt32LE(XATTR_MAGIC, 0);
  block.writeUInt32LE(1, 4);
  block.writeUInt32LE(1, 8);
  const hash = sorted.reduce((sum, xattr) => ((sum << 16) ^ (sum >>> 16) ^ hashOf(xattr)) >>> 0, 0);
  block.writeUInt32LE(hash, 12);
  if (fill(block, sorted, { start: BLOCK_HEADER_BYTES, base: 0, hashed: true })) {
    return { inInode: new Uint8Array(), block };
  }
  throw xattrInvalid([...xattrs.keys()].join(", "), "is too large for a block of ext4");
}

export function sealXattrBlock(block: Buffer, number: number, seed: number): void {
  const place = Buffer.alloc(8);
  place.writeBigUInt64LE(BigInt(number));
  block.writeUInt32LE(0, 16);
  block.writeUInt32LE(crc32c(block, crc32c(place, seed)), 16);
}

interface ExtentNode {
  readonly first: number;
  /** Blocks of the file, or 0 for a node that leads to others. */
  readonly blocks: number;
  readonly start: number;
}

function encodeNode(
  node: Buffer,
  entries: readonly ExtentNode[],
  depth: number,
  max: number,
): void {
  node.writeUInt16LE(EXTENT_MAGIC, 0);
  node.writeUInt16LE(entries.length, 2);
  node.writeUInt16LE(max, 4);
  node.writeUInt16LE(depth, 6);
  for (const [index, { first, blocks, start }] of entries.entries()) {
    const at = (index + 1) * EXTENT_BYTES;
    node.writeUInt32LE(first, at);
    if (depth === 0) {
      node.writeUInt16LE(blocks, at + 4);
      node.writeUInt32LE(start, at + 8);
    } else node.writeUInt32LE(start, at + 4);
  }
}

export interface EncodedExtents {
  readonly root: Buffer;
  /** Blocks of the tree itself, with their places. */
  readonly nodes: readonly { readonly place: number; readonly bytes: Buffer }[];
}

/** The tree of extents of an inode; `take` gives a block for each node below the root. */
export function encodeExtents(
  runs: readonly Run[],
  number: number,
  seed: number,
  take: () => number,
): EncodedExtents {
  let level: ExtentNode[] = runs.flatMap((run) => [...cut(run)]);
  const nodes: { place: number; bytes: Buffer }[] = [];
  let depth = 0;
  for (; level.length > ROOT_EXTENTS; depth += 1) {
    const above: ExtentNode[] = [];
    for (let at = 0; at < level.length; at += BLOCK_EXTENTS) {
      const part = level.slice(at, at + BLOCK_EXTENTS);
      const bytes = Buffer.alloc(BLOCK_BYTES);
      encodeNode(bytes, part, depth, BLOCK_EXTENTS);
      const end = (BLOCK_EXTENTS + 1) * EXTENT_BYTES;
      bytes.writeUInt32LE(crc32c(bytes.subarray(0, end), inodeSeed(seed, number, 0)), end);
      const place = take();
      nodes.push({ place, bytes });
      above.push({ first: part[0]?.first ?? 0, blocks: 0, start: place });
    }
    level = above;
  }
  const root = Buffer.alloc(60);
  encodeNode(root, level, depth, ROOT_EXTENTS);
  return { root, nodes };
}

/** Extents hold at most 32,768 blocks each. */
function* cut({ first, blocks, start }: Run): Generator<ExtentNode> {
  for (let done = 0; done < blocks; done += EXTENT_BLOCKS_MAX) {
    const count = Math.min(EXTENT_BLOCKS_MAX, blocks - done);
    yield { first: first + done, blocks: count, start: start + done };
  }
}

export interface NewName {
  readonly name: Buffer;
  readonly inode: number;
  /** As `d_type` of ext4: 1 file, 2 directory, 3 and 4 devices, 5 fifo, 6 socket, 7 link. */
  readonly kind: number;
}

const TAIL_BYTES = 12;

/** The blocks of a directory, each with its checksum. */
export function encodeDirectory(names: readonly NewName[], number: number, seed: number): Buffer[] {
  const blocks: Buffer[] = [];
  const room = BLOCK_BYTES - TAIL_BYTES;
  let [block, at, last] = [Buffer.alloc(BLOCK_BYTES), 0, 0];
  const close = (): void => {
    block.writeUInt16LE(room - last, last + 4);
    block.writeUInt16LE(TAIL_BYTES, room + 4);
    block.writeUInt8(0xde, room + 7);
    block.writeUInt32LE(crc32c(block.subarray(0, room), inodeSeed(seed, number, 0)), room + 8);
    blocks.push(block);
  };
  for (const { name, inode, kind } of names) {
    const length = aligned(8 + name.length);
    if (at + length > room) {
      close();
      [block, at, last] = [Buffer.alloc(BLOCK_BYTES), 0, 0];
    }
    block.writeUInt32LE(inode, at);
    block.writeUInt16LE(length, at + 4);
    block.writeUInt8(name.length, at + 6);
    block.writeUInt8(kind, at + 7);
    block.set(name, at + 8);
    [last, at] = [at, at + length];
  }
  close();
  return blocks;
}
