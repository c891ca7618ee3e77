/**
 * The transmission phase of one connection, at the server.
 *
 * Requests are decoded, validated and begun in the order in which they come, as long as what is
 * begun and what waits to be sent stay below a bound; then the socket is read no more until some of
 * it is gone. Long requests are served in pieces, so the bound holds whatever their length. Replies
 * go out as they are ready.
 */
import type { Socket } from "node:net";
import type { BlockDevice } from "#block";
import { TesseraError } from "#core";
import { PIECE_BYTES, type BufferPool } from "./buffers.ts";
import { allocationOf } from "./extents.ts";
import { COMMAND, FLAG } from "./protocol.ts";
import { NotFast, REQUEST_COST_BYTES, ReplyWriter } from "./reply-writer.ts";
import { RequestDecoder, refusalOf, type Refusal, type Request, type Rules } from "./requests.ts";

/** Bytes of requests and replies in hand; one step may exceed it. */
const IN_HAND_BYTES_MAX = 16 * 2 ** 20;
/** The same for a device that answers at once: more would only fall out of the caches. */
const NEAR_IN_HAND_BYTES_MAX = 2 * 2 ** 20;
const DESCRIPTORS_MAX = 32_768;
const ZEROES = new Uint8Array(PIECE_BYTES);

/** A request under way. */
interface Work {
  readonly request: Request;
  /** Why the payload of a write is read only to be forgotten. */
  readonly refusal: Refusal | undefined;
  /** Bytes for which a step has begun. */
  begun: number;
  /** Steps that have not ended. */
  steps: number;
  failure: { readonly cause: unknown } | undefined;
  /** The piece of a write that is being filled. */
  piece: { readonly buffer: Buffer; filled: number } | undefined;
}

interface WritePiece {
  readonly bytes: Uint8Array;
  readonly offset: number;
  /** What goes back to the pool. */
  readonly whole?: Buffer;
}

export interface SessionParts {
  readonly socket: Socket;
  readonly device: BlockDevice;
  readonly rules: Rules;
  readonly structured: boolean;
  readonly pool: BufferPool;
  /** Flushes the device; those who ask meanwhile share one flush. */
  readonly flush: () => Promise<void>;
}

export class Session {
  readonly #parts: SessionParts;
  readonly #device: BlockDevice;
  readonly #replies: ReplyWriter;
  readonly #inHandBytesMax: number;
  readonly #decoder = new RequestDecoder();
  readonly #end: (cause?: TesseraError) => void;
  /** Its steps are not all begun yet. */
  #current: Work | undefined;
  #inHandBytes = 0;
  #isPaused = false;
  #isFinishing = false;

  /** @param end is called when the connection shall be closed: after DISC, or for a reason */
  constructor(parts: SessionParts, end: (cause?: TesseraError) => void) {
    this.#parts = parts;
    this.#device = parts.device;
    this.#end = end;
    this.#inHandBytesMax =
      parts.device.readNow === undefined ? IN_HAND_BYTES_MAX : NEAR_IN_HAND_BYTES_MAX;
    this.#replies = new ReplyWriter(parts, (cost) => this.#release(cost));
  }

