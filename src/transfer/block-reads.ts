/** The payloads of READ, CANCEL and DATA: see doc/data-protocol.md, "Reads of blocks". */
import type { ByteRange } from "#core";
import { violation } from "./errors.ts";
import type { Frame } from "./frame.ts";
import { RAW_BYTES_MAX } from "./protocol.ts";

const ID_BYTES = 4;
const READ_BYTES = 16;
const DIGEST_BYTES = 32;

/** One read of a receiver; `id` names it until it has been answered. */
export interface BlockRead extends ByteRange {
  readonly id: number;
  /** sha256 of what the receiver has of the range, where it has something. */
  readonly known?: Uint8Array;
}

export function encodeRead({ id, offset, length, known }: BlockRead): Buffer {
  const payload = Buffer.allocUnsafe(READ_BYTES);
  payload.writeUInt32BE(id, 0);
  payload.writeBigUInt64BE(BigInt(offset), 4);
  payload.writeUInt32BE(length, 12);
  return known === undefined ? payload : Buffer.concat([payload, known]);
}

/**
 * @throws `transfer.protocol-violation` for no bytes, more than 1 MiB, an end above 2^53 - 1, or what
 *   is no digest
 */
export function decodeRead({ payload }: Frame): BlockRead {
  const id = payload.readUInt32BE(0);
  const offset = Number(payload.readBigUInt64BE(4));
  const length = payload.readUInt32BE(12);
  if (length === 0 || length > RAW_BYTES_MAX) throw violation(`a READ of ${length} bytes`);
  if (!Number.isSafeInteger(offset + length)) throw violation("a number is above 2^53 - 1");
  if (payload.length === READ_BYTES) return { id, offset, length };
  if (payload.length !== READ_BYTES + DIGEST_BYTES) throw violation("a READ with half a digest");
  return { id, offset, length, known: payload.subarray(READ_BYTES) };
}

/** Of CANCEL, and what DATA begins with. */
export function encodeReadId(id: number): Buffer {
  const payload = Buffer.allocUnsafe(ID_BYTES);
  payload.writeUInt32BE(id, 0);
  return payload;
}

export function decodeReadId({ payload }: Frame): number {
  return payload.readUInt32BE(0);
}

/** Undefined: the range is all zeroes. */
export function decodeData({ payload }: Frame): Buffer | undefined {
  return payload.length === ID_BYTES ? undefined : payload.subarray(ID_BYTES);
}
