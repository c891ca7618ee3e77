import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { TesseraError, type Clock } from "#core";
import { busyShare } from "./busy.ts";
import { Delivery, type Delivered } from "./delivery.ts";
import { linkLost, peerError, violation } from "./errors.ts";
import { FrameDecoder, encodeFrame, type Frame } from "./frame.ts";
import { startKeepalive } from "./keepalive.ts";
import { decodeError, encodeError } from "./messages.ts";
import { CONTROL_BYTES_MAX, TYPE, type FrameType, type Timing } from "./protocol.ts";
import { SocketWriter, type DataFrame } from "./writer.ts";

const LINGER_ms = 2_000;
const WAITING_FRAMES_MAX = 64;
/** When the round trip is measured after the handshake; later with the data and the keepalive. */
const PROBES_ms = [0, 100, 250, 500, 1_000, 2_000];

/** Bytes as they come, each piece valid only during the call. */
export interface IncomingBytes {
  take(taker: (bytes: Buffer) => void): void;
}

/**
 * The sockets of a connection: TLS over a TCP socket of ours, or TLS that has its own and tells
 * what comes by `incoming`.
 */
export type Sockets = { readonly tls: TLSSocket } & (
  | { readonly raw: Socket; readonly incoming?: never }
  | { readonly incoming: IncomingBytes; readonly raw?: never }
);

/** What TLS 1.3 adds to a record: header, content type and authentication tag (RFC 8446, 5.2). */
const RECORD_COST_BYTES = 22;
/** Both flights of a handshake with certificates on P-256, about. */
const HANDSHAKE_BYTES = 3_000;

/**
 * One TLS connection as a sequence of frames, for both roles. Until `serve` is called, frames wait
 * for `next`; then each goes to the handler. PING and PONG are dealt with here. Ends once, with a
 * reason: `signal` aborts with it.
 */
export class Connection {
  readonly #socket: TLSSocket;
  readonly #raw: Socket | undefined;
  readonly #incoming: IncomingBytes | undefined;
  readonly #clock: Clock;
  readonly #busyShare = busyShare();
  readonly #timing: Timing;
  readonly #delivery: Delivery;
  readonly #writer: SocketWriter;
  readonly #decoder: FrameDecoder;
  readonly #ended = new AbortController();
  readonly #waiting: Frame[] = [];
  readonly #stopKeepalive: () => void;
  #handler: ((frame: Frame) => void) | undefined;
  #wake = (): void => undefined;
  #heard_ms: number;
  #heardBytes = 0;
  #onDelivered: (delivered: Delivered) => void = () => undefined;

