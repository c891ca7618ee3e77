import type { Socket } from "node:net";
import { isZero } from "#block";
import type { BufferPool } from "./buffers.ts";
import { errnoOf } from "./errors.ts";
import type { Descriptor } from "./extents.ts";
import { CONTEXT_ID } from "./negotiation.ts";
import { Outbox } from "./outbox.ts";
import { ERRNO, FLAG, SIMPLE_BYTES } from "./protocol.ts";
import {
  DATA_HEAD_BYTES,
  HOLE_BYTES,
  encodeError,
  encodeSimple,
  encodeStatus,
  writeDataHead,
  writeHole,
  writeSimple,
  type Part,
} from "./replies.ts";
import type { Refusal, Request } from "./requests.ts";

/** What a request costs beside its bytes, until its reply is sent. */
export const REQUEST_COST_BYTES = 512;

const NOT_FAST: Refusal = { errno: ERRNO.ENOTSUP, message: "zeroes would not be quick here" };

/** The failure of a request to write zeroes only if that is quick. */
export class NotFast extends Error {}

/** Replies in the form that was negotiated. */
export class ReplyWriter {
  readonly #structured: boolean;
  readonly #outbox: Outbox;

  constructor(
    parts: { readonly socket: Socket; readonly structured: boolean; readonly pool: BufferPool },
    onSent: (cost: number) => void,
  ) {
    this.#structured = parts.structured;
    this.#outbox = new Outbox(parts.socket, parts.pool, onSent);
  }

  /** Bytes before those of a read. */
  get headBytes(): number {
    return this.#structured ? DATA_HEAD_BYTES : SIMPLE_BYTES;
  }

  flush(): void {
    this.#outbox.flush();
  }

  /**
   * Answers a short read into the common buffer, if `fill` fills the bytes that it is given.
   *
   * @returns what the reply costs; undefined when `fill` says no
   * @throws what `fill` throws
   */
  readNow(request: Request, fill: (bytes: Buffer) => boolean): number | undefined {
    const { length, offset } = request;
    const { headBytes } = this;
    const { buffer, at } = this.#outbox.slot(headBytes + length);
    const start = at + headBytes;
    if (!fill(buffer.subarray(start, start + length))) return undefined;
    const used = this.#head(buffer, at, request, { offset, length, last: true });
    this.#outbox.fill(used);
    return used;
  }

  /** Sends the bytes that `whole` has after {@link headBytes}; it goes back to the pool then. */
  read(request: Request, part: Part, whole: Buffer): void {
    const used = this.#head(whole, 0, request, part);
    const cost = part.length + (part.last ? REQUEST_COST_BYTES : 0);
    this.#outbox.add(whole.subarray(0, used), cost, whole);
    this.#outbox.flush();
  }

  status(request: Request, descriptors: readonly Descriptor[]): void {
    this.#send(encodeStatus(request, CONTEXT_ID, descriptors));
  }

  succeed(request: Request): void {
    this.#send(encodeSimple(request, 0));
  }

  fail(request: Request, cause: unknown): void {
    const message = cause instanceof Error ? cause.message : "it failed";
    this.refuse(request, cause instanceof NotFast ? NOT_FAST : { errno: errnoOf(cause), message });
  }

  refuse(request: Request, { errno, message }: Refusal): void {
    const isBare = !this.#structured;
    this.#send(isBare ? encodeSimple(request, errno) : encodeError(request, errno, message));
  }

  #send(bytes: Buffer): void {
    this.#outbox.add(bytes, REQUEST_COST_BYTES);
    this.#outbox.flush();
  }

  /** Writes what comes before the bytes, or instead of zeroes. Returns the length of the whole. */
  #head(buffer: Buffer, at: number, request: Request, part: Part): number {
    const { length } = part;
    if (!this.#structured) {
      writeSimple(buffer, at, request, 0);
      return SIMPLE_BYTES + length;
    }
    const start = at + DATA_HEAD_BYTES;
    const mayBeZero = buffer[start] === 0 && (request.flags & FLAG.DF) === 0;
    if (mayBeZero && isZero(buffer.subarray(start, start + length))) {
      writeHole(buffer, at, request, part);
      return HOLE_BYTES;
    }
    writeDataHead(buffer, at, request, part);
    return DATA_HEAD_BYTES + length;
  }
}
