import { alignRanges, endOf, totalLength, type ByteRange, type Digest, pipelined } from "#core";
import { BLOCK_BYTES, isZero, type BlockDevice } from "#block";
import { compress } from "./compression.ts";
import type { DataSource } from "./contract.ts";
import { peerError } from "./errors.ts";
import { blocksPrefix, type BlockRun } from "./messages.ts";
import { BLOCKS_PER_FRAME_MAX, FLAG_ZSTD, RAW_BYTES_MAX, TYPE } from "./protocol.ts";
import { PIPELINE_DEPTH, type LevelNow } from "./send-blob.ts";
import { acceptLineage, sendChanges } from "./send-changes.ts";
import type { OutgoingStream } from "./sender-stream.ts";
import type { UserDataLedger } from "./user-data-ledger.ts";

interface Batch {
  readonly runs: BlockRun[];
  readonly bytes: Buffer;
}

/** Reads the allocated ranges between two blocks, up to 1 MiB at a time. */
async function* readRanges(
  device: BlockDevice,
  ranges: readonly ByteRange[],
  between: { readonly from: number; readonly to: number },
): AsyncGenerator<{ readonly first: number; readonly bytes: Buffer }> {
  for (const range of ranges) {
    const end = Math.min(endOf(range), between.to * BLOCK_BYTES);
    const start = Math.max(range.offset, between.from * BLOCK_BYTES);
    for (let offset = start; offset < end; offset += RAW_BYTES_MAX) {
      const bytes = Buffer.allocUnsafe(Math.min(RAW_BYTES_MAX, end - offset));
      await device.read(bytes, offset);
      yield { first: offset / BLOCK_BYTES, bytes };
    }
  }
}

/** Gathers blocks that are not all zero into batches of up to sixteen. */
class Batcher {
  #runs: { index: number; count: number }[] = [];
  #blocks: Uint8Array[] = [];

  /** A batch when it is full. */
  add(index: number, block: Uint8Array): Batch | undefined {
    const last = this.#runs.at(-1);
    if (last !== undefined && last.index + last.count === index) last.count += 1;
    else this.#runs.push({ index, count: 1 });
    this.#blocks.push(block);
    return this.#blocks.length === BLOCKS_PER_FRAME_MAX ? this.take() : undefined;
  }

  take(): Batch | undefined {
    if (this.#blocks.length === 0) return undefined;
    const batch = { runs: this.#runs, bytes: Buffer.concat(this.#blocks) };
    this.#runs = [];
    this.#blocks = [];
    return batch;
  }
}

function note(ledger: UserDataLedger, first: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; at += BLOCK_BYTES) {
    ledger.add(first + at / BLOCK_BYTES, bytes.subarray(at, at + BLOCK_BYTES));
  }
}

async function* batchesOf(
  device: BlockDevice,
  ranges: readonly ByteRange[],
  from: number,
  ledger: UserDataLedger,
): AsyncGenerator<Batch> {
  const batcher = new Batcher();
  const to = Math.ceil(device.sizeBytes / BLOCK_BYTES);
  for await (const { first, bytes } of readRanges(device, ranges, { from, to })) {
    note(ledger, first, bytes);
    for (let at = 0; at < bytes.length; at += BLOCK_BYTES) {
      const block = bytes.subarray(at, at + BLOCK_BYTES);
      const full = isZero(block) ? undefined : batcher.add(first + at / BLOCK_BYTES, block);
      if (full !== undefined) yield full;
    }
  }
  const rest = batcher.take();
  if (rest !== undefined) yield rest;
}

/** Brings the ledger up to the block at which a stream starts, after the sender was restarted. */
async function catchUp(
  device: BlockDevice,
  ranges: readonly ByteRange[],
  ledger: UserDataLedger,
  to: number,
  signal: AbortSignal,
): Promise<void> {
  for await (const { first, bytes } of readRanges(device, ranges, { from: ledger.nextBlock, to })) {
    signal.throwIfAborted();
    note(ledger, first, bytes);
  }
}

export interface UserDataOptions {
  readonly from: number;
  readonly ledger: UserDataLedger;
  readonly level: LevelNow;
  /** As `level`, for changes. */
  readonly patchLevel: LevelNow;
  /** Of the old copy that the receiver offers to build on. */
  readonly lineage?: Digest | undefined;
  /** The receiver can read the images of the appliance's components. */
  readonly references?: boolean | undefined;
}

/** Sends the user data block from block `from` on. @throws what the device throws */
export async function sendUserData(
  stream: OutgoingStream,
  source: DataSource,
  device: BlockDevice,
  options: UserDataOptions,
): Promise<void> {
  const { from, ledger, level } = options;
  if (from > Math.ceil(device.sizeBytes / BLOCK_BYTES)) {
    throw peerError("not-offered", "the block is behind the device's end");
  }
  const lineage = await acceptLineage(source, options.lineage, device.sizeBytes);
  const components = options.references === true ? source.components : undefined;
  if (lineage === undefined && components === undefined) {
    await sendBlocks(stream, source, device, { from, ledger, level });
    return;
  }
  try {
    await sendChanges(stream, source, device, {
      from,
      ledger,
      level: options.patchLevel,
      ...(lineage === undefined ? {} : { lineage }),
      ...(components === undefined ? {} : { components }),
    });
  } finally {
    await lineage?.old.close();
  }
}

async function sendBlocks(
  stream: OutgoingStream,
  source: DataSource,
  device: BlockDevice,
  { from, ledger, level }: Pick<UserDataOptions, "from" | "ledger" | "level">,
): Promise<void> {
  const { sizeBytes } = device;
  const ranges = alignRanges(await device.allocated(), BLOCK_BYTES, sizeBytes);
  const allocatedBytes = totalLength(ranges);
  const doneBytes = totalLength(
    ranges.map(({ offset, length }) => ({
      offset,
      length: Math.max(0, Math.min(length, from * BLOCK_BYTES - offset)),
    })),
  );
  const progress = { doneBytes, totalBytes: allocatedBytes };
  stream.opened("userData", { sizeBytes, allocatedBytes }, progress);
  ledger.begin(sizeBytes);
  await catchUp(device, ranges, ledger, from, stream.signal);
  const batches = pipelined(
    batchesOf(device, ranges, from, ledger),
    PIPELINE_DEPTH,
    async (batch) => {
      const chosen = level();
      const packed = chosen === undefined ? undefined : await compress(batch.bytes, chosen);
      return { batch, packed };
    },
  );
  for await (const { batch, packed } of batches) {
    const flags = packed === undefined ? 0 : FLAG_ZSTD;
    const parts = [blocksPrefix(batch.runs), packed ?? batch.bytes];
    await stream.data({ type: TYPE.BLOCKS, flags, parts }, batch.bytes.length);
  }
  const end = ledger.end(sizeBytes);
  if (ledger.digests !== undefined) await source.userDataSent?.(ledger.digests);
  stream.ended({ ...end, encodings: stream.encodings });
}