  constructor(clock: Clock, timing: Timing, sockets: Sockets) {
    this.#clock = clock;
    this.#timing = timing;
    this.#socket = sockets.tls;
    this.#raw = sockets.raw;
    this.#incoming = sockets.incoming;
    this.#delivery = new Delivery(clock);
    this.#writer = new SocketWriter(clock, sockets.tls, this.#delivery, this.#ended.signal);
    this.#heard_ms = clock.monotonic();
    this.#decoder = new FrameDecoder((header) => this.#admit(header.length));
    this.#stopKeepalive = startKeepalive(clock, timing, {
      heard_ms: () => this.#heard_ms,
      sent_ms: () => this.#writer.sent_ms,
      ping: () => this.#ping(),
      onSilent: (silent_ms) =>
        this.end(peerError("stalled", `nothing heard for ${Math.round(silent_ms / 1000)} s`)),
    });
    this.#listen();
  }

  /** Aborts with a TesseraError when the connection has ended, from whichever side. */
  get signal(): AbortSignal {
    return this.#ended.signal;
  }

  /**
   * Bytes of TCP payload in both directions, TLS included: counted where the TCP socket is ours,
   * else from the plain bytes and their records.
   */
  wireBytes(): number {
    if (this.#raw !== undefined) return this.#raw.bytesRead + this.#raw.bytesWritten;
    return HANDSHAKE_BYTES + this.#heardBytes + this.#writer.wireBytes;
  }

  /** Sends a short frame; it overtakes data that have not begun. */
  send(type: FrameType, stream: number, payload?: Uint8Array): void {
    if (this.signal.aborted) return;
    try {
      this.#writer.control(encodeFrame(type, stream, payload));
    } catch (cause) {
      this.end(cause instanceof TesseraError ? cause : linkLost(cause), false);
    }
  }

  /** The shortest round trip lately; undefined before the first PONG. */
  get roundTrip_ms(): number | undefined {
    return this.#delivery.roundTrip_ms;
  }

  /** Share of the time, 0 to 1, in which this side had work lately. */
  get busyShare(): number {
    return this.#busyShare();
  }

  /** The clock that the connection goes by. */
  get now_ms(): number {
    return this.#clock.monotonic();
  }

  /** From now on every PONG is told to `observer`. */
  observe(observer: (delivered: Delivered) => void): void {
    this.#onDelivered = observer;
  }

  /**
   * Sends a frame of data: waits for its turn, the limiter, and room on the link. Resolves when
   * the socket has the frame.
   *
   * @throws the reason of `signal` when the connection has ended
   */
  sendData(frame: DataFrame): Promise<void> {
    return this.#writer.data(frame);
  }

  /** The payload of a frame that came is used by nobody any more. */
  recycle(payload: Buffer): void {
    this.#decoder.recycle(payload);
  }

  /** The next frame of the handshake. @throws `transfer.stalled`, the peer's error, and others */
  async next(types: readonly FrameType[]): Promise<Frame> {
    const stop = this.#clock.after(this.#timing.handshake_ms, () =>
      this.end(peerError("stalled", "the handshake took too long")),
    );
    try {
      while (this.#waiting.length === 0) {
        this.signal.throwIfAborted();
        await new Promise<void>((resolve) => (this.#wake = resolve));
      }
    } finally {
      stop();
    }
    const frame = this.#waiting.shift();
    if (frame !== undefined && types.includes(frame.type)) return frame;
    const error = violation(`frame type ${frame?.type} is not due in the handshake`);
    this.end(error);
    throw error;
  }

  /** From now on every frame goes to `handler`; what it throws ends the connection. */
  serve(handler: (frame: Frame) => void): void {
    this.#handler = handler;
    for (const frame of this.#waiting.splice(0)) this.#guarded(() => handler(frame));
    const stops = PROBES_ms.map((after_ms) => this.#clock.after(after_ms, () => this.#ping()));
    this.signal.addEventListener("abort", () => stops.forEach((stop) => stop()), { once: true });
  }

  /** Ends the connection; the peer is told unless it was the peer, or the link, that ended it. */
  end(reason: TesseraError, tell = true): void {
    if (this.signal.aborted) return;
    if (tell) this.send(TYPE.ERROR, 0, encodeError(reason));
    this.#ended.abort(reason);
    this.#wake();
    this.#stopKeepalive();
    this.#decoder.stop();
    this.#socket.end();
    const stop = this.#clock.after(LINGER_ms, () => this.#destroy());
    (this.#raw ?? this.#socket).once("close", stop);
    if (!tell) this.#destroy();
  }

  #ping(): void {
    this.send(TYPE.PING, 0, this.#delivery.mark());
  }

  #pong(payload: Buffer): void {
    const delivered = this.#writer.pong(payload);
    if (delivered !== undefined) this.#onDelivered(delivered);
  }

  #destroy(): void {
    this.#socket.destroy();
    this.#raw?.destroy();
  }

  #listen(): void {
    const take = (chunk: Buffer): void => {
      this.#heard_ms = this.#clock.monotonic();
      this.#heardBytes += chunk.length + RECORD_COST_BYTES;
      this.#guarded(() => this.#decoder.push(chunk, this.#emit));
    };
    if (this.#incoming === undefined) this.#socket.on("data", take);
    this.#socket.on("error", (cause: Error) => this.end(linkLost(cause), false));
    this.#socket.on("end", () => this.end(linkLost(), false));
    this.#socket.on("close", () => this.end(linkLost(), false));
    this.#raw?.on("error", (cause: Error) => this.end(linkLost(cause), false));
    this.#raw?.on("close", () => this.end(linkLost(), false));
    this.#incoming?.take(take);
  }

  readonly #emit = (frame: Frame): void => this.#dispatch(frame);

  #guarded(work: () => void): void {
    try {
      work();
    } catch (cause) {
      const bug = () => new TesseraError("bug", "transfer.failed", "a handler failed", { cause });
      this.end(cause instanceof TesseraError ? cause : bug());
    }
  }

  /** Before the handshake is complete nothing long is allocated. */
  #admit(length: number): void {
    if (this.#handler === undefined && length > CONTROL_BYTES_MAX) {
      throw violation("a long frame before the handshake is complete");
    }
  }

  #dispatch(frame: Frame): void {
    if (frame.type === TYPE.PONG) this.#pong(frame.payload);
    else if (frame.type === TYPE.PING) this.send(TYPE.PONG, 0, frame.payload);
    else if (frame.type === TYPE.ERROR && frame.stream === 0) this.end(decodeError(frame), false);
    else if (this.#handler !== undefined) this.#handler(frame);
    else this.#enqueue(frame);
  }

  #enqueue(frame: Frame): void {
    if (this.#waiting.length >= WAITING_FRAMES_MAX) {
      throw violation("too many frames before the handshake is complete");
    }
    this.#waiting.push(frame);
    this.#wake();
  }
}
