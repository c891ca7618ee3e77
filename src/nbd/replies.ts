/** Replies of the transmission phase, as the server writes them. */
import type { Descriptor } from "./extents.ts";
import {
  CHUNK,
  CHUNK_BYTES,
  CHUNK_MAGIC,
  DONE,
  SIMPLE_BYTES,
  SIMPLE_MAGIC,
  STRING_BYTES_MAX,
} from "./protocol.ts";

/** What a reply must carry of its request. */
export interface Cookie {
  readonly cookieHigh: number;
  readonly cookieLow: number;
}

/** The head of a chunk of data: header and offset. */
export const DATA_HEAD_BYTES = CHUNK_BYTES + 8;

export function writeSimple(target: Buffer, at: number, cookie: Cookie, errno: number): void {
  target.writeUInt32BE(SIMPLE_MAGIC, at);
  target.writeUInt32BE(errno, at + 4);
  target.writeUInt32BE(cookie.cookieHigh, at + 8);
  target.writeUInt32BE(cookie.cookieLow, at + 12);
}

export function encodeSimple(cookie: Cookie, errno: number): Buffer {
  const bytes = Buffer.allocUnsafe(SIMPLE_BYTES);
  writeSimple(bytes, 0, cookie, errno);
  return bytes;
}

function writeChunkHead(
  target: Buffer,
  at: number,
  cookie: Cookie,
  chunk: { readonly type: number; readonly last: boolean; readonly length: number },
): void {
  target.writeUInt32BE(CHUNK_MAGIC, at);
  target.writeUInt16BE(chunk.last ? DONE : 0, at + 4);
  target.writeUInt16BE(chunk.type, at + 6);
  target.writeUInt32BE(cookie.cookieHigh, at + 8);
  target.writeUInt32BE(cookie.cookieLow, at + 12);
  target.writeUInt32BE(chunk.length, at + 16);
}

function writeOffset(target: Buffer, at: number, offset: number): void {
  target.writeUInt32BE(Math.floor(offset / 2 ** 32), at);
  target.writeUInt32BE(offset % 2 ** 32, at + 4);
}

/** A run of bytes of the export, and whether its chunk is the last of the reply. */
export interface Part {
  readonly offset: number;
  readonly length: number;
  readonly last: boolean;
}

/** The {@link DATA_HEAD_BYTES} before the bytes themselves. */
export function writeDataHead(target: Buffer, at: number, cookie: Cookie, part: Part): void {
  const { last, length, offset } = part;
  writeChunkHead(target, at, cookie, { type: CHUNK.OFFSET_DATA, last, length: 8 + length });
  writeOffset(target, at + CHUNK_BYTES, offset);
}

/** The bytes of a chunk that says: zeroes. */
export const HOLE_BYTES = CHUNK_BYTES + 12;

export function writeHole(target: Buffer, at: number, cookie: Cookie, part: Part): void {
  writeChunkHead(target, at, cookie, { type: CHUNK.OFFSET_HOLE, last: part.last, length: 12 });
  writeOffset(target, at + CHUNK_BYTES, part.offset);
  target.writeUInt32BE(part.length, at + CHUNK_BYTES + 8);
}

/** The last chunk of a reply that went wrong. */
export function encodeError(cookie: Cookie, errno: number, message: string): Buffer {
  const text = Buffer.from(message).subarray(0, STRING_BYTES_MAX);
  const bytes = Buffer.alloc(CHUNK_BYTES + 6 + text.length);
  writeChunkHead(bytes, 0, cookie, { type: CHUNK.ERROR, last: true, length: 6 + text.length });
  bytes.writeUInt32BE(errno, CHUNK_BYTES);
  bytes.writeUInt16BE(text.length, CHUNK_BYTES + 4);
  bytes.set(text, CHUNK_BYTES + 6);
  return bytes;
}

/** The one chunk of a reply to BLOCK_STATUS. */
export function encodeStatus(
  cookie: Cookie,
  context: number,
  descriptors: readonly Descriptor[],
): Buffer {
  const length = 4 + 8 * descriptors.length;
  const bytes = Buffer.allocUnsafe(CHUNK_BYTES + length);
  writeChunkHead(bytes, 0, cookie, { type: CHUNK.BLOCK_STATUS, last: true, length });
  bytes.writeUInt32BE(context, CHUNK_BYTES);
  descriptors.forEach((one, at) => {
    bytes.writeUInt32BE(one.length, CHUNK_BYTES + 4 + 8 * at);
    bytes.writeUInt32BE(one.flags, CHUNK_BYTES + 8 + 8 * at);
  });
  return bytes;
}
