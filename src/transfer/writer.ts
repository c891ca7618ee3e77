import type { Clock } from "#core";
import type { Delivered, Delivery } from "./delivery.ts";
import { peerError } from "./errors.ts";
import { encodeFrame, encodeHeader } from "./frame.ts";
import type { RateLimiter } from "./limiter.ts";
import {
  FLAG_MORE,
  FRAGMENT_BYTES_MIN,
  HEADER_BYTES,
  SPLIT_TYPES,
  TYPE,
  type FrameType,
  type Priority,
} from "./protocol.ts";
import { Turns } from "./turns.ts";

/**
 * Bytes handed to the socket and not yet taken by the system, above which data wait: less than one
 * long write, since writes that wait together are copied into one.
 */
const PENDING_BYTES_MAX = 64 * 1024;
/** Data are handed over in such pieces: larger ones fall out of the processor's cache. */
const WRITE_BYTES_MAX = 128 * 1024;
/** Shorter pieces are joined, so that they share a TLS record. */
const JOINED_BYTES_MAX = 16 * 1024;
/** TLS 1.3: the longest record, and what is added to each (RFC 8446, 5.2). */
const RECORD_BYTES_MAX = 16 * 1024;
const RECORD_COST_BYTES = 22;
/** A peer that makes us answer but reads nothing must not fill our memory. */
const CONTROL_BYTES_MAX = 8 * 2 ** 20;

/** Where bytes go: a socket. Calls `written` when the system has them, or never will. */
interface Sink {
  write(bytes: Uint8Array, written?: () => void): boolean;
}

/** One frame of data to be sent: the payload in pieces, so that they need not be joined. */
export interface DataFrame {
  readonly type: FrameType;
  readonly flags: number;
  readonly stream: number;
  readonly parts: readonly Uint8Array[];
  readonly priority: Priority;
  /** Undefined: as fast as the link takes it. */
  readonly limiter?: RateLimiter | undefined;
  /** Called when nothing reads the parts any more. */
  readonly onFree?: (() => void) | undefined;
}

/** A frame on its way: how far it is, and who waits for it. */
interface Job extends DataFrame {
  readonly length: number;
  sentBytes: number;
  part: number;
  partAt: number;
  readonly done: PromiseWithResolvers<void>;
}

/** The next bytes of a job's payload, at most so many, without copying. */
function takeBytes(job: Job, bytes: number): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  for (let wanted = bytes; wanted > 0;) {
    const part = job.parts[job.part];
    if (part === undefined) break;
    const piece = part.subarray(job.partAt, job.partAt + wanted);
    if (piece.length > 0) pieces.push(piece);
    wanted -= piece.length;
    job.partAt += piece.length;
    job.sentBytes += piece.length;
    if (job.partAt < part.length) break;
    job.part += 1;
    job.partAt = 0;
  }
  return pieces;
}

function recordsOf(part: Uint8Array): number {
  return Math.ceil(part.length / RECORD_BYTES_MAX);
}

function totalOf(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, part) => sum + part.length, 0);
}

/**
 * Puts frames on a socket. Data wait for their turn by priority, for the limiter and until little
 * enough is under way; control goes between, as soon as no frame is in the middle.
 */
export class SocketWriter {
  readonly #clock: Clock;
  readonly #socket: Sink;
  readonly #signal: AbortSignal;
  readonly #delivery: Delivery;
  readonly #turns = new Turns<Job>();
  readonly #held: Uint8Array[] = [];
  #heldBytes = 0;
  /** The job whose fragment is not complete, and what the fragment lacks. */
  #current: Job | undefined;
  #lackingBytes = 0;
  #pumping = false;
  #pendingBytes = 0;
  #wake = (): void => undefined;
  /** Clock reading of the last write. */
  sent_ms: number;
  /** Bytes that were written, with what TLS adds to them. */
  wireBytes = 0;

