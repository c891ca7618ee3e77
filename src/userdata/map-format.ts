/** The file of the durable map: a snapshot, then records; see doc/user-data.md. */
import { crc32 } from "node:zlib";
import { TesseraError, type ByteRange } from "#core";
import { BLOCK_BYTES } from "#block";
import { BlockMap, LOCAL, STALE, STALE_ZERO } from "./block-map.ts";

const MAGIC = Buffer.from("TSRSTAL1");
const HEAD_BYTES = 80;
const RANGE_BYTES = 16;
const CRC_BYTES = 4;
export const RECORD_BYTES = 24;

/** Why bytes became local; `commit` says that what was recorded before a position is durable. */
export const RECORD = { demanded: 1, background: 2, superseded: 3, zero: 4, commit: 5 } as const;
export type ArrivalKind = Exclude<keyof typeof RECORD, "commit">;
export const ARRIVAL_KINDS: readonly ArrivalKind[] = [
  "demanded",
  "background",
  "superseded",
  "zero",
];

export type Arrivals = Readonly<Record<ArrivalKind, number>>;

/** A range that has become local, or how many bytes of records are durable with their data. */
export type MapRecord =
  | { readonly kind: ArrivalKind; readonly range: ByteRange }
  | { readonly kind: "commit"; readonly coveredBytes: number };

export interface Snapshot {
  readonly map: BlockMap;
  /** The boot in which it was written: 36 characters. */
  readonly bootId: string;
  readonly arrivals: Arrivals;
}

function invalid(path: string, why: string): TesseraError {
  const message = `the map of a user data block cannot be used: ${why}`;
  return new TesseraError("corrupt", "userdata.map-invalid", message, {
    subject: path,
    remedy: "restore the file; without it nobody knows which bytes are current",
  });
}

function bitsOf(map: BlockMap, state: number): Buffer {
  const bits = Buffer.alloc(Math.ceil(map.blocks / 8));
  for (let block = map.states.indexOf(state); block >= 0;) {
    bits.writeUInt8(bits.readUInt8(block >> 3) | (1 << (block & 7)), block >> 3);
    block = map.states.indexOf(state, block + 1);
  }
  return bits;
}

/**
 * Magic (8), block size (4), zero (4), disk size (8), boot (16), bytes that came, of four kinds
 * (8 each), number of partial ranges (8); the stale blocks' bits, those of zeroes among them; the
 * ranges; CRC-32 of everything before (4).
 */
export function encodeSnapshot({ map, bootId, arrivals }: Snapshot): Buffer {
  const head = Buffer.alloc(HEAD_BYTES);
  MAGIC.copy(head);
  head.writeUInt32BE(BLOCK_BYTES, 8);
  head.writeBigUInt64BE(BigInt(map.sizeBytes), 16);
  Buffer.from(bootId.replaceAll("-", ""), "hex").copy(head, 24, 0, 16);
  ARRIVAL_KINDS.forEach((kind, at) => head.writeBigUInt64BE(BigInt(arrivals[kind]), 40 + 8 * at));
  const partials = map.partials();
  head.writeBigUInt64BE(BigInt(partials.length), 72);
  const ranges = Buffer.alloc(partials.length * RANGE_BYTES);
  partials.forEach(({ offset, length }, at) => {
    ranges.writeBigUInt64BE(BigInt(offset), at * RANGE_BYTES);
    ranges.writeBigUInt64BE(BigInt(length), at * RANGE_BYTES + 8);
  });
  const body = Buffer.concat([head, bitsOf(map, STALE), bitsOf(map, STALE_ZERO), ranges]);
  const crc = Buffer.alloc(CRC_BYTES);
  crc.writeUInt32BE(crc32(body));
  return Buffer.concat([body, crc]);
}

/** The CRC of what a snapshot or a record ends with: the seed of the next record's. */
export function seedOf(snapshot: Buffer): number {
  return snapshot.readUInt32BE(snapshot.length - CRC_BYTES);
}

/** One record, chained to the one before: CRC-32 (4), kind (4), two numbers (8 each). */
export function encodeRecord(record: MapRecord, seed: number): { bytes: Buffer; seed: number } {
  const bytes = Buffer.alloc(RECORD_BYTES);
  bytes.writeUInt32BE(RECORD[record.kind], 4);
  const [first, second] =
    record.kind === "commit"
      ? [record.coveredBytes, 0]
      : [record.range.offset, record.range.length];
  bytes.writeBigUInt64BE(BigInt(first), 8);
  bytes.writeBigUInt64BE(BigInt(second), 16);
  const crc = crc32(bytes.subarray(4), seed);
  bytes.writeUInt32BE(crc, 0);
  return { bytes, seed: crc };
}

interface Decoded extends Snapshot {
  /** In order, up to the first that is not whole. */
  readonly records: readonly MapRecord[];
}

function readNumber(bytes: Buffer, at: number): number {
  return Number(bytes.readBigUInt64BE(at));
}

