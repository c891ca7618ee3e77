import { alignRanges, endOf } from "#core";
import type { BlockDevice } from "./contract.ts";
import { isZero } from "./zeroes.ts";

/** The unit in which user data is counted, hashed and moved. */
export const BLOCK_BYTES = 65_536;

const READ_BYTES = 1024 * 1024;

export interface IndexedBlock {
  /** The block's offset divided by the block size. */
  readonly index: number;
  /** One block; the last block of the device may be shorter. */
  readonly bytes: Uint8Array;
}

/**
 * The blocks that hold at least one byte other than zero, in ascending order. Reads only within the
 * device's allocated ranges. `bytes` is a view of a buffer that is used again: it holds until the
 * next block is asked for.
 */
export async function* nonZeroBlocks(
  device: BlockDevice,
  blockBytes: number = BLOCK_BYTES,
): AsyncGenerator<IndexedBlock, void, undefined> {
  const stepBytes = Math.max(1, Math.floor(READ_BYTES / blockBytes)) * blockBytes;
  const buffer = new Uint8Array(Math.min(stepBytes, device.sizeBytes));
  for (const range of alignRanges(await device.allocated(), blockBytes, device.sizeBytes)) {
    for (let offset = range.offset; offset < endOf(range); offset += stepBytes) {
      const chunk = buffer.subarray(0, Math.min(stepBytes, endOf(range) - offset));
      await device.read(chunk, offset);
      for (let start = 0; start < chunk.length; start += blockBytes) {
        const bytes = chunk.subarray(start, start + blockBytes);
        if (!isZero(bytes)) yield { index: (offset + start) / blockBytes, bytes };
      }
    }
  }
}