  constructor(clock: Clock, socket: Sink, delivery: Delivery, signal: AbortSignal) {
    this.#clock = clock;
    this.#socket = socket;
    this.#delivery = delivery;
    this.#signal = signal;
    this.sent_ms = clock.monotonic();
    signal.addEventListener("abort", () => this.#abort(), { once: true });
  }

  /** A whole short frame; it waits only for the fragment under way. @throws `transfer.stalled` */
  control(frame: Uint8Array): void {
    if (this.#heldBytes + this.#pendingBytes > CONTROL_BYTES_MAX) {
      throw peerError("stalled", "the peer asks without reading the answers");
    }
    if (this.#current === undefined) {
      this.#write([frame]);
      return;
    }
    this.#held.push(frame);
    this.#heldBytes += frame.length;
  }

  /**
   * A frame of data. Frames of one stream go in the order of the calls. Resolves when the socket
   * has it. @throws the signal's reason
   */
  data(frame: DataFrame): Promise<void> {
    if (this.#signal.aborted) return Promise.reject(this.#signal.reason as Error);
    const done = Promise.withResolvers<void>();
    const length = totalOf(frame.parts);
    this.#turns.add({ ...frame, length, sentBytes: 0, part: 0, partAt: 0, done });
    if (!this.#pumping) void this.#pump();
    return done.promise;
  }

  /** A PONG has come. */
  pong(payload: Buffer): Delivered | undefined {
    const delivered = this.#delivery.pong(payload);
    this.#wake();
    return delivered;
  }

  /** Never rejects: every job learns of a failure by its own promise. */
  async #pump(): Promise<void> {
    this.#pumping = true;
    try {
      while (this.#current !== undefined || !this.#turns.empty) {
        while (!this.#hasRoom()) await this.#change();
        const limiter = this.#turns.next()?.limiter;
        if (this.#current === undefined && limiter !== undefined) await this.#limited(limiter);
        else this.#step();
      }
    } catch (cause) {
      for (const job of this.#turns.all()) this.#drop(job, cause);
    } finally {
      this.#pumping = false;
    }
  }

  /** Waits until there may be room; sees to it that something will tell. */
  #change(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    if (this.#current === undefined && this.#delivery.isStuck) this.#write([this.#mark()]);
    return promise;
  }

  #mark(): Uint8Array {
    return encodeFrame(TYPE.PING, 0, this.#delivery.mark());
  }

  #hasRoom(): boolean {
    this.#signal.throwIfAborted();
    if (this.#pendingBytes > PENDING_BYTES_MAX) return false;
    return this.#current !== undefined || this.#delivery.hasRoom;
  }

  /** One fragment within a rate. Who is next is decided when the time has come. */
  async #limited(limiter: RateLimiter): Promise<void> {
    const next = this.#turns.next();
    if (next === undefined) return;
    const sliceBytes = Math.max(FRAGMENT_BYTES_MIN + HEADER_BYTES, limiter.sliceBytes);
    const bytesMax = Math.min(sliceBytes, this.#delivery.fragmentBytesMax);
    const plannedBytes = Math.min(bytesMax, next.length - next.sentBytes + HEADER_BYTES);
    await limiter.take(plannedBytes, this.#signal);
    this.#signal.throwIfAborted();
    let sentBytes = this.#step(bytesMax);
    while (this.#current !== undefined) sentBytes += this.#step(bytesMax);
    if (sentBytes > plannedBytes) await limiter.take(sentBytes - plannedBytes, this.#signal);
  }

  /** Writes up to WRITE_BYTES_MAX of the fragment under way, or of the next; returns the bytes. */
  #step(fragmentBytesMax = Infinity): number {
    const job = this.#current ?? this.#turns.next();
    if (job === undefined) return 0;
    const head = this.#current === undefined ? [this.#begin(job, fragmentBytesMax)] : [];
    const pieces = takeBytes(job, Math.min(WRITE_BYTES_MAX, this.#lackingBytes));
    const bytes = totalOf(pieces);
    this.#lackingBytes -= bytes;
    this.#turns.served(job, bytes + HEADER_BYTES);
    const isLast = job.sentBytes === job.length;
    const parts = [...head, ...pieces];
    this.#delivery.sent(totalOf(parts));
    const after = this.#lackingBytes === 0 ? this.#fragmentEnded() : [];
    this.#put([...parts, ...after], isLast ? job.onFree : undefined);
    if (isLast) {
      this.#turns.remove(job);
      job.done.resolve();
    }
    return bytes + totalOf(head);
  }

  /** Begins a fragment of a job and returns its header. */
  #begin(job: Job, fragmentBytesMax: number): Buffer {
    const { type, stream, flags } = job;
    const left = job.length - job.sentBytes;
    const most = Math.min(fragmentBytesMax, this.#delivery.fragmentBytesMax) - HEADER_BYTES;
    const length = SPLIT_TYPES.has(type) ? Math.min(left, most) : left;
    this.#current = job;
    this.#lackingBytes = length;
    return encodeHeader({ type, stream, length, flags: length < left ? flags | FLAG_MORE : flags });
  }

  /** What follows a fragment; in one write with its end, for the sake of short records. */
  #fragmentEnded(): readonly Uint8Array[] {
    this.#current = undefined;
    const held = this.#held.splice(0);
    this.#delivery.sent(this.#heldBytes);
    this.#heldBytes = 0;
    if (!this.#delivery.markDue) return held;
    const mark = this.#mark();
    this.#delivery.sent(mark.length);
    return [...held, mark];
  }

  #write(parts: readonly Uint8Array[]): void {
    this.#delivery.sent(totalOf(parts));
    this.#put(parts);
  }

  #put(parts: readonly Uint8Array[], onFree?: () => void): void {
    const length = totalOf(parts);
    this.#pendingBytes += length;
    this.sent_ms = this.#clock.monotonic();
    const written = (): void => {
      this.#pendingBytes -= length;
      this.#wake();
      onFree?.();
    };
    const joined = joinShort(parts);
    for (const part of joined) this.wireBytes += part.length + recordsOf(part) * RECORD_COST_BYTES;
    joined.forEach((part, index) => {
      if (index < joined.length - 1) this.#socket.write(part);
      else this.#socket.write(part, written);
    });
  }

  #abort(): void {
    this.#wake();
    this.#held.length = 0;
    for (const job of this.#turns.all()) this.#drop(job, this.#signal.reason);
  }

  #drop(job: Job, reason: unknown): void {
    this.#turns.remove(job);
    job.done.reject(reason);
  }
}

/** Joins neighbours that are short: one TLS record is cheaper than two. */
function joinShort(parts: readonly Uint8Array[]): readonly Uint8Array[] {
  if (parts.length === 1) return parts;
  const joined: Uint8Array[] = [];
  let group: Uint8Array[] = [];
  let groupBytes = 0;
  const flush = (): void => {
    if (group.length > 0) joined.push(Buffer.concat(group, groupBytes));
    group = [];
    groupBytes = 0;
  };
  for (const part of parts) {
    if (groupBytes + part.length > JOINED_BYTES_MAX) flush();
    if (part.length > JOINED_BYTES_MAX) joined.push(part);
    else {
      group.push(part);
      groupBytes += part.length;
    }
  }
  flush();
  return joined;
}
