/** Brings a copy of a user data block up to date, block by block, by digests. */
import { hash } from "node:crypto";
import { BLOCK_BYTES, blockDigest, BlockDigests, isZero, type BlockDevice } from "#block";
import { alignRanges, endOf, subtractRanges, totalLength, type ByteRange } from "#core";
import type { RemoteBlocks } from "#transfer";

/** Blocks that are on their way at a time. */
const READERS = 128;

export interface Comparison {
  readonly local: BlockDevice;
  readonly remote: Pick<RemoteBlocks, "fetch" | "fetchUnless">;
  /** Outside of these the block is zero at the source. */
  readonly allocated: readonly ByteRange[];
  progress(doneBytes: number, totalBytes: number): void;
}

export interface Compared {
  /** What differed, and has travelled or become zero. */
  readonly changedBytes: number;
  /** Of all blocks, as they were at the source when they were read. */
  readonly digests: BlockDigests;
}

/**
 * When this returns, each block of `local` is what it was at the source at some moment of the call,
 * not yet durably. Of a source that stands still it is the same.
 */
export async function compareBlocks(
  comparison: Comparison,
  signal: AbortSignal,
): Promise<Compared> {
  const { local, remote, allocated } = comparison;
  const { sizeBytes } = local;
  const ranges = alignRanges(allocated, BLOCK_BYTES, sizeBytes);
  const totalBytes = totalLength(ranges);
  const digests = new BlockDigests(sizeBytes);
  let [changedBytes, doneBytes] = [0, 0];
  for (const range of subtractRanges(await local.allocated(), ranges)) await local.zero(range);
  const blocks = blocksOf(ranges);
  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  const work = async (): Promise<void> => {
    for (const block of blocks) {
      either.throwIfAborted();
      const { changed, digest } = await compareBlock(local, remote, block, either);
      digests.set(block.offset / BLOCK_BYTES, digest);
      if (changed) changedBytes += block.length;
      doneBytes += block.length;
      comparison.progress(doneBytes, totalBytes);
    }
  };
  const workers = Array.from({ length: READERS }, () =>
    work().catch((cause: unknown) => {
      failed.abort(cause);
      throw cause;
    }),
  );
  await Promise.allSettled(workers);
  signal.throwIfAborted();
  failed.signal.throwIfAborted();
  return { changedBytes, digests };
}

function* blocksOf(ranges: readonly ByteRange[]): Generator<ByteRange> {
  for (const range of ranges) {
    for (let { offset } = range; offset < endOf(range); offset += BLOCK_BYTES) {
      yield { offset, length: Math.min(BLOCK_BYTES, endOf(range) - offset) };
    }
  }
}

async function compareBlock(
  local: BlockDevice,
  remote: Comparison["remote"],
  block: ByteRange,
  signal: AbortSignal,
): Promise<{ readonly changed: boolean; readonly digest: Uint8Array | undefined }> {
  const here = Buffer.allocUnsafe(block.length);
  await local.read(here, block.offset);
  const empty = isZero(here);
  const there = empty
    ? await remote.fetch(block, "background", signal)
    : await remote.fetchUnless(block, hash("sha256", here, "buffer"), "background", signal);
  if (there === "same") return { changed: false, digest: blockDigest(here) };
  if (there === undefined || isZero(there)) {
    if (!empty) await local.zero(block);
    return { changed: !empty, digest: undefined };
  }
  await local.write(there, block.offset);
  return { changed: true, digest: blockDigest(there) };
}