  /** Takes what came. The socket must not give more while it is paused. */
  push(chunk: Buffer): void {
    if (this.#isFinishing) return;
    this.#decoder.push(chunk);
    this.#pump();
  }

  /** Begins nothing more, and ends when all in hand is answered. */
  finish(): void {
    if (this.#isFinishing) return;
    this.#isFinishing = true;
    // A write whose payload has not all come will not be answered.
    const waits = this.#current?.request.type === COMMAND.WRITE;
    this.#release(waits ? REQUEST_COST_BYTES : 0);
  }

  #pump(): void {
    try {
      while (!this.#isFinishing && this.#inHandBytes < this.#inHandBytesMax && this.#step());
    } catch (cause) {
      const bug = () => new TesseraError("bug", "nbd.failed", "NBD serving failed", { cause });
      this.#isFinishing = true;
      this.#end(cause instanceof TesseraError ? cause : bug());
    }
    this.#replies.flush();
    this.#throttle(this.#inHandBytes >= this.#inHandBytesMax);
  }

  #throttle(isPaused: boolean): void {
    if (this.#isPaused === isPaused || this.#isFinishing) return;
    this.#isPaused = isPaused;
    if (isPaused) this.#parts.socket.pause();
    else this.#parts.socket.resume();
  }

  #release(cost: number): void {
    this.#inHandBytes -= cost;
    if (this.#isFinishing) {
      if (this.#inHandBytes === 0) this.#end();
    } else if (this.#isPaused && this.#inHandBytes < this.#inHandBytesMax / 2) this.#pump();
  }

  /** Does the next thing; false when more has to come first. */
  #step(): boolean {
    if (this.#current !== undefined) return this.#advance(this.#current);
    const request = this.#decoder.next();
    if (request === undefined) return false;
    this.#begin(request, refusalOf(request, this.#parts.rules));
    return true;
  }

  #begin(request: Request, refusal: Refusal | undefined): void {
    const { type, length } = request;
    if (refusal === undefined && type === COMMAND.READ && this.#readNow(request)) return;
    this.#inHandBytes += REQUEST_COST_BYTES;
    const none = { failure: undefined, piece: undefined };
    const work: Work = { request, refusal, begun: 0, steps: 0, ...none };
    if (type === COMMAND.WRITE && length > 0) this.#current = work;
    else if (refusal !== undefined) this.#replies.refuse(request, refusal);
    else this.#dispatch(work);
  }

  #dispatch(work: Work): void {
    const { request } = work;
    switch (request.type) {
      case COMMAND.READ:
      case COMMAND.CACHE:
        this.#current = work;
        return;
      case COMMAND.WRITE_ZEROES:
        // Zeroes that must take up space are written as any other bytes.
        if ((request.flags & FLAG.NO_HOLE) === 0) void this.#single(work, this.#zero(request));
        else if ((request.flags & FLAG.FAST_ZERO) === 0 && request.length > 0) this.#current = work;
        else void this.#single(work, refuseUnlessEmpty(request));
        return;
      case COMMAND.TRIM:
        void this.#single(work, this.#device.zero(request));
        return;
      case COMMAND.BLOCK_STATUS:
        void this.#status(request);
        return;
      case COMMAND.FLUSH:
        void this.#single(work, this.#parts.flush());
        return;
      case COMMAND.DISC:
        this.#isFinishing = true;
        this.#release(REQUEST_COST_BYTES);
        return;
      default:
        void this.#single(work, Promise.resolve());
    }
  }

  /** Answers a read of one piece on the spot where the device can. */
  #readNow(request: Request): boolean {
    const device = this.#device;
    if (request.length > PIECE_BYTES || device.readNow === undefined) return false;
    try {
      const cost = this.#replies.readNow(
        request,
        (bytes) => device.readNow?.(bytes, request.offset) === true,
      );
      this.#inHandBytes += cost ?? 0;
      return cost !== undefined;
    } catch (cause) {
      this.#inHandBytes += REQUEST_COST_BYTES;
      this.#replies.fail(request, cause);
      return true;
    }
  }

