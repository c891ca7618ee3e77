import type { TLSSocket } from "node:tls";
import type { Clock } from "#core";
import { peerError } from "./errors.ts";
import type { RateLimiter } from "./limiter.ts";

/** Bytes handed to the socket and not yet taken by the system, above which data wait. */
const PENDING_BYTES_MAX = 2 ** 20;
/** A peer that makes us answer but reads nothing must not fill our memory. */
const CONTROL_BYTES_MAX = 8 * 2 ** 20;

/** Puts whole frames on a socket: data one after the other with backpressure, control between. */
export class SocketWriter {
  readonly #clock: Clock;
  readonly #socket: TLSSocket;
  readonly #signal: AbortSignal;
  readonly #held: Uint8Array[] = [];
  #heldBytes = 0;
  #busy = false;
  #turn: Promise<void> = Promise.resolve();
  #pendingBytes = 0;
  #wake = (): void => undefined;
  /** Clock reading of the last write. */
  sent_ms: number;

  constructor(clock: Clock, socket: TLSSocket, signal: AbortSignal) {
    this.#clock = clock;
    this.#socket = socket;
    this.#signal = signal;
    this.sent_ms = clock.monotonic();
    signal.addEventListener("abort", () => this.#wake(), { once: true });
  }

  /** A whole short frame; it waits only for the frame that is under way. @throws `transfer.stalled` */
  control(frame: Uint8Array): void {
    if (this.#heldBytes + this.#pendingBytes > CONTROL_BYTES_MAX) {
      throw peerError("stalled", "the peer asks without reading the answers");
    }
    if (!this.#busy) {
      this.#write([frame]);
      return;
    }
    this.#held.push(frame);
    this.#heldBytes += frame.length;
  }

  /** A whole frame in parts. Frames go in the order of the calls. */
  data(parts: readonly Uint8Array[], limiter: RateLimiter): Promise<void> {
    const turn = this.#turn.then(() => this.#frame(parts, limiter));
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  async #frame(parts: readonly Uint8Array[], limiter: RateLimiter): Promise<void> {
    this.#busy = true;
    try {
      for (const slice of slices(parts, limiter.sliceBytes)) {
        await limiter.take(
          slice.reduce((sum, part) => sum + part.length, 0),
          this.#signal,
        );
        await this.#room();
        this.#write(slice);
      }
    } finally {
      this.#busy = false;
      if (!this.#signal.aborted && this.#held.length > 0) this.#write(this.#held.splice(0));
      this.#heldBytes = 0;
    }
  }

  async #room(): Promise<void> {
    while (this.#pendingBytes > PENDING_BYTES_MAX && !this.#signal.aborted) {
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    this.#signal.throwIfAborted();
  }

  #write(parts: readonly Uint8Array[]): void {
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    this.#pendingBytes += length;
    this.sent_ms = this.#clock.monotonic();
    this.#socket.cork();
    parts.forEach((part, index) => {
      if (index < parts.length - 1) this.#socket.write(part);
      else this.#socket.write(part, () => this.#written(length));
    });
    this.#socket.uncork();
  }

  #written(length: number): void {
    this.#pendingBytes -= length;
    this.#wake();
  }
}

/** Cuts parts into groups of at most `sliceBytes`; one group when everything fits. */
function* slices(parts: readonly Uint8Array[], sliceBytes: number): Generator<Uint8Array[]> {
  let group: Uint8Array[] = [];
  let room = sliceBytes;
  for (const part of parts) {
    for (let at = 0; at < part.length;) {
      const piece = part.subarray(at, at + room);
      group.push(piece);
      at += piece.length;
      room -= piece.length;
      if (room > 0) continue;
      yield group;
      group = [];
      room = sliceBytes;
    }
  }
  if (group.length > 0) yield group;
}
