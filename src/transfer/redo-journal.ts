/**
 * Changes on their way into a copy that they build on. A block may be written over only when its
 * new content is durable elsewhere: else a crash would leave a copy that is neither old nor new.
 */
import { TesseraError, type World } from "#core";
import type { BlockDevice } from "#block";
import { RAW_BYTES_MAX } from "./protocol.ts";

/** Bytes at an offset, or zeroes. */
export type DeviceWrite =
  | { readonly offset: number; readonly bytes: Uint8Array }
  | { readonly offset: number; readonly zeroBytes: number };

const HEAD_BYTES = 8;
const ROW_BYTES = 17;
/** Changes that wait in memory until they are made durable. */
export const PENDING_BYTES_MAX = 16 * 2 ** 20;
/** They and a frame more, with a row for every change. */
const JOURNAL_BYTES_MAX = 2 * (PENDING_BYTES_MAX + RAW_BYTES_MAX);

export function lengthOf(write: DeviceWrite): number {
  return "bytes" in write ? write.bytes.length : write.zeroBytes;
}

/** Applies writes to a device; to do it again changes nothing. */
export async function applyWrites(
  device: BlockDevice,
  writes: readonly DeviceWrite[],
): Promise<void> {
  for (const write of writes) {
    if ("bytes" in write) await device.write(write.bytes, write.offset);
    else await device.zero({ offset: write.offset, length: write.zeroBytes });
  }
}

/** The next block (8); for each write offset (8), length (8), 1 or 0 for zeroes, the bytes. */
function encode(nextBlock: number, writes: readonly DeviceWrite[]): Buffer {
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeBigUInt64BE(BigInt(nextBlock));
  const parts: Uint8Array[] = [head];
  for (const write of writes) {
    const row = Buffer.alloc(ROW_BYTES);
    row.writeBigUInt64BE(BigInt(write.offset), 0);
    row.writeBigUInt64BE(BigInt(lengthOf(write)), 8);
    row[16] = "bytes" in write ? 1 : 0;
    parts.push(row);
    if ("bytes" in write) parts.push(write.bytes);
  }
  return Buffer.concat(parts);
}

function decode(bytes: Buffer, path: string): DeviceWrite[] {
  const writes: DeviceWrite[] = [];
  let at = HEAD_BYTES;
  while (at < bytes.length) {
    if (at + ROW_BYTES > bytes.length) throw corrupt(path);
    const offset = Number(bytes.readBigUInt64BE(at));
    const length = Number(bytes.readBigUInt64BE(at + 8));
    const plain = bytes[at + 16] === 1;
    at += ROW_BYTES;
    if (!plain) writes.push({ offset, zeroBytes: length });
    else if (at + length > bytes.length) throw corrupt(path);
    else writes.push({ offset, bytes: bytes.subarray(at, at + length) });
    at += plain ? length : 0;
  }
  return writes;
}

function corrupt(path: string): TesseraError {
  const message = "the journal of a transfer is damaged";
  return new TesseraError("corrupt", "transfer.state-invalid", message, { subject: path });
}

/** Makes writes durable beside the copy, with the block that follows them. */
export async function writeJournal(
  world: World,
  path: string,
  nextBlock: number,
  writes: readonly DeviceWrite[],
): Promise<void> {
  await world.files.writeFileAtomic(path, encode(nextBlock, writes), 0o600);
}

/**
 * The writes that lead to `nextBlock`. A journal that leads elsewhere is newer than the record, and
 * was begun when everything before it was durable: nothing of it counts.
 *
 * @throws `transfer.state-invalid` (corrupt)
 */
export async function readJournal(
  world: World,
  path: string,
  nextBlock: number,
): Promise<DeviceWrite[]> {
  if ((await world.files.status(path)) === undefined) return [];
  const bytes = Buffer.from(await world.files.readFile(path, JOURNAL_BYTES_MAX));
  if (bytes.length < HEAD_BYTES) throw corrupt(path);
  return bytes.readBigUInt64BE(0) === BigInt(nextBlock) ? decode(bytes, path) : [];
}
