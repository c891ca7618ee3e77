/** Contents cut into what a new file system holds of them. */
import type { ContentSource } from "#image";
import { isSparse } from "../tree.ts";
import { BLOCK_BYTES } from "./layout.ts";
import type { Run } from "./mapping.ts";

/** What is read at a time. */
export const CHUNK_BYTES = 2 ** 20;
const ZEROES = Buffer.alloc(BLOCK_BYTES);

/** A device number in the inode, in the form that has room for it. */
export function deviceBlock(major: number, minor: number): Buffer {
  const block = Buffer.alloc(60);
  if (major < 256 && minor < 256) block.writeUInt32LE((major << 8) | minor, 0);
  else {
    const number = (minor & 0xff) | (major << 8) | ((minor & 0xfff00) << 12);
    block.writeUInt32LE(number >>> 0, 4);
  }
  return block;
}

/** The parts of a content that may be other than zero, cut at whole blocks. */
export async function* piecesOf(content: ContentSource) {
  const { sizeBytes } = content;
  const ranges = isSparse(content)
    ? await content.dataRanges()
    : [{ offset: 0, length: sizeBytes }];
  let done = 0;
  for (const { offset, length } of ranges) {
    const from = Math.max(done, offset - (offset % BLOCK_BYTES));
    const end = Math.min(sizeBytes, Math.ceil((offset + length) / BLOCK_BYTES) * BLOCK_BYTES);
    for (done = from; done < end;) {
      const piece = { offset: done, length: Math.min(CHUNK_BYTES, end - done) };
      yield piece;
      done += piece.length;
    }
  }
}

/** Runs of blocks that are not zero. */
export function* heldBlocks(bytes: Buffer): Generator<{ first: number; blocks: number }> {
  const blocks = bytes.length / BLOCK_BYTES;
  const isHeld = (index: number): boolean =>
    bytes.compare(ZEROES, 0, BLOCK_BYTES, index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES) !== 0;
  let first = 0;
  for (let index = 0; index <= blocks; index += 1) {
    if (index < blocks && isHeld(index)) continue;
    if (index > first) yield { first, blocks: index - first };
    first = index + 1;
  }
}

/** Runs that continue each other as one. */
export function joined(runs: readonly Run[]): Run[] {
  const result: Run[] = [];
  for (const run of runs) {
    const last = result.at(-1);
    const joins =
      last !== undefined &&
      last.first + last.blocks === run.first &&
      last.start + last.blocks === run.start;
    if (joins) result[result.length - 1] = { ...last, blocks: last.blocks + run.blocks };
    else result.push(run);
  }
  return result;
}
