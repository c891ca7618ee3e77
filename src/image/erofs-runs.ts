/** The bytes of an image that follow from its plan and its tree's digest alone. */
import type { Digest } from "#core";
import {
  BLOCK_BYTES,
  EXTENDED_INODE_BYTES,
  SLOT_BYTES,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET,
} from "./erofs-format.ts";
import type { ErofsPlan, PlannedInode } from "./erofs-plan.ts";
import { firstBlock, inodeBytes, inodesByPlace } from "./erofs-write.ts";

export interface ImageRun {
  readonly position: number;
  readonly bytes: Uint8Array;
}

/** A part of the blocks of inodes: known bytes, or a run of a file's content. */
export type InodeRun =
  | { readonly position: number; readonly bytes: Buffer }
  | { readonly position: number; readonly length: number };

/** Where the tail of an inode's content begins in the image. */
export function tailPosition(inode: PlannedInode): number {
  return inode.nid * SLOT_BYTES + EXTENDED_INODE_BYTES + inode.xattrBytes;
}

/** The blocks of inodes by ascending position; everything between is zero. */
export function* inodeRuns(plan: ErofsPlan): Generator<InodeRun> {
  for (const { inode, number } of inodesByPlace(plan)) {
    const position = inode.nid * SLOT_BYTES;
    const bytes = inodeBytes(inode, number);
    yield { position, bytes };
    if (inode.tailBytes > 0) yield tailRun(plan, inode, position + bytes.length);
  }
}

function tailRun(plan: ErofsPlan, inode: PlannedInode, position: number): InodeRun {
  if (inode.entry.type === "file") return { position, length: inode.tailBytes };
  const body = plan.metadataOf(inode);
  return { position, bytes: body.subarray(body.length - inode.tailBytes) };
}

/** What fills blocks of its own and is no content of a file. */
export function* blockRuns(plan: ErofsPlan): Generator<ImageRun> {
  for (const inode of plan.inodes) {
    if (inode.blocks === 0 || inode.entry.type === "file") continue;
    const bytes = plan.metadataOf(inode).subarray(0, inode.sizeBytes - inode.tailBytes);
    yield { position: inode.firstBlock * BLOCK_BYTES, bytes };
  }
}

/** Joins runs that are only zeroes apart into one run each. */
function* joined(runs: Iterable<InodeRun>): Generator<ImageRun> {
  let position = 0;
  let end = 0;
  let parts: Buffer[] = [];
  for (const run of runs) {
    if ("bytes" in run && parts.length > 0 && run.position - end < BLOCK_BYTES) {
      parts.push(Buffer.alloc(run.position - end), run.bytes);
      end = run.position + run.bytes.length;
      continue;
    }
    if (parts.length > 0) yield { position, bytes: Buffer.concat(parts) };
    parts = "bytes" in run ? [run.bytes] : [];
    position = run.position;
    end = "bytes" in run ? position + run.bytes.length : 0;
  }
  if (parts.length > 0) yield { position, bytes: Buffer.concat(parts) };
}

/** Everything of the image of a plan but contents and zeroes, by ascending position. */
export function imageRuns(plan: ErofsPlan, identity: Digest): ImageRun[] {
  const end = SUPERBLOCK_OFFSET + SUPERBLOCK_BYTES;
  const head = firstBlock(plan, identity).subarray(SUPERBLOCK_OFFSET, end);
  return [
    { position: SUPERBLOCK_OFFSET, bytes: head },
    ...joined(inodeRuns(plan)),
    ...blockRuns(plan),
  ];
}
