import { endOf, type ByteRange, type TesseraError } from "#core";
import {
  decodeData,
  decodeReadId,
  encodeRead,
  encodeReadId,
  type BlockRead,
} from "./block-reads.ts";
import { decompress } from "./compression.ts";
import type { RemoteBlocks } from "./contract.ts";
import { peerError, violation } from "./errors.ts";
import type { Frame } from "./frame.ts";
import { BlocksOpenedSchema, decodeJson } from "./messages.ts";
import {
  FEATURE_SAME,
  FLAG_SAME,
  FLAG_ZSTD,
  PRIORITY,
  RAW_BYTES_MAX,
  READS_MAX,
  TYPE,
  type Priority,
} from "./protocol.ts";
import type { IncomingStream, Receiver } from "./receiver-streams.ts";

/** Does work over a connection, and again over another as long as that may help. */
type OverLink = (
  signal: AbortSignal,
  work: (receiver: Receiver) => Promise<void>,
) => Promise<unknown>;

/** Undefined: zeroes. */
type Answer = Uint8Array | "same" | undefined;

interface Pending {
  readonly read: BlockRead;
  readonly came: PromiseWithResolvers<Answer>;
}

/** The reads of one priority: one stream, opened when the first is asked for. */
class ReadStream {
  readonly #priority: Priority;
  readonly #sizeBytes: number;
  readonly #overLink: OverLink;
  readonly #closed: AbortSignal;
  /** What is not answered, in the order in which it was asked for. */
  readonly #pending = new Map<number, Pending>();
  /** What of it this connection's sender knows. */
  readonly #sent = new Set<number>();
  #stream: IncomingStream | undefined;
  /** This connection's sender can compare. */
  #compares = false;
  #running = false;
  #nextId = 0;

  constructor(
    priority: Priority,
    options: {
      readonly sizeBytes: number;
      readonly overLink: OverLink;
      readonly closed: AbortSignal;
    },
  ) {
    this.#priority = priority;
    this.#sizeBytes = options.sizeBytes;
    this.#overLink = options.overLink;
    this.#closed = options.closed;
  }

