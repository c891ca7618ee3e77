/** Requests of the transmission phase. */
import { violation } from "./errors.ts";
import {
  COMMAND,
  ERRNO,
  FLAG,
  PAYLOAD_BYTES_MAX,
  REQUEST_BYTES,
  REQUEST_MAGIC,
} from "./protocol.ts";

export interface Request {
  readonly flags: number;
  readonly type: number;
  /** What the reply must carry, as two numbers of 32 bits. */
  readonly cookieHigh: number;
  readonly cookieLow: number;
  /** Imprecise above 2^53, where no device reaches. */
  readonly offset: number;
  readonly length: number;
}

export function encodeRequest(request: Request, target: Buffer, at = 0): void {
  target.writeUInt32BE(REQUEST_MAGIC, at);
  target.writeUInt16BE(request.flags, at + 4);
  target.writeUInt16BE(request.type, at + 6);
  target.writeUInt32BE(request.cookieHigh, at + 8);
  target.writeUInt32BE(request.cookieLow, at + 12);
  target.writeUInt32BE(Math.floor(request.offset / 2 ** 32), at + 16);
  target.writeUInt32BE(request.offset % 2 ** 32, at + 20);
  target.writeUInt32BE(request.length, at + 24);
}

/** @throws `nbd.protocol-violation` */
function decodeRequest(bytes: Buffer, at: number): Request {
  if (bytes.readUInt32BE(at) !== REQUEST_MAGIC) throw violation("a request has another magic");
  return {
    flags: bytes.readUInt16BE(at + 4),
    type: bytes.readUInt16BE(at + 6),
    cookieHigh: bytes.readUInt32BE(at + 8),
    cookieLow: bytes.readUInt32BE(at + 12),
    offset: bytes.readUInt32BE(at + 16) * 2 ** 32 + bytes.readUInt32BE(at + 20),
    length: bytes.readUInt32BE(at + 24),
  };
}

const NOTHING = Buffer.alloc(0);

/**
 * Cuts what a client sends into requests, and the payloads of writes into pieces as they come. It
 * keeps at most one header; payloads are views of the chunk. The next chunk may be given when the
 * one before is used up: when `next` found nothing or `payload` gave less than was asked for.
 */
export class RequestDecoder {
  readonly #header = Buffer.alloc(REQUEST_BYTES);
  #filled = 0;
  #chunk: Buffer = NOTHING;
  #at = 0;

  push(chunk: Buffer): void {
    if (this.#at < this.#chunk.length) throw new Error("the chunk before is not used up");
    this.#chunk = chunk;
    this.#at = 0;
  }

  /** The next header; undefined while it is not whole. @throws `nbd.protocol-violation` */
  next(): Request | undefined {
    const rest = this.#chunk.length - this.#at;
    if (this.#filled === 0 && rest >= REQUEST_BYTES) {
      const request = decodeRequest(this.#chunk, this.#at);
      this.#at += REQUEST_BYTES;
      return request;
    }
    const taken = Math.min(REQUEST_BYTES - this.#filled, rest);
    this.#chunk.copy(this.#header, this.#filled, this.#at, this.#at + taken);
    this.#filled += taken;
    this.#at += taken;
    if (this.#filled < REQUEST_BYTES) return undefined;
    this.#filled = 0;
    return decodeRequest(this.#header, 0);
  }

  /** The bytes that are there of a payload, at most `bytesMax`, perhaps none. */
  payload(bytesMax: number): Buffer {
    const bytes = this.#chunk.subarray(this.#at, this.#at + bytesMax);
    this.#at += bytes.length;
    return bytes;
  }
}

/** What an export lets clients do. */
export interface Rules {
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** Whether BLOCK_STATUS was negotiated. */
  readonly status: boolean;
}

/** Why a request is refused. */
export interface Refusal {
  readonly errno: number;
  readonly message: string;
}

/** A longest chunk that is not cut, of a read that must not be. */
export const UNCUT_BYTES_MAX = 2 ** 20;

const FLAGS: Readonly<Record<number, number>> = {
  [COMMAND.READ]: FLAG.DF,
  [COMMAND.WRITE]: 0,
  [COMMAND.DISC]: 0,
  [COMMAND.FLUSH]: 0,
  [COMMAND.TRIM]: 0,
  [COMMAND.CACHE]: 0,
  [COMMAND.WRITE_ZEROES]: FLAG.NO_HOLE | FLAG.FAST_ZERO,
  [COMMAND.BLOCK_STATUS]: FLAG.REQ_ONE,
};

function changes(type: number): boolean {
  return type === COMMAND.WRITE || type === COMMAND.TRIM || type === COMMAND.WRITE_ZEROES;
}

function invalid(message: string, errno: number = ERRNO.EINVAL): Refusal {
  return { errno, message };
}

function tooLarge({ type, flags, length }: Request): boolean {
  if (type !== COMMAND.READ) return false;
  return length > ((flags & FLAG.DF) === 0 ? PAYLOAD_BYTES_MAX : UNCUT_BYTES_MAX);
}

/**
 * Why this request cannot be served, with the error that the protocol has for it; undefined when it
 * can.
 *
 * @throws `nbd.protocol-violation` for a write of more than 32 MiB: its payload will not be read
 */
export function refusalOf(request: Request, rules: Rules): Refusal | undefined {
  const { type, flags, offset, length } = request;
  const known = FLAGS[type];
  if (type === COMMAND.WRITE && length > PAYLOAD_BYTES_MAX) {
    throw violation(`a write of ${length} bytes`);
  }
  if (known === undefined) return invalid(`command ${type} is not known here`);
  if ((flags & ~(known | FLAG.FUA)) !== 0) return invalid(`command ${type} with flags ${flags}`);
  if (type === COMMAND.FLUSH || type === COMMAND.DISC) return undefined;
  if (rules.readOnly && changes(type)) return invalid("the export is read-only", ERRNO.EPERM);
  if (offset + length > rules.sizeBytes) {
    const full = type === COMMAND.WRITE || type === COMMAND.WRITE_ZEROES;
    const message = `${length} bytes at ${offset} exceed the export`;
    return invalid(message, full ? ERRNO.ENOSPC : ERRNO.EINVAL);
  }
  if (length === 0 && !changes(type)) return invalid("a request of no bytes");
  if (type === COMMAND.BLOCK_STATUS && !rules.status) {
    return invalid("no metadata context was chosen");
  }
  return tooLarge(request) ? invalid("too long a read", ERRNO.EOVERFLOW) : undefined;
}
