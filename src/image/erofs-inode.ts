/** Opening an EROFS image and reading single inodes of it, every bound checked. */
import { sliceSource } from "./content.ts";
import type { ContentSource } from "./contract.ts";
import { crc32c } from "./crc32c.ts";
import {
  BLOCK_BYTES,
  COMPACT_INODE_BYTES,
  COMPAT_CHECKSUM,
  EXTENDED_INODE_BYTES,
  INCOMPAT_ZERO_PADDING,
  LAYOUT_INLINE,
  LAYOUT_PLAIN,
  SLOT_BYTES,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET,
  decodeInode,
  decodeSuperblock,
  isExtended,
  type Inode,
  type Superblock,
} from "./erofs-format.ts";
import { erofsInvalid, erofsUnsupported } from "./errors.ts";
import { windowReader, windowSource, type WindowReader } from "./window.ts";
import {
  XATTR_AREA_BYTES_MAX,
  XATTR_ENTRY_BYTES,
  decodeXattrs,
  xattrEntryBytes,
  type Xattrs,
} from "./xattr.ts";

export interface ErofsImage {
  readonly superblock: Superblock;
  readonly source: ContentSource;
  readonly reader: WindowReader;
  /** Bytes that the superblock claims and the source has. */
  readonly sizeBytes: number;
}

export interface LocatedInode extends Inode {
  /** Where the xattr area ends and an inline tail begins. */
  readonly endOffset: number;
  readonly xattrs: Xattrs;
}

function checkSuperblock(superblock: Superblock, firstBlock: Buffer, source: ContentSource): void {
  if (superblock.blockBits !== 12) throw erofsUnsupported(`blocks of 2^${superblock.blockBits}`);
  const features = superblock.incompat & ~INCOMPAT_ZERO_PADDING;
  if (features !== 0) throw erofsUnsupported(`features ${features.toString(16)}`);
  if (superblock.blocks * BLOCK_BYTES > source.sizeBytes) throw erofsInvalid("it is cut short");
  if ((superblock.compat & COMPAT_CHECKSUM) === 0) return;
  const covered = Buffer.from(firstBlock.subarray(SUPERBLOCK_OFFSET));
  covered.writeUInt32LE(0, 4);
  if (crc32c(covered) !== superblock.checksum) throw erofsInvalid("its superblock's checksum");
}

/** @throws `image.erofs-invalid` (corrupt), `image.erofs-unsupported` (misuse) */
export async function openErofs(source: ContentSource): Promise<ErofsImage> {
  if (source.sizeBytes < BLOCK_BYTES) throw erofsInvalid("it is shorter than a block");
  const reader = windowReader(source);
  const firstBlock = await reader.read(0, BLOCK_BYTES);
  const end = SUPERBLOCK_OFFSET + SUPERBLOCK_BYTES;
  const superblock = decodeSuperblock(firstBlock.subarray(SUPERBLOCK_OFFSET, end));
  checkSuperblock(superblock, firstBlock, source);
  return { superblock, source, reader, sizeBytes: superblock.blocks * BLOCK_BYTES };
}

/** Reads bytes of the image. @throws `image.erofs-invalid` (corrupt) outside of it */
async function readAt(image: ErofsImage, offset: number, length: number): Promise<Buffer> {
  const valid = Number.isSafeInteger(offset) && offset >= 0 && offset + length <= image.sizeBytes;
  if (!valid) throw erofsInvalid(`${length} bytes at ${offset} lie outside of it`);
  return await image.reader.read(offset, length);
}

async function readXattrs(image: ErofsImage, area: Buffer): Promise<Xattrs> {
  const base = image.superblock.xattrBlock * BLOCK_BYTES;
  return await decodeXattrs(area, async (id) => {
    const offset = base + id * 4;
    const head = await readAt(image, offset, XATTR_ENTRY_BYTES);
    return await readAt(image, offset, xattrEntryBytes(head));
  });
}

/** @throws `image.erofs-invalid` (corrupt), `image.erofs-unsupported` (misuse) */
export async function readInode(image: ErofsImage, nid: number): Promise<LocatedInode> {
  const { superblock } = image;
  const offset = superblock.metaBlock * BLOCK_BYTES + nid * SLOT_BYTES;
  const head = await readAt(image, offset, COMPACT_INODE_BYTES);
  const extended = isExtended(head.readUInt16LE(0));
  const bytes = extended ? EXTENDED_INODE_BYTES : COMPACT_INODE_BYTES;
  const inode = decodeInode(
    extended ? await readAt(image, offset, bytes) : head,
    superblock.buildTime_s,
  );
  if (inode.layout !== LAYOUT_PLAIN && inode.layout !== LAYOUT_INLINE) {
    throw erofsUnsupported(`the layout ${inode.layout} of an inode`);
  }
  if (inode.xattrBytes > XATTR_AREA_BYTES_MAX) throw erofsInvalid("an inode has too many xattrs");
  const area = await readAt(image, offset + bytes, inode.xattrBytes);
  const xattrs = await readXattrs(image, area);
  return { ...inode, endOffset: offset + bytes + inode.xattrBytes, xattrs };
}

/** Two sources as one. */
function joined(head: ContentSource, tail: ContentSource): ContentSource {
  return {
    sizeBytes: head.sizeBytes + tail.sizeBytes,
    async read(target, position) {
      const inHead = Math.max(0, Math.min(target.length, head.sizeBytes - position));
      if (inHead > 0) await head.read(target.subarray(0, inHead), position);
      if (inHead === target.length) return;
      await tail.read(target.subarray(inHead), Math.max(0, position - head.sizeBytes));
    },
  };
}

/** For bodies that are read once and soon: directories and links. */
export function metadataBodyOf(image: ErofsImage, inode: LocatedInode): ContentSource {
  const { reader, source } = image;
  return bodyOf({ ...image, source: windowSource(reader, source.sizeBytes) }, inode);
}

/** The content of an inode, checked to lie within the image, read when wanted. */
export function bodyOf(image: ErofsImage, inode: LocatedInode): ContentSource {
  const { sizeBytes, layout } = inode;
  if (sizeBytes < 0) throw erofsInvalid("a content has a negative size");
  const tailBytes = layout === LAYOUT_INLINE ? sizeBytes % BLOCK_BYTES : 0;
  const start = inode.union * BLOCK_BYTES;
  const headBytes = sizeBytes - tailBytes;
  if (headBytes > 0 && start + headBytes > image.sizeBytes) {
    throw erofsInvalid("a content lies outside of it");
  }
  const head = sliceSource(image.source, start, headBytes);
  if (tailBytes === 0) return head;
  const room = BLOCK_BYTES - (inode.endOffset % BLOCK_BYTES);
  if (tailBytes > room || inode.endOffset + tailBytes > image.sizeBytes) {
    throw erofsInvalid("the end of a content leaves its block");
  }
  return joined(head, sliceSource(image.source, inode.endOffset, tailBytes));
}
