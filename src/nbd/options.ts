/** The messages of the handshake: options of the client, replies of the server. */
import { violation } from "./errors.ts";
import {
  OPTION_BYTES_MAX,
  OPTION_HEADER_BYTES,
  OPTION_MAGIC,
  OPTION_REPLY_HEADER_BYTES,
  OPTION_REPLY_MAGIC,
  REPLY,
  STRING_BYTES_MAX,
} from "./protocol.ts";

export interface Option {
  readonly option: number;
  readonly data: Buffer;
}

/** The data of INFO and GO. */
export interface ExportQuery {
  readonly name: string;
  /** Types of information asked for. */
  readonly items: readonly number[];
}

/** The data of LIST_META_CONTEXT and SET_META_CONTEXT. */
export interface ContextQuery {
  readonly name: string;
  readonly queries: readonly string[];
}

export interface OptionReply {
  readonly option: number;
  readonly type: number;
  readonly data: Buffer;
}

const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export function encodeOption(option: number, data: Uint8Array = new Uint8Array(0)): Buffer {
  const bytes = Buffer.alloc(OPTION_HEADER_BYTES + data.length);
  bytes.writeBigUInt64BE(OPTION_MAGIC, 0);
  bytes.writeUInt32BE(option, 8);
  bytes.writeUInt32BE(data.length, 12);
  bytes.set(data, OPTION_HEADER_BYTES);
  return bytes;
}

/** The length of the data that follows a header. @throws `nbd.protocol-violation` */
export function optionLength(header: Buffer): number {
  if (header.readBigUInt64BE(0) !== OPTION_MAGIC) throw violation("an option has another magic");
  const length = header.readUInt32BE(12);
  if (length > OPTION_BYTES_MAX) throw violation(`an option has ${length} bytes`);
  return length;
}

export function encodeOptionReply(option: number, type: number, data: Uint8Array = EMPTY): Buffer {
  const bytes = Buffer.alloc(OPTION_REPLY_HEADER_BYTES + data.length);
  bytes.writeBigUInt64BE(OPTION_REPLY_MAGIC, 0);
  bytes.writeUInt32BE(option, 8);
  bytes.writeUInt32BE(type, 12);
  bytes.writeUInt32BE(data.length, 16);
  bytes.set(data, OPTION_REPLY_HEADER_BYTES);
  return bytes;
}

const EMPTY = new Uint8Array(0);

export interface OptionReplyHeader {
  readonly option: number;
  readonly type: number;
  readonly length: number;
}

/** @throws `nbd.protocol-violation` */
export function decodeOptionReplyHeader(header: Buffer): OptionReplyHeader {
  if (header.readBigUInt64BE(0) !== OPTION_REPLY_MAGIC) {
    throw violation("a reply to an option has another magic");
  }
  const length = header.readUInt32BE(16);
  if (length > OPTION_BYTES_MAX) throw violation(`a reply to an option has ${length} bytes`);
  return { option: header.readUInt32BE(8), type: header.readUInt32BE(12), length };
}

/** True for the types that tell of an error. */
export function isErrorReply(type: number): boolean {
  return type >= REPLY.ERROR;
}

function string(bytes: Buffer, what: string): string {
  if (bytes.length > STRING_BYTES_MAX) throw violation(`${what} has ${bytes.length} bytes`);
  try {
    return UTF8.decode(bytes);
  } catch {
    throw violation(`${what} is not UTF-8`);
  }
}

/** A name that is all of an option's data. @throws `nbd.protocol-violation` */
export function decodeName(data: Buffer): string {
  return string(data, "a name");
}

/** Reads pieces from the front and says by an error when there are too few bytes. */
class Cursor {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  take(length: number): Buffer {
    const bytes = this.#bytes.subarray(this.#at, this.#at + length);
    if (bytes.length < length) throw violation("the data of a message end early");
    this.#at += length;
    return bytes;
  }

  string(what: string): string {
    return string(this.take(this.take(4).readUInt32BE(0)), what);
  }

  end(): void {
    if (this.#at !== this.#bytes.length) throw violation("the data of a message are too long");
  }
}

/** @throws `nbd.protocol-violation` */
export function decodeExportQuery(data: Buffer): ExportQuery {
  const cursor = new Cursor(data);
  const name = cursor.string("the name of an export");
  const count = cursor.take(2).readUInt16BE(0);
  const bytes = cursor.take(2 * count);
  cursor.end();
  return { name, items: Array.from({ length: count }, (_, at) => bytes.readUInt16BE(2 * at)) };
}

export function encodeExportQuery({ name, items }: ExportQuery): Buffer {
  const text = Buffer.from(name);
  const bytes = Buffer.alloc(4 + text.length + 2 + 2 * items.length);
  bytes.writeUInt32BE(text.length, 0);
  bytes.set(text, 4);
  bytes.writeUInt16BE(items.length, 4 + text.length);
  items.forEach((item, at) => bytes.writeUInt16BE(item, 6 + text.length + 2 * at));
  return bytes;
}

/** @throws `nbd.protocol-violation` */
export function decodeContextQuery(data: Buffer): ContextQuery {
  const cursor = new Cursor(data);
  const name = cursor.string("the name of an export");
  const count = cursor.take(4).readUInt32BE(0);
  if (count > data.length / 4) throw violation(`${count} queries do not fit their message`);
  const queries = Array.from({ length: count }, () => cursor.string("a query"));
  cursor.end();
  return { name, queries };
}

function lengthAndText(text: string): Buffer {
  const bytes = Buffer.from(text);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length, 0);
  return Buffer.concat([length, bytes]);
}