  /** Begins the next piece of a long request; false when its payload has to come first. */
  #advance(work: Work): boolean {
    const { request, begun } = work;
    if (request.type === COMMAND.WRITE) return this.#takePayload(work);
    const left = request.length - begun;
    const length = this.#isWhole(request) ? left : Math.min(PIECE_BYTES, left);
    const offset = request.offset + begun;
    this.#count(work, length);
    if (request.type === COMMAND.READ) void this.#readPiece(work, offset, length);
    else if (request.type === COMMAND.CACHE) void this.#cachePiece(work, offset, length);
    else void this.#writePiece(work, { bytes: ZEROES.subarray(0, length), offset });
    return true;
  }

  /** Must a read be answered in one piece? */
  #isWhole({ type, flags }: Request): boolean {
    return type === COMMAND.READ && (!this.#parts.structured || (flags & FLAG.DF) !== 0);
  }

  /** A step of so many bytes begins. */
  #count(work: Work, length: number): void {
    work.begun += length;
    work.steps += 1;
    this.#inHandBytes += length;
    if (work.begun === work.request.length) this.#current = undefined;
  }

  /** A step has ended; true when it was the last. */
  #ended(work: Work): boolean {
    work.steps -= 1;
    return work.begun === work.request.length && work.steps === 0;
  }

  async #readPiece(work: Work, offset: number, length: number): Promise<void> {
    const { headBytes } = this.#replies;
    const whole = this.#parts.pool.take(headBytes + length);
    try {
      await this.#device.read(whole.subarray(headBytes, headBytes + length), offset);
    } catch (cause) {
      work.failure ??= { cause };
    }
    const last = this.#ended(work);
    if (work.failure === undefined) {
      this.#replies.read(work.request, { offset, length, last }, whole);
      return;
    }
    this.#parts.pool.give(whole);
    if (last) this.#replies.fail(work.request, work.failure.cause);
    this.#release(length);
  }

  async #cachePiece(work: Work, offset: number, length: number): Promise<void> {
    const whole = this.#parts.pool.take(length);
    try {
      await this.#device.read(whole.subarray(0, length), offset);
    } catch (cause) {
      work.failure ??= { cause };
    }
    this.#parts.pool.give(whole);
    if (this.#ended(work)) await this.#settle(work);
    this.#release(length);
  }

  /** What has come of the payload goes to the piece that is being filled, or nowhere. */
  #takePayload(work: Work): boolean {
    const { request, refusal, begun } = work;
    const left = request.length - begun;
    if (refusal !== undefined) return this.#skipPayload(work, left, refusal);
    const wanted = Math.min(PIECE_BYTES, left);
    const offset = request.offset + begun;
    const bytes = this.#decoder.payload(wanted - (work.piece?.filled ?? 0));
    if (bytes.length === 0) return false;
    if (bytes.length === wanted) {
      this.#count(work, wanted);
      void this.#writePiece(work, { bytes, offset });
      return true;
    }
    const piece = (work.piece ??= { buffer: this.#parts.pool.take(wanted), filled: 0 });
    piece.buffer.set(bytes, piece.filled);
    piece.filled += bytes.length;
    if (piece.filled < wanted) return true;
    work.piece = undefined;
    this.#count(work, wanted);
    const whole = piece.buffer;
    void this.#writePiece(work, { bytes: whole.subarray(0, wanted), offset, whole });
    return true;
  }

  #skipPayload(work: Work, left: number, refusal: Refusal): boolean {
    const { length } = this.#decoder.payload(left);
    work.begun += length;
    if (length < left) return length > 0;
    this.#current = undefined;
    this.#replies.refuse(work.request, refusal);
    return true;
  }

  async #writePiece(work: Work, { bytes, offset, whole }: WritePiece): Promise<void> {
    try {
      await this.#device.write(bytes, offset);
    } catch (cause) {
      work.failure ??= { cause };
    }
    if (whole !== undefined) this.#parts.pool.give(whole);
    if (this.#ended(work)) void this.#settle(work);
    this.#release(bytes.length);
  }

  /** Answers a request whose work is done, when it is durable if that was asked for. */
  async #settle(work: Work): Promise<void> {
    const { request } = work;
    try {
      if (work.failure === undefined && (request.flags & FLAG.FUA) !== 0) await this.#parts.flush();
    } catch (cause) {
      work.failure = { cause };
    }
    if (work.failure === undefined) this.#replies.succeed(request);
    else this.#replies.fail(request, work.failure.cause);
  }

  /** A request that is one call of the device. */
  async #single(work: Work, call: Promise<void>): Promise<void> {
    try {
      await call;
    } catch (cause) {
      work.failure = { cause };
    }
    await this.#settle(work);
  }

  #zero(request: Request): Promise<void> {
    const isFast = this.#device.zeroesQuickly?.(request) === true;
    const isRefused = (request.flags & FLAG.FAST_ZERO) !== 0 && !isFast;
    return isRefused ? refuseUnlessEmpty(request) : this.#device.zero(request);
  }

  async #status(request: Request): Promise<void> {
    try {
      const countMax = (request.flags & FLAG.REQ_ONE) === 0 ? DESCRIPTORS_MAX : 1;
      const allocated = await this.#device.allocated();
      this.#replies.status(request, allocationOf(allocated, request, countMax));
    } catch (cause) {
      this.#replies.fail(request, cause);
    }
  }
}

/** To zero nothing is quick. */
function refuseUnlessEmpty({ length }: Request): Promise<void> {
  return length === 0 ? Promise.resolve() : Promise.reject(new NotFast());
}