  async fetch(range: ByteRange, signal: AbortSignal, known?: Uint8Array): Promise<Answer> {
    this.#closed.throwIfAborted();
    signal.throwIfAborted();
    const { offset, length } = range;
    const id = this.#nextId;
    const read = { id, offset, length, ...(known === undefined ? {} : { known }) };
    this.#nextId = (id + 1) % 2 ** 32;
    const came = Promise.withResolvers<Answer>();
    const abort = (): void => {
      if (this.#sent.has(read.id)) this.#stream?.send(TYPE.CANCEL, encodeReadId(read.id));
      this.#forget(read.id);
      came.reject(signal.reason as Error);
    };
    signal.addEventListener("abort", abort, { once: true });
    this.#pending.set(read.id, { read, came });
    this.#send();
    if (!this.#running) void this.#run();
    try {
      return await came.promise;
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  #forget(id: number): void {
    this.#pending.delete(id);
    if (this.#sent.delete(id)) this.#send();
  }

  /** Asks for what has not been asked for, as far as the sender takes it. */
  #send(): void {
    if (this.#stream === undefined || this.#sent.size === this.#pending.size) return;
    for (const { read } of this.#pending.values()) {
      if (this.#sent.size >= READS_MAX / 2) return;
      if (this.#sent.has(read.id)) continue;
      this.#sent.add(read.id);
      const { known: _digest, ...bare } = read;
      this.#stream.send(TYPE.READ, encodeRead(this.#compares ? read : bare));
    }
  }

  /** Never rejects: whoever waits learns of a failure. */
  async #run(): Promise<void> {
    this.#running = true;
    try {
      await this.#overLink(this.#closed, (receiver) => this.#serve(receiver));
    } catch (cause) {
      for (const { came } of this.#pending.values()) came.reject(cause);
      this.#pending.clear();
    } finally {
      this.#running = false;
    }
  }

  async #serve(receiver: Receiver): Promise<void> {
    const stream = receiver.open({ kind: "blocks", priority: this.#priority });
    const abort = (): void => stream.fail(this.#closed.reason);
    this.#closed.addEventListener("abort", abort, { once: true });
    try {
      this.#stream = stream;
      this.#compares = receiver.features.includes(FEATURE_SAME);
      this.#send();
      this.#checkOpened(await stream.next());
      for (;;) this.#take(stream, await stream.next());
    } catch (cause) {
      receiver.done(stream, cause);
      throw cause;
    } finally {
      this.#stream = undefined;
      this.#sent.clear();
      this.#closed.removeEventListener("abort", abort);
    }
  }

  #checkOpened(frame: Frame): void {
    const { sizeBytes } = decodeJson(frame, BlocksOpenedSchema);
    if (sizeBytes === this.#sizeBytes) return;
    const message = `the disk has ${sizeBytes} bytes, ${this.#sizeBytes} were agreed on`;
    throw peerError("size-mismatch", message);
  }

  /** An answer that crossed its CANCEL is dropped. @throws `transfer.protocol-violation` */
  #take(stream: IncomingStream, frame: Frame): void {
    if (frame.type !== TYPE.DATA) throw violation(`frame type ${frame.type} among reads`);
    const id = decodeReadId(frame);
    const pending = this.#sent.has(id) ? this.#pending.get(id) : undefined;
    if (pending === undefined) {
      stream.release(frame);
      return;
    }
    this.#forget(id);
    this.#decode(stream, frame, pending.read).then(pending.came.resolve, (cause: unknown) => {
      pending.came.reject(cause);
      stream.fail(cause);
    });
  }

  async #decode(
    stream: IncomingStream,
    frame: Frame,
    { length: rawBytes, known }: BlockRead,
  ): Promise<Answer> {
    const data = decodeData(frame);
    if ((frame.flags & FLAG_SAME) !== 0) {
      const asked = this.#compares && known !== undefined;
      if (!asked || data !== undefined || frame.flags !== FLAG_SAME) {
        throw violation("DATA that is the same as nothing");
      }
      stream.release(frame);
      return "same";
    }
    if ((frame.flags & FLAG_ZSTD) !== 0) {
      const raw = await decompress(data ?? Buffer.alloc(0), rawBytes);
      stream.recycle(frame);
      return raw;
    }
    stream.release(frame);
    if (data === undefined || data.length === rawBytes) return data;
    throw violation(`${data.length} bytes in place of ${rawBytes}`);
  }
}

/**
 * Reads of the user data block at the other side. What is demanded and what is not go in two streams,
 * since frames of one stream keep their order: so no answer waits behind one that is less urgent.
 */
export class SessionBlocks implements RemoteBlocks {
  readonly #closed = new AbortController();
  readonly #sizeBytes: number;
  readonly #streams: Readonly<Record<"demanded" | "background", ReadStream>>;

  constructor(sizeBytes: number, overLink: OverLink) {
    this.#sizeBytes = sizeBytes;
    const common = { sizeBytes, overLink, closed: this.#closed.signal };
    this.#streams = {
      demanded: new ReadStream(PRIORITY.demanded, common),
      background: new ReadStream(PRIORITY.background, common),
    };
  }

  async fetch(
    range: ByteRange,
    priority: "demanded" | "background",
    signal: AbortSignal,
  ): Promise<Uint8Array | undefined> {
    const came = await this.#fetch(range, priority, signal);
    if (came === "same") throw violation("DATA that is the same as nothing");
    return came;
  }

  async fetchUnless(
    range: ByteRange,
    known: Uint8Array,
    priority: "demanded" | "background",
    signal: AbortSignal,
  ): Promise<Answer> {
    return await this.#fetch(range, priority, signal, known);
  }

  async #fetch(
    range: ByteRange,
    priority: "demanded" | "background",
    signal: AbortSignal,
    known?: Uint8Array,
  ): Promise<Answer> {
    const { offset, length } = range;
    const fits = offset >= 0 && length > 0 && length <= RAW_BYTES_MAX;
    if (!fits || endOf(range) > this.#sizeBytes) {
      throw new RangeError(`${length} bytes at ${offset} cannot be read at a time`);
    }
    return await this.#streams[priority].fetch(range, signal, known);
  }

  close(reason: TesseraError = peerError("cancelled", "no more blocks are read")): void {
    this.#closed.abort(reason);
  }
}