export function encodeContextQuery({ name, queries }: ContextQuery): Buffer {
  const count = Buffer.alloc(4);
  count.writeUInt32BE(queries.length, 0);
  return Buffer.concat([lengthAndText(name), count, ...queries.map(lengthAndText)]);
}

/** The data of REP_SERVER. */
export function encodeServerEntry(name: string, description: string): Buffer {
  return Buffer.concat([lengthAndText(name), Buffer.from(description)]);
}

/** What a client must know of an export. */
export interface ExportFacts {
  readonly sizeBytes: number;
  /** Transmission flags. */
  readonly flags: number;
}

/** The end of EXPORT_NAME, without the zeroes; in INFO_EXPORT it follows the type. */
export function encodeExportFacts({ sizeBytes, flags }: ExportFacts): Buffer {
  const bytes = Buffer.alloc(10);
  bytes.writeBigUInt64BE(BigInt(sizeBytes), 0);
  bytes.writeUInt16BE(flags, 8);
  return bytes;
}

/** @throws `nbd.protocol-violation` for another length, and for a size above 2^53 - 1 */
export function decodeExportFacts(data: Buffer): ExportFacts {
  if (data.length !== 10) throw violation("the facts about an export have another length");
  const size = data.readBigUInt64BE(0);
  if (size > BigInt(Number.MAX_SAFE_INTEGER)) throw violation(`an export has ${size} bytes`);
  return { sizeBytes: Number(size), flags: data.readUInt16BE(8) };
}

/** INFO_BLOCK_SIZE ("Size constraints"). */
export interface SizeConstraints {
  readonly minimumBytes: number;
  readonly preferredBytes: number;
  readonly payloadBytesMax: number;
}

export function encodeSizeConstraints(sizes: SizeConstraints): Buffer {
  const bytes = Buffer.alloc(12);
  bytes.writeUInt32BE(sizes.minimumBytes, 0);
  bytes.writeUInt32BE(sizes.preferredBytes, 4);
  bytes.writeUInt32BE(sizes.payloadBytesMax, 8);
  return bytes;
}

const isPowerOfTwo = (value: number): boolean => value > 0 && Number.isInteger(Math.log2(value));

/** @throws `nbd.protocol-violation` for sizes that the protocol excludes */
export function decodeSizeConstraints(data: Buffer): SizeConstraints {
  if (data.length !== 12) throw violation("size constraints have another length");
  const minimumBytes = data.readUInt32BE(0);
  const preferredBytes = data.readUInt32BE(4);
  const payloadBytesMax = data.readUInt32BE(8);
  const fits =
    isPowerOfTwo(minimumBytes) && minimumBytes <= 65_536 && payloadBytesMax >= minimumBytes;
  if (!fits) throw violation(`size constraints ${minimumBytes}, ${payloadBytesMax} cannot be`);
  return { minimumBytes, preferredBytes, payloadBytesMax };
}

/** The data of REP_INFO: a type and what it says. */
export function encodeInfo(type: number, data: Uint8Array): Buffer {
  const head = Buffer.alloc(2);
  head.writeUInt16BE(type, 0);
  return Buffer.concat([head, data]);
}

/** @throws `nbd.protocol-violation` */
export function decodeInfo(data: Buffer): { readonly type: number; readonly data: Buffer } {
  if (data.length < 2) throw violation("information about an export has no type");
  return { type: data.readUInt16BE(0), data: data.subarray(2) };
}

/** A metadata context that was chosen. */
export interface Context {
  readonly id: number;
  readonly name: string;
}

/** The data of REP_META_CONTEXT. */
export function encodeContext({ id, name }: Context): Buffer {
  const head = Buffer.alloc(4);
  head.writeUInt32BE(id, 0);
  return Buffer.concat([head, Buffer.from(name)]);
}

/** @throws `nbd.protocol-violation` */
export function decodeContext(data: Buffer): Context {
  if (data.length < 4) throw violation("a metadata context has no number");
  return { id: data.readUInt32BE(0), name: string(data.subarray(4), "a metadata context") };
}
