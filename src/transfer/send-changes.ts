import { endOf, totalLength, type ByteRange, type Digest, pipelined } from "#core";
import { BLOCK_BYTES, hashBlocks, type BlockDevice, type BlockDigests } from "#block";
import type { BlobReader } from "#repository";
import {
  changeBatches,
  changedBlocks,
  changedRanges,
  type ChangeBatch,
  type ChangedBlock,
} from "./change-batches.ts";
import { encodeChanges } from "./changes.ts";
import type { DataSource, Lineage } from "./contract.ts";
import { PageIndex } from "./page-index.ts";
import { compressPatch, patchDictionary } from "./patch.ts";
import { FLAG_DICTIONARY, FLAG_ZSTD, TYPE } from "./protocol.ts";
import { PIPELINE_DEPTH, type LevelNow } from "./send-blob.ts";
import type { OutgoingStream } from "./sender-stream.ts";
import type { UserDataLedger } from "./user-data-ledger.ts";

/** Reading the images to find pages pays where the line is slow: where this level is chosen. */
const INDEX_LEVEL_MIN = 9;
/** And where there is more than this to send. */
const INDEX_BYTES_MIN = 4 * 2 ** 20;

/** An old copy that both sides have, and the digests of its blocks. */
export interface AcceptedLineage extends Lineage {
  readonly digest: Digest;
  readonly digests: BlockDigests;
}

export interface ChangesOptions {
  readonly from: number;
  readonly ledger: UserDataLedger;
  readonly level: LevelNow;
  readonly lineage?: AcceptedLineage;
  /** The components whose pages may be named; absent when the receiver takes no references. */
  readonly components?: readonly Digest[];
}

/** Opens the old copy with this digest; undefined when it is not kept, or is another one. */
export async function acceptLineage(
  source: DataSource,
  digest: Digest | undefined,
  sizeBytes: number,
): Promise<AcceptedLineage | undefined> {
  const lineage = digest === undefined ? undefined : await source.openLineage?.(digest);
  if (digest === undefined || lineage === undefined) return undefined;
  const digests = lineage.digests ?? (await hashBlocks(lineage.old));
  const known = lineage.digests !== undefined || digests.userDataDigest().digest === digest;
  if (known && lineage.old.sizeBytes === sizeBytes) return { ...lineage, digest, digests };
  await lineage.old.close();
  return undefined;
}

function lengthBefore(ranges: readonly ByteRange[], end: number): number {
  const lengths = ranges.map((range) => Math.max(0, Math.min(endOf(range), end) - range.offset));
  return lengths.reduce((sum, length) => sum + length, 0);
}

/** Notes every block that passes. */
async function* noted(
  blocks: AsyncIterable<ChangedBlock>,
  ledger: UserDataLedger,
): AsyncGenerator<ChangedBlock, void, undefined> {
  for await (const block of blocks) {
    ledger.add(block.index, block.bytes);
    yield block;
  }
}

interface Frame extends ChangeBatch {
  /** The data of the frame before. */
  readonly before: Uint8Array;
}

/** Gives each frame the data of the one before. */
export async function* withBefore(
  batches: AsyncIterable<ChangeBatch>,
): AsyncGenerator<Frame, void, undefined> {
  let before: Uint8Array = new Uint8Array(0);
  for await (const batch of batches) {
    yield { ...batch, before };
    before = batch.raw;
  }
}

/** A frame's data as they travel at a level. */
export async function packChanges(
  { raw, before, olds }: Frame,
  level: number | undefined,
): Promise<{ readonly data: Uint8Array; readonly flags: number; readonly level: number }> {
  const plain = { data: raw, flags: 0, level: 0 };
  if (level === undefined || raw.length === 0) return plain;
  const dictionary = patchDictionary(before, olds);
  const data = await compressPatch(raw, level, dictionary);
  if (data === undefined) return plain;
  return { data, flags: FLAG_ZSTD | (dictionary === undefined ? 0 : FLAG_DICTIONARY), level };
}

/** Reads the images where that pays; the readers must be closed by the caller. */
async function pageIndex(
  source: DataSource,
  stream: OutgoingStream,
  options: ChangesOptions & { readonly leftBytes: number },
  opened: BlobReader[],
): Promise<PageIndex | undefined> {
  const { components, level, leftBytes } = options;
  if (components === undefined || leftBytes < INDEX_BYTES_MIN) return undefined;
  if ((level() ?? 0) < INDEX_LEVEL_MIN) return undefined;
  for (const id of components) opened.push(await source.openBlob(id));
  return await PageIndex.build(opened, stream.signal);
}

/**
 * Sends the blocks from `from` on that differ from the old copy, or from zeroes where there is none.
 *
 * @throws what the devices throw
 */
export async function sendChanges(
  stream: OutgoingStream,
  source: DataSource,
  device: BlockDevice,
  options: ChangesOptions,
): Promise<void> {
  const { from, ledger, lineage, components } = options;
  const { sizeBytes } = device;
  const allocatedBytes = totalLength(await device.allocated());
  const ranges = await changedRanges(device, lineage);
  const changedBytes = totalLength(ranges);
  const doneBytes = lengthBefore(ranges, from * BLOCK_BYTES);
  stream.opened(
    "userData",
    {
      sizeBytes,
      allocatedBytes,
      changedBytes,
      ...(lineage === undefined ? {} : { lineage: lineage.digest }),
      ...(components === undefined ? {} : { references: components.length }),
    },
    { doneBytes, totalBytes: changedBytes },
  );
  ledger.begin(sizeBytes, lineage);
  const blocks = (between: { readonly from: number; readonly to: number }) =>
    noted(changedBlocks(device, lineage?.old, ranges, between), ledger);
  for await (const _block of blocks({ from: ledger.nextBlock, to: from })) {
    stream.signal.throwIfAborted();
  }
  const images: BlobReader[] = [];
  try {
    const leftBytes = changedBytes - doneBytes;
    const index = await pageIndex(source, stream, { ...options, leftBytes }, images);
    const to = Math.ceil(sizeBytes / BLOCK_BYTES);
    await sendBatches(
      stream,
      withBefore(changeBatches(blocks({ from, to }), index)),
      options.level,
    );
  } finally {
    await Promise.all(images.map((image) => image.close()));
  }
  const end = ledger.end(sizeBytes);
  if (ledger.digests !== undefined) await source.userDataSent?.(ledger.digests);
  stream.ended({ ...end, encodings: stream.encodings });
}

async function sendBatches(
  stream: OutgoingStream,
  batches: AsyncGenerator<Frame, void, undefined>,
  level: LevelNow,
): Promise<void> {
  const frames = pipelined(batches, PIPELINE_DEPTH, async (batch) => {
    return { batch, packed: await packChanges(batch, level()) };
  });
  for await (const { batch, packed } of frames) {
    const parts = [encodeChanges(batch.changes), packed.data];
    const frame = { type: TYPE.CHANGES, flags: packed.flags, parts };
    await stream.data(frame, batch.raw.length, packed.level);
  }
}
