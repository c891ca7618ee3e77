import { hasCode, type Clock } from "#core";
import { Ahead } from "./ahead.ts";
import type { MemoryTunnel } from "./contract.ts";
import { isRetryable, peerError, violation } from "./errors.ts";
import type { Frame } from "./frame.ts";
import { bytesPrefix } from "./messages.ts";
import { TUNNEL_KEPT_BYTES, TYPE } from "./protocol.ts";
import { ReplyQueue, decodeTaken, encodeTaken } from "./return-path.ts";
import type { OutgoingStream } from "./sender-stream.ts";
import { SentBytes } from "./sent-bytes.ts";
import { TunnelWindow } from "./tunnel-window.ts";

/** The connection has gone, and another one may carry the tunnel on. */
function isCut(stream: OutgoingStream): boolean {
  const { reason } = stream.signal;
  if (!stream.signal.aborted || stream.isGivenUp) return false;
  return isRetryable(reason) || hasCode(reason, "transfer.superseded");
}

/**
 * One tunnel at the sender. Streams carry it, one at a time and one after the other; what has been
 * sent over one and not been taken is sent again over the next.
 */
export class SenderTunnel {
  readonly #tunnel: MemoryTunnel;
  readonly #ahead: Ahead;
  readonly #sent = new SentBytes(TUNNEL_KEPT_BYTES);
  readonly #window: TunnelWindow;
  readonly #replies = new ReplyQueue();
  #carrier: OutgoingStream | undefined;
  /** Up to where the carrier has sent, or does so now. */
  #sentBytes = 0;
  #over: { readonly reason: unknown } | undefined;
  #news = Promise.withResolvers<void>();

  /** @param aheadBytesMax what may be taken from the hypervisor ahead of the link */
  constructor(tunnel: MemoryTunnel, aheadBytesMax: () => number, clock: Clock) {
    this.#tunnel = tunnel;
    this.#window = new TunnelWindow(clock);
    this.#ahead = new Ahead(aheadBytesMax, () => this.#ring());
    void this.#pull();
    void this.#answer();
  }

  get isOver(): boolean {
    return this.#over !== undefined;
  }

  /**
   * Carries the tunnel by a stream, from what the receiver has, until all has been taken or the stream
   * cannot go on. Where another one may, the tunnel stays; else it is closed.
   *
   * @throws why the stream, or the tunnel, has ended
   */
  async carry(stream: OutgoingStream, fromBytes: number): Promise<void> {
    const abort = (): void => this.#ring();
    stream.signal.addEventListener("abort", abort, { once: true });
    try {
      this.#begin(stream, fromBytes);
      await this.#send(stream, fromBytes);
      await this.close();
    } catch (cause) {
      const moved = this.#carrier !== stream && !stream.signal.aborted;
      if (!moved && !isCut(stream)) await this.close(cause);
      throw cause;
    } finally {
      stream.signal.removeEventListener("abort", abort);
      this.#leave(stream);
    }
  }

  #begin(stream: OutgoingStream, fromBytes: number): void {
    stream.signal.throwIfAborted();
    this.#checkOver();
    this.#carrier = stream;
    this.#sentBytes = fromBytes;
    this.#sent.resume(fromBytes);
    this.#sent.taken(fromBytes);
    this.#window.restart();
    this.#ring();
    this.#tunnel.carried?.(true);
    stream.tunnel = this;
    const { receivedBytes: replied, takenBytes: taken } = this.#replies;
    stream.opened("memory", { replied, taken }, { doneBytes: fromBytes, totalBytes: 0 });
  }

  #leave(stream: OutgoingStream): void {
    if (this.#carrier !== stream) return;
    this.#carrier = undefined;
    this.#tunnel.carried?.(false);
  }

  async #send(stream: OutgoingStream, fromBytes: number): Promise<void> {
    for (let at = fromBytes; ;) {
      const piece = await this.#next(stream, at);
      if (piece === undefined) break;
      const parts = [bytesPrefix(at, piece.length), piece];
      at += piece.length;
      this.#sentBytes = at;
      this.#window.sent(at, at - this.#sent.takenBytes);
      await stream.data({ type: TYPE.BYTES, flags: 0, parts }, piece.length);
    }
    stream.ended({});
    while (this.#sent.takenBytes < this.#sent.endBytes) await this.#wait(stream);
  }

  /** What follows the offset, once there is something; undefined at the end. */
  async #next(stream: OutgoingStream, offset: number): Promise<Buffer | undefined> {
    this.#check(stream);
    for (;;) {
      const kept = this.#sent.at(offset) ?? this.#fresh();
      if (kept !== undefined) return kept;
      if (this.#ahead.isOver) return undefined;
      await this.#wait(stream);
    }
  }

  #fresh(): Buffer | undefined {
    const { endBytes, takenBytes } = this.#sent;
    const hasRoom = this.#sent.hasRoomFor(0) && endBytes - takenBytes < this.#window.bytesMax;
    const piece = hasRoom ? this.#ahead.take() : undefined;
    if (piece !== undefined) this.#sent.add(piece);
    return piece;
  }

  async #wait(stream: OutgoingStream): Promise<void> {
    await this.#news.promise;
    this.#check(stream);
  }

  #check(stream: OutgoingStream): void {
    stream.signal.throwIfAborted();
    this.#checkOver();
    if (this.#carrier === stream) return;
    throw peerError("superseded", "another stream carries the tunnel");
  }

  #checkOver(): void {
    if (this.#over !== undefined) throw this.#over.reason ?? peerError("cancelled", "it is over");
  }

  #ring(): void {
    this.#news.resolve();
    this.#news = Promise.withResolvers();
  }

  /** REPLY has come. @throws `transfer.protocol-violation` */
  replied(stream: OutgoingStream, frame: Frame): void {
    if (stream === this.#carrier) this.#replies.take(frame);
  }

  /** TAKEN has come. @throws `transfer.protocol-violation` */
  taken(stream: OutgoingStream, frame: Frame): void {
    if (stream !== this.#carrier) return;
    const upTo = decodeTaken(frame);
    if (upTo > this.#sentBytes) throw violation(`${upTo} bytes taken of ${this.#sentBytes}`);
    this.#sent.taken(upTo);
    this.#window.taken(upTo);
    this.#ring();
  }

  /** Never rejects: a failure closes the tunnel. */
  async #pull(): Promise<void> {
    try {
      for await (const chunk of this.#tunnel.chunks) {
        await this.#ahead.put(chunk);
        if (this.isOver) return;
      }
      this.#ahead.end();
    } catch (cause) {
      await this.close(cause);
    }
  }

  /** Brings replies to the hypervisor. Never rejects: a failure closes the tunnel. */
  async #answer(): Promise<void> {
    try {
      for (;;) {
        const next = await this.#replies.next();
        if (next === undefined) return;
        await this.#tunnel.reply(next.bytes);
        this.#replies.delivered(next);
        this.#carrier?.send(TYPE.TAKEN, encodeTaken(this.#replies.takenBytes));
      }
    } catch (cause) {
      await this.close(cause);
    }
  }

  /** The first time counts. @param reason absent: all is well */
  async close(reason?: unknown): Promise<void> {
    if (this.#over !== undefined) return;
    this.#over = { reason };
    this.#ahead.end();
    this.#replies.close();
    this.#ring();
    await this.#tunnel.close(reason);
  }
}
