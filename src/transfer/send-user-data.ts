import { alignRanges, endOf, totalLength, type ByteRange } from "#core";
import {
  BLOCK_BYTES,
  isZero,
  userDataHasher,
  type BlockDevice,
  type UserDataDigest,
  type UserDataHasher,
} from "#block";
import { compress } from "./compression.ts";
import { peerError } from "./errors.ts";
import { blocksPrefix, type BlockRun } from "./messages.ts";
import { pipelined } from "./pipeline.ts";
import { BLOCKS_PER_FRAME_MAX, FLAG_ZSTD, RAW_BYTES_MAX, TYPE } from "./protocol.ts";
import { PIPELINE_DEPTH, type LevelNow } from "./send-blob.ts";
import type { OutgoingStream } from "./sender-stream.ts";

interface Batch {
  readonly runs: BlockRun[];
  readonly bytes: Buffer;
}

/**
 * The digest of the session's user data block as far as it has been read, in order. It lives as
 * long as the session, so that a resumed stream need not read the beginning again.
 */
export class UserDataLedger {
  #hasher: UserDataHasher | undefined;
  #nextBlock = 0;
  #done: UserDataDigest | undefined;

  /** The first block that is not yet accounted for. */
  get nextBlock(): number {
    return this.#nextBlock;
  }

  /** Adds blocks that follow each other in a buffer; those accounted for already are passed over. */
  add(device: BlockDevice, first: number, bytes: Uint8Array): void {
    this.#hasher ??= userDataHasher(device.sizeBytes);
    for (let at = 0; at < bytes.length; at += BLOCK_BYTES) {
      const index = first + at / BLOCK_BYTES;
      if (index < this.#nextBlock) continue;
      this.#hasher.add(index, bytes.subarray(at, at + BLOCK_BYTES));
      this.#nextBlock = index + 1;
    }
  }

  /** When every block has been added. */
  digest(device: BlockDevice): UserDataDigest {
    this.#hasher ??= userDataHasher(device.sizeBytes);
    this.#done ??= this.#hasher.digest();
    this.#nextBlock = Math.ceil(device.sizeBytes / BLOCK_BYTES);
    return this.#done;
  }
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

async function* batchesOf(
  device: BlockDevice,
  ranges: readonly ByteRange[],
  from: number,
  ledger: UserDataLedger,
): AsyncGenerator<Batch> {
  const batcher = new Batcher();
  const to = Math.ceil(device.sizeBytes / BLOCK_BYTES);
  for await (const { first, bytes } of readRanges(device, ranges, { from, to })) {
    ledger.add(device, first, bytes);
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
    ledger.add(device, first, bytes);
  }
}

/** Sends the user data block from block `from` on. @throws what the device throws */
export async function sendUserData(
  stream: OutgoingStream,
  device: BlockDevice,
  options: { readonly from: number; readonly ledger: UserDataLedger; readonly level: LevelNow },
): Promise<void> {
  const { from, ledger, level } = options;
  const { sizeBytes } = device;
  if (from > Math.ceil(sizeBytes / BLOCK_BYTES)) {
    throw peerError("not-offered", "the block is behind the device's end");
  }
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
  stream.ended(ledger.digest(device));
}
