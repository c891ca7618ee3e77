/** The client's side of the transmission phase: what a server sends, cut into replies. */
import { violation } from "./errors.ts";
import type { Descriptor } from "./extents.ts";
import {
  CHUNK,
  CHUNK_BYTES,
  CHUNK_MAGIC,
  COMMAND,
  DONE,
  EXTENTS_MAX,
  SIMPLE_BYTES,
  SIMPLE_MAGIC,
} from "./protocol.ts";
import type { Cookie } from "./replies.ts";

/** A request that waits for its reply. */
export interface Pending {
  readonly type: number;
  readonly offset: number;
  readonly length: number;
  /** Where the bytes of a read go; of the read's length. */
  readonly target?: Uint8Array;
  /** The metadata context that a status query is about. */
  readonly context?: number;
}

/** How a request ended. `errno` 0 is success. */
export interface Outcome {
  readonly errno: number;
  readonly message: string;
  readonly descriptors: readonly Descriptor[];
}

interface Begun {
  readonly pending: Pending;
  /** Bytes of a read that came, zeroes included. */
  bytes: number;
  errno: number;
  message: string;
  descriptors: readonly Descriptor[];
}

interface Chunk {
  readonly begun: Begun;
  readonly cookie: Cookie;
  readonly type: number;
  readonly isLast: boolean;
  readonly length: number;
}

export interface ReplyHandler {
  /** The request with this cookie; undefined when none waits. */
  find(cookie: Cookie): Pending | undefined;
  /** The request has its reply and waits no more. */
  done(cookie: Cookie, outcome: Outcome): void;
}

/** Errors need little; more is not worth reading. */
const ERROR_BYTES_MAX = 65_536;
const STATUS_BYTES_MAX = 4 + 8 * EXTENTS_MAX;
const OFFSET_BYTES = 8;

type Stage = "head" | "chunk-head" | "offset" | "payload";

/**
 * Bytes of reads go straight to where they are wanted; all else is gathered, within bounds that are
 * checked before anything is allocated. That chunks of a read do not overlap is not checked beyond
 * their sum: a server that wants to lie about content can do so anyway.
 */
export class ReplyDecoder {
  readonly #handler: ReplyHandler;
  readonly #structured: boolean;
  readonly #head = Buffer.alloc(CHUNK_BYTES + OFFSET_BYTES);
  /** Replies of which some chunks came, by cookie. */
  readonly #begun = new Map<number, Begun>();
  #stage: Stage = "head";
  #gathered: Buffer = this.#head;
  #filled = 0;
  #wanted = SIMPLE_BYTES;
  #chunk: Chunk | undefined;
  /** Where the bytes of a read go that are coming, and how many are left. */
  #target: Uint8Array = new Uint8Array(0);
  #left = 0;

  constructor(structured: boolean, handler: ReplyHandler) {
    this.#structured = structured;
    this.#handler = handler;
  }

