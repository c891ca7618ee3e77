import { TesseraError } from "#core";
import type { Connection } from "./connection.ts";
import { peerError, violation } from "./errors.ts";
import type { Frame } from "./frame.ts";
import { decodeError, encodeCredit, encodeError, encodeJson, type Open } from "./messages.ts";
import { FRAME_COST_BYTES, HEADER_BYTES, TYPE, WINDOW_BYTES, type FrameType } from "./protocol.ts";
import type { ReplyPath } from "./return-path.ts";
import { CreditWindow, type WindowBudget } from "./window.ts";

const DATA_TYPES: readonly FrameType[] = [
  TYPE.BYTES,
  TYPE.ZEROES,
  TYPE.BLOCKS,
  TYPE.PACK,
  TYPE.CHANGES,
  TYPE.DATA,
];

/** What only a receiver sends. */
const OWN_TYPES: ReadonlySet<FrameType> = new Set([
  TYPE.OPEN,
  TYPE.CREDIT,
  TYPE.WANT,
  TYPE.READ,
  TYPE.CANCEL,
  TYPE.REPLY,
]);

/** What a frame costs of a stream's credit; control frames cost nothing. */
function costOf(frame: Frame): number {
  return DATA_TYPES.includes(frame.type) ? frame.length + FRAME_COST_BYTES : 0;
}

type Without<T, K extends string> = T extends unknown ? Omit<T, K> : never;

/** One stream at the receiver: its frames in order, and the credit it has given. */
export class IncomingStream {
  readonly id: number;
  readonly #connection: Connection;
  readonly #frames: Frame[] = [];
  readonly #window: CreditWindow;
  #opened = false;
  #failure: { readonly reason: unknown } | undefined;
  #wake = (): void => undefined;
  /** What may be replied; only of a tunnel. */
  replies: ReplyPath | undefined;
  /** Bytes of this stream's frames so far, headers included. */
  wireBytes = 0;

  constructor(connection: Connection, id: number, budget: WindowBudget) {
    this.#connection = connection;
    this.#window = new CreditWindow(budget);
    this.id = id;
    connection.signal.addEventListener("abort", () => this.#wake(), { once: true });
  }

  /**
   * @throws `transfer.protocol-violation` when the credit does not cover the frame, or OPENED does
   *   not come first and once: it costs no credit, so more of it would not be bounded
   */
  push(frame: Frame): void {
    if (frame.type !== TYPE.ERROR && (frame.type === TYPE.OPENED) === this.#opened) {
      throw violation("OPENED must come first and once");
    }
    this.#opened = true;
    if (!this.#window.spend(costOf(frame))) throw violation("more data than the credit covers");
    this.wireBytes += frame.length + HEADER_BYTES;
    if (frame.type === TYPE.ERROR) this.#failure = { reason: decodeError(frame) };
    else this.#frames.push(frame);
    this.#wake();
  }

  /** TAKEN goes by what waits, since nothing need be taken for it. @throws `transfer.protocol-violation` */
  taken(frame: Frame): void {
    if (this.replies === undefined) throw violation("a TAKEN in a stream of another kind");
    this.replies.taken(frame);
  }

  /**
   * The next frame; what had arrived before the connection ended is still given out.
   *
   * @throws the sender's error, or the reason why the connection ended
   */
  async next(): Promise<Frame> {
    for (;;) {
      const frame = this.#frames.shift();
      if (frame !== undefined) return frame;
      if (this.#failure !== undefined) throw this.#failure.reason;
      this.#connection.signal.throwIfAborted();
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** Frames up to and including END. */
  async *frames(): AsyncGenerator<Frame, void, undefined> {
    for (;;) {
      const frame = await this.next();
      yield frame;
      if (frame.type === TYPE.END) return;
    }
  }

  /** The frame has been dealt with: its cost is granted anew, in larger amounts. */
  release(frame: Frame): void {
    const { now_ms, roundTrip_ms } = this.#connection;
    const grantedBytes = this.#window.release(costOf(frame), now_ms, roundTrip_ms);
    if (grantedBytes === 0) return;
    this.#connection.send(
      TYPE.CREDIT,
      this.id,
      encodeCredit({ amountBytes: grantedBytes, busyShare: this.#connection.busyShare }),
    );
  }

  /** As `release`, and nothing reads the frame's payload any more: its memory is used again. */
  recycle(frame: Frame): void {
    this.release(frame);
    this.#connection.recycle(frame.payload);
  }

  /** No more frames are taken. */
  close(): void {
    this.#window.close();
  }

  /** Sends a short frame of this stream to the sender. */
  send(type: FrameType, payload: Uint8Array): void {
    this.#connection.send(type, this.id, payload);
  }

  /** Wakes a waiting `next`, which then throws `reason`. */
  fail(reason: unknown): void {
    this.#failure ??= { reason };
    this.#frames.length = 0;
    this.#wake();
  }
}

/** The receiver's role on one connection: opens streams and sorts the frames that come. */
export class Receiver {
  readonly connection: Connection;
  readonly #streams = new Map<number, IncomingStream>();
  #lastStream = 0;

  readonly #budget: WindowBudget;

  /** What of the content version's optional parts the sender has too. */
  readonly features: readonly string[];

  /** @param budget what the windows of the session's streams share */
  constructor(
    connection: Connection,
    { budget, features }: { readonly budget: WindowBudget; readonly features: readonly string[] },
  ) {
    this.connection = connection;
    this.features = features;
    this.#budget = budget;
    connection.serve((frame) => this.#handle(frame));
  }

  /** Streams that are open at the moment. */
  get streams(): number {
    return this.#streams.size;
  }

  /** A tunnel is open, in which it may be quiet for long. */
  get carriesTunnel(): boolean {
    return [...this.#streams.values()].some(({ replies }) => replies !== undefined);
  }

  open(request: Without<Open, "credit">): IncomingStream {
    this.#lastStream += 1;
    const stream = new IncomingStream(this.connection, this.#lastStream, this.#budget);
    this.#streams.set(stream.id, stream);
    const content = { ...request, credit: WINDOW_BYTES };
    this.connection.send(TYPE.OPEN, stream.id, encodeJson(content));
    return stream;
  }

  /** Ends a stream; the sender is told when it has not sent everything. */
  done(stream: IncomingStream, reason?: unknown): void {
    stream.close();
    if (!this.#streams.delete(stream.id) || reason === undefined) return;
    const given = peerError("cancelled", "the receiver gave the stream up");
    const own = reason instanceof TesseraError && reason.code.startsWith("transfer.");
    this.connection.send(TYPE.ERROR, stream.id, encodeError(own ? reason : given));
  }

  #handle(frame: Frame): void {
    if (OWN_TYPES.has(frame.type) || frame.stream === 0) {
      throw violation(`a receiver takes no frame of type ${frame.type}`);
    }
    if (frame.stream > this.#lastStream) throw violation("a stream that was never opened");
    const stream = this.#streams.get(frame.stream);
    if (frame.type === TYPE.TAKEN) {
      stream?.taken(frame);
      return;
    }
    stream?.push(frame);
    if (frame.type !== TYPE.ERROR && frame.type !== TYPE.END) return;
    stream?.close();
    this.#streams.delete(frame.stream);
  }
}
