/** The return path of a tunnel, and what both sides tell; see doc/data-protocol.md, "Memory". */
import { violation } from "./errors.ts";
import type { Frame } from "./frame.ts";
import { readSize } from "./messages.ts";
import { REPLY_BYTES_MAX, REPLY_PREFIX_BYTES, REPLY_WINDOW_BYTES } from "./protocol.ts";
import { costOf, SentBytes } from "./sent-bytes.ts";

export function encodeTaken(takenBytes: number): Buffer {
  const payload = Buffer.allocUnsafe(8);
  payload.writeBigUInt64BE(BigInt(takenBytes));
  return payload;
}

/** @throws `transfer.protocol-violation` */
export function decodeTaken({ payload }: Frame): number {
  return readSize(payload, 0);
}

export function encodeReply(offset: number, bytes: Uint8Array): Buffer {
  const prefix = Buffer.allocUnsafe(REPLY_PREFIX_BYTES);
  prefix.writeBigUInt64BE(BigInt(offset));
  return Buffer.concat([prefix, bytes]);
}

/** Replies that have come to the sender and are not delivered. */
export class ReplyQueue {
  readonly #waiting: Buffer[] = [];
  /** Of those in hand, too. */
  #windowBytes = REPLY_WINDOW_BYTES;
  #receivedBytes = 0;
  #takenBytes = 0;
  #closed = false;
  #wake = (): void => undefined;

  /** All that has come. */
  get receivedBytes(): number {
    return this.#receivedBytes;
  }

  /** All that the hypervisor has taken. */
  get takenBytes(): number {
    return this.#takenBytes;
  }

  /** @throws `transfer.protocol-violation` beyond the window, and for what is not next */
  take({ payload }: Frame): void {
    const offset = readSize(payload, 0);
    const bytes = payload.subarray(REPLY_PREFIX_BYTES);
    if (offset !== this.#receivedBytes) {
      throw violation(`a reply at ${offset} where ${this.#receivedBytes} was due`);
    }
    this.#windowBytes -= costOf(bytes.length);
    if (this.#windowBytes < 0) throw violation("more replies than the window covers");
    this.#receivedBytes += bytes.length;
    this.#waiting.push(bytes);
    this.#wake();
  }

  /** All that waits, joined, and what it takes of the window; undefined once closed. */
  async next(): Promise<{ readonly bytes: Buffer; readonly costBytes: number } | undefined> {
    while (this.#waiting.length === 0 && !this.#closed) {
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    if (this.#closed) return undefined;
    const replies = this.#waiting.splice(0);
    const costBytes = replies.reduce((sum, { length }) => sum + costOf(length), 0);
    return { bytes: Buffer.concat(replies), costBytes };
  }

  /** They have been delivered: as much may come again. */
  delivered({ bytes, costBytes }: { readonly bytes: Buffer; readonly costBytes: number }): void {
    this.#windowBytes += costBytes;
    this.#takenBytes += bytes.length;
  }

  close(): void {
    this.#closed = true;
    this.#waiting.length = 0;
    this.#wake();
  }
}

/** Sends bytes of the return path over whatever connection there is. */
type SendReply = (payload: Buffer) => void;

/** The return path at the receiver: what the sender has not delivered is kept, within the window. */
export class ReplyPath {
  readonly #sent = new SentBytes(REPLY_WINDOW_BYTES);
  #send: SendReply | undefined;
  #failure: { readonly reason: unknown } | undefined;
  #wake = (): void => undefined;
  #former: Promise<void> = Promise.resolve();

  /** TAKEN has come. @throws `transfer.protocol-violation` for more than was sent */
  taken(frame: Frame): void {
    this.#taken(decodeTaken(frame));
  }

  #taken(upTo: number): void {
    this.#sent.taken(upTo);
    this.#wake();
  }

  /**
   * Goes on over another stream, whose OPENED says what the sender has and its hypervisor has taken.
   *
   * @throws `transfer.protocol-violation` for what cannot be
   */
  resume(opened: { readonly replied: number; readonly taken: number }, send: SendReply): void {
    if (opened.taken > opened.replied) throw violation("more replies taken than have come");
    this.#taken(opened.taken);
    this.#sent.resume(opened.replied);
    for (let at = opened.replied; ;) {
      const piece = this.#sent.at(at);
      if (piece === undefined) break;
      send(encodeReply(at, piece));
      at += piece.length;
    }
    this.#send = send;
  }

  /** Nothing is sent until {@link resume}; what is replied meanwhile is kept. */
  pause(): void {
    this.#send = undefined;
  }

  /**
   * Sends bytes in order, in pieces, each when the window covers it. Resolves when all are sent or
   * kept to be sent.
   *
   * @throws the reason of {@link fail}
   */
  async send(bytes: Uint8Array): Promise<void> {
    const former = this.#former;
    const sending = (async () => {
      await former;
      for (let at = 0; at < bytes.length; at += REPLY_BYTES_MAX) {
        const piece = Buffer.from(bytes.subarray(at, at + REPLY_BYTES_MAX));
        await this.#room(piece.length);
        const offset = this.#sent.add(piece);
        this.#send?.(encodeReply(offset, piece));
      }
      this.#check();
    })();
    this.#former = sending.catch(() => undefined);
    await sending;
  }

  /** Whoever waits, or sends later, learns of it. */
  fail(reason: unknown): void {
    this.#failure ??= { reason };
    this.#send = undefined;
    this.#wake();
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failure.reason;
  }

  async #room(lengthBytes: number): Promise<void> {
    this.#check();
    while (!this.#sent.hasRoomFor(lengthBytes)) {
      await new Promise<void>((resolve) => (this.#wake = resolve));
      this.#check();
    }
  }
}