  /** @throws `nbd.protocol-violation`: the connection must end; nothing may be pushed after it */
  push(chunk: Buffer): void {
    for (let at = 0; at < chunk.length;) {
      if (this.#left > 0) {
        const bytes = chunk.subarray(at, at + this.#left);
        this.#target.set(bytes, this.#target.length - this.#left);
        this.#left -= bytes.length;
        at += bytes.length;
        if (this.#left === 0) this.#endChunk();
        continue;
      }
      const taken = Math.min(this.#wanted - this.#filled, chunk.length - at);
      chunk.copy(this.#gathered, this.#filled, at, at + taken);
      this.#filled += taken;
      at += taken;
      if (this.#filled === this.#wanted) this.#complete();
    }
  }

  #complete(): void {
    if (this.#stage === "head") this.#takeHead();
    else if (this.#stage === "chunk-head") this.#takeChunkHead();
    else if (this.#stage === "offset") this.#takeOffset();
    else this.#takePayload(this.#gathered.subarray(0, this.#wanted));
  }

  #expect(stage: Stage, wanted: number): void {
    this.#stage = stage;
    this.#wanted = wanted;
  }

  #restart(): void {
    this.#chunk = undefined;
    this.#gathered = this.#head;
    this.#filled = 0;
    this.#expect("head", SIMPLE_BYTES);
  }

  #takeHead(): void {
    const magic = this.#head.readUInt32BE(0);
    if (magic === CHUNK_MAGIC && this.#structured) this.#expect("chunk-head", CHUNK_BYTES);
    else if (magic === SIMPLE_MAGIC) this.#takeSimple();
    else throw violation("a reply has another magic");
  }

  #cookie(): Cookie {
    const cookieHigh = this.#head.readUInt32BE(8);
    return { cookieHigh, cookieLow: this.#head.readUInt32BE(12) };
  }

  #find(cookie: Cookie): Begun {
    const begun = this.#begun.get(cookie.cookieLow);
    if (begun !== undefined) return begun;
    const pending = this.#handler.find(cookie);
    if (pending === undefined) throw violation("a reply to no request");
    const fresh = { pending, bytes: 0, errno: 0, message: "", descriptors: [] };
    this.#begun.set(cookie.cookieLow, fresh);
    return fresh;
  }

  #takeSimple(): void {
    const errno = this.#head.readUInt32BE(4);
    const cookie = this.#cookie();
    const begun = this.#find(cookie);
    const { type, length } = begun.pending;
    if (begun.bytes > 0) throw violation("a simple reply to what is half answered");
    begun.errno = errno;
    const hasData = type === COMMAND.READ && errno === 0;
    if (this.#structured && (type === COMMAND.READ || type === COMMAND.BLOCK_STATUS)) {
      throw violation("a simple reply to a request whose reply has a payload");
    }
    this.#chunk = { begun, cookie, type: CHUNK.NONE, isLast: true, length: 0 };
    if (hasData) this.#expectData(begun, 0, length);
    else this.#endChunk();
  }

  #takeChunkHead(): void {
    const cookie = this.#cookie();
    const begun = this.#find(cookie);
    const type = this.#head.readUInt16BE(6);
    const length = this.#head.readUInt32BE(16);
    const isLast = (this.#head.readUInt16BE(4) & DONE) !== 0;
    this.#chunk = { begun, cookie, type, isLast, length };
    checkChunk(this.#chunk);
    if (type === CHUNK.NONE) this.#endChunk();
    else if (type === CHUNK.OFFSET_DATA) this.#expect("offset", CHUNK_BYTES + OFFSET_BYTES);
    else {
      this.#gathered = Buffer.allocUnsafe(length);
      this.#filled = 0;
      this.#expect("payload", length);
    }
  }

  #takeOffset(): void {
    const { begun, length } = this.#current();
    const at = readOffset(this.#head, CHUNK_BYTES) - begun.pending.offset;
    this.#expectData(begun, at, length - OFFSET_BYTES);
  }

  #current(): Chunk {
    if (this.#chunk === undefined) throw new Error("no chunk is being read");
    return this.#chunk;
  }

  /** So many bytes of a read come next; they begin at `at` within it. */
  #expectData(begun: Begun, at: number, length: number): void {
    this.#target = placeOf(begun, at, length);
    this.#left = length;
    if (length === 0) this.#endChunk();
  }

  #takePayload(payload: Buffer): void {
    const { begun, type } = this.#current();
    if (type === CHUNK.OFFSET_HOLE) {
      const at = readOffset(payload, 0) - begun.pending.offset;
      placeOf(begun, at, payload.readUInt32BE(8)).fill(0);
    } else if (type === CHUNK.BLOCK_STATUS) takeStatus(begun, payload);
    else takeError(begun, payload);
    this.#endChunk();
  }

  #endChunk(): void {
    const { begun, cookie, isLast } = this.#current();
    this.#restart();
    if (!isLast) return;
    this.#begun.delete(cookie.cookieLow);
    checkWhole(begun);
    const { errno, message, descriptors } = begun;
    this.#handler.done(cookie, { errno, message, descriptors });
  }
}

/** Imprecise above 2^53, where no request reaches. */
function readOffset(bytes: Buffer, at: number): number {
  return bytes.readUInt32BE(at) * 2 ** 32 + bytes.readUInt32BE(at + 4);
}

/** The part of a read's target that a chunk describes. @throws `nbd.protocol-violation` */
function placeOf(begun: Begun, at: number, length: number): Uint8Array {
  const { target, length: whole } = begun.pending;
  begun.bytes += length;
  if (target === undefined || at < 0 || at + length > whole || begun.bytes > whole) {
    throw violation(`${length} bytes at ${at} of a read of ${whole}`);
  }
  return target.subarray(at, at + length);
}

function isError(type: number): boolean {
  return type >= 0x8000;
}

/** Does this type and length fit the request? @throws `nbd.protocol-violation` */
function checkChunk({ begun, type, length, isLast }: Chunk): void {
  const { pending } = begun;
  const isRead = pending.type === COMMAND.READ;
  const isStatus = pending.type === COMMAND.BLOCK_STATUS;
  const fits =
    (type === CHUNK.NONE && length === 0 && isLast) ||
    (type === CHUNK.OFFSET_DATA && isRead && length > OFFSET_BYTES) ||
    (type === CHUNK.OFFSET_HOLE && isRead && length === 12) ||
    (type === CHUNK.BLOCK_STATUS && isStatus && length >= 12 && length % 8 === 4) ||
    (isError(type) && length >= 6 && length <= ERROR_BYTES_MAX);
  if (fits && (length <= STATUS_BYTES_MAX || type === CHUNK.OFFSET_DATA)) return;
  throw violation(`a chunk of type ${type} and ${length} bytes for command ${pending.type}`);
}

function takeStatus(begun: Begun, payload: Buffer): void {
  if (payload.readUInt32BE(0) !== begun.pending.context) return;
  if (begun.descriptors.length > 0) throw violation("two replies about one metadata context");
  const count = (payload.length - 4) / 8;
  const descriptors = Array.from({ length: count }, (_, at) => ({
    length: payload.readUInt32BE(4 + 8 * at),
    flags: payload.readUInt32BE(8 + 8 * at),
  }));
  if (descriptors.some(({ length }) => length === 0)) throw violation("an extent of no bytes");
  begun.descriptors = descriptors;
}

function takeError(begun: Begun, payload: Buffer): void {
  const length = payload.readUInt16BE(4);
  if (6 + length > payload.length) throw violation("a message that exceeds its chunk");
  if (begun.errno !== 0) return;
  begun.errno = payload.readUInt32BE(0);
  begun.message = payload.toString("utf8", 6, 6 + length);
  if (begun.errno === 0) throw violation("an error without a number");
}

/** A reply of success says all that it must. @throws `nbd.protocol-violation` */
function checkWhole({ pending, bytes, errno, descriptors }: Begun): void {
  if (errno !== 0) return;
  if (pending.type === COMMAND.READ && bytes !== pending.length) {
    throw violation(`${bytes} bytes for a read of ${pending.length}`);
  }
  if (pending.type === COMMAND.BLOCK_STATUS && descriptors.length === 0) {
    throw violation("no extents for a metadata context that was chosen");
  }
}