function uuidOf(hex: string): string {
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** Checks every size against the file's before anything is made of it. */
function lengthsOf(bytes: Buffer, path: string, sizeBytes: number) {
  if (bytes.length < HEAD_BYTES || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw invalid(path, "it is not one");
  }
  const other = bytes.readUInt32BE(8) !== BLOCK_BYTES || readNumber(bytes, 16) !== sizeBytes;
  if (other) throw invalid(path, "it is of another disk");
  const bitBytes = Math.ceil(Math.ceil(sizeBytes / BLOCK_BYTES) / 8);
  const partials = readNumber(bytes, 72);
  const snapshotBytes = HEAD_BYTES + 2 * bitBytes + partials * RANGE_BYTES + CRC_BYTES;
  if (snapshotBytes > bytes.length) throw invalid(path, "it is cut short");
  return { bitBytes, partials, snapshotBytes };
}

function statesOf(bytes: Buffer, bitBytes: number, sizeBytes: number): Uint8Array {
  const states = new Uint8Array(Math.ceil(sizeBytes / BLOCK_BYTES));
  const bit = (at: number, block: number): boolean =>
    ((bytes[at + (block >> 3)] ?? 0) & (1 << (block & 7))) !== 0;
  for (let block = 0; block < states.length; block += 1) {
    if (bit(HEAD_BYTES, block)) states[block] = STALE;
    else states[block] = bit(HEAD_BYTES + bitBytes, block) ? STALE_ZERO : LOCAL;
  }
  return states;
}

/** @throws `userdata.map-invalid` (corrupt) */
export function decodeMapFile(bytes: Buffer, path: string, sizeBytes: number): Decoded {
  const { bitBytes, partials, snapshotBytes } = lengthsOf(bytes, path, sizeBytes);
  const crcAt = snapshotBytes - CRC_BYTES;
  if (crc32(bytes.subarray(0, crcAt)) !== bytes.readUInt32BE(crcAt)) {
    throw invalid(path, "its checksum does not match");
  }
  const map = new BlockMap(sizeBytes, statesOf(bytes, bitBytes, sizeBytes));
  for (let at = 0; at < partials; at += 1) {
    const position = HEAD_BYTES + 2 * bitBytes + at * RANGE_BYTES;
    map.markLocal(checkedRange(bytes, position, path, sizeBytes));
  }
  const arrivals = Object.fromEntries(
    ARRIVAL_KINDS.map((kind, at) => [kind, readNumber(bytes, 40 + 8 * at)]),
  ) as Arrivals;
  const records = readRecords(bytes, snapshotBytes, path, sizeBytes);
  return { map, bootId: uuidOf(bytes.toString("hex", 24, 40)), arrivals, records };
}

function checkedRange(bytes: Buffer, at: number, path: string, sizeBytes: number): ByteRange {
  const [offset, length] = [readNumber(bytes, at), readNumber(bytes, at + 8)];
  if (offset + length > sizeBytes) throw invalid(path, "a range is not of the disk");
  return { offset, length };
}

function readRecords(bytes: Buffer, from: number, path: string, sizeBytes: number): MapRecord[] {
  const records: MapRecord[] = [];
  let seed = bytes.readUInt32BE(from - CRC_BYTES);
  for (let at = from; at + RECORD_BYTES <= bytes.length; at += RECORD_BYTES) {
    const crc = bytes.readUInt32BE(at);
    if (crc32(bytes.subarray(at + 4, at + RECORD_BYTES), seed) !== crc) break;
    seed = crc;
    const number = bytes.readUInt32BE(at + 4);
    const kind = ARRIVAL_KINDS.find((name) => RECORD[name] === number);
    if (kind !== undefined) {
      records.push({ kind, range: checkedRange(bytes, at + 8, path, sizeBytes) });
    } else if (number === RECORD.commit) {
      records.push({ kind: "commit", coveredBytes: readNumber(bytes, at + 8) });
    } else throw invalid(path, "it has records of an unknown kind");
  }
  return records;
}

/**
 * The records that count. In the boot in which they were written, all: what a process wrote is there
 * even if it was killed. After another boot, those that a commit covers: of the others the record may
 * have survived and the data not.
 */
export function recordsThatCount(
  records: readonly MapRecord[],
  sameBoot: boolean,
): readonly Exclude<MapRecord, { kind: "commit" }>[] {
  const commit = records.findLast(({ kind }) => kind === "commit");
  const covered = commit?.kind === "commit" ? commit.coveredBytes / RECORD_BYTES : 0;
  const counting = sameBoot ? records : records.slice(0, covered);
  return counting.flatMap((record) => (record.kind === "commit" ? [] : [record]));
}

/** Most bytes that a map file of a disk may have. */
export function mapBytesMax(sizeBytes: number): number {
  const bitBytes = Math.ceil(Math.ceil(sizeBytes / BLOCK_BYTES) / 8);
  return 2 ** 28 + 8 * bitBytes;
}
