import { hexOf, type Digest } from "#core";
import type { ByteSink, Tree, WrittenImage } from "./contract.ts";
import { crc32c } from "./crc32c.ts";
import {
  BLOCK_BYTES,
  LAYOUT_INLINE,
  LAYOUT_PLAIN,
  SLOT_BYTES,
  SUPERBLOCK_OFFSET,
  encodeDevice,
  encodeInode,
  encodeSuperblock,
} from "./erofs-format.ts";
import { planErofs, type ErofsPlan, type PlannedInode } from "./erofs-plan.ts";
import { outputTo, type Output } from "./output.ts";
import { treeDigest } from "./tree-digest.ts";
import { encodeXattrs } from "./xattr.ts";

function uuidBytes(digest: Digest): Buffer {
  return Buffer.from(hexOf(digest).slice(0, 32), "hex");
}

/** The text form (RFC 9562, section 4) of the first 16 bytes of a tree's digest. */
function uuidText(digest: Digest): string {
  const hex = hexOf(digest);
  const parts = [
    [0, 8],
    [8, 12],
    [12, 16],
    [16, 20],
    [20, 32],
  ];
  return parts.map(([start, end]) => hex.slice(start, end)).join("-");
}

/** Block 0 for the tree with this digest. */
export function firstBlock(plan: ErofsPlan, digest: Digest): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  const superblock = encodeSuperblock({
    rootNid: plan.inodes[0]?.nid ?? 0,
    inodes: plan.inodes.length,
    blocks: plan.blocks,
    uuid: uuidBytes(digest),
  });
  block.set(superblock, SUPERBLOCK_OFFSET);
  block.writeUInt32LE(crc32c(block.subarray(SUPERBLOCK_OFFSET)), SUPERBLOCK_OFFSET + 4);
  return block;
}

/** An inode with its xattr area. */
export function inodeBytes(inode: PlannedInode, number: number): Buffer {
  const { entry, sizeBytes, xattrBytes, tailBytes } = inode;
  const device = entry.type === "character" || entry.type === "block";
  const fields = {
    layout: tailBytes > 0 ? LAYOUT_INLINE : LAYOUT_PLAIN,
    xattrBytes,
    type: entry.type,
    mode: entry.mode,
    sizeBytes,
    union: device ? encodeDevice(entry.major, entry.minor) : inode.firstBlock,
    uid: entry.uid,
    gid: entry.gid,
    mtime_s: entry.mtime_s,
  };
  const head = encodeInode(fields, number, inode.links);
  if (xattrBytes === 0) return head;
  const area = Buffer.alloc(xattrBytes);
  encodeXattrs(entry.xattrs, area);
  return Buffer.concat([head, area]);
}

/** Inodes with their numbers (their place in the order, from 1), as they lie in the image. */
export function inodesByPlace(plan: ErofsPlan): { inode: PlannedInode; number: number }[] {
  const numbered = plan.inodes.map((inode, index) => ({ inode, number: index + 1 }));
  return numbered.sort((a, b) => a.inode.nid - b.inode.nid);
}

async function padTo(output: Output, position: number): Promise<void> {
  if (output.position() < position) await output.write(Buffer.alloc(position - output.position()));
}

/** The blocks of inodes, each inode followed by its xattrs and the tail of its content. */
async function writeInodes(plan: ErofsPlan, output: Output): Promise<void> {
  for (const { inode, number } of inodesByPlace(plan)) {
    await padTo(output, inode.nid * SLOT_BYTES);
    await output.write(inodeBytes(inode, number));
    if (inode.tailBytes === 0) continue;
    await output.copy(plan.bodyOf(inode), inode.sizeBytes - inode.tailBytes, inode.tailBytes);
  }
  await padTo(output, plan.dataBlock * BLOCK_BYTES);
}

async function writeData(plan: ErofsPlan, output: Output): Promise<void> {
  for (const inode of plan.inodes) {
    if (inode.blocks === 0) continue;
    await output.copy(plan.bodyOf(inode), 0, inode.sizeBytes - inode.tailBytes);
    await output.pad(BLOCK_BYTES);
  }
}

/**
 * Writes the uncompressed EROFS image of a tree (`doc/component-image.md`): equal trees give equal
 * bytes. Contents are read twice, once for the digest that gives the UUID, and never held as a
 * whole. What the sink is given holds until its promise resolves.
 *
 * @throws `image.too-large` (misuse); what contents and sink throw
 */
export async function writeErofs(tree: Tree, sink: ByteSink): Promise<WrittenImage> {
  const plan = planErofs(tree);
  const identity = await treeDigest(tree);
  const output = outputTo(sink);
  await output.write(firstBlock(plan, identity));
  await writeInodes(plan, output);
  await writeData(plan, output);
  const digest = await output.end();
  return { digest, sizeBytes: output.position(), uuid: uuidText(identity) };
}
