/** The return path of a tunnel: REPLY and TAKEN; see doc/data-protocol.md, "Memory". */
import { violation } from "./errors.ts";
import type { Frame } from "./frame.ts";
import { FRAME_COST_BYTES, REPLY_BYTES_MAX, REPLY_WINDOW_BYTES } from "./protocol.ts";

/** What a REPLY of so many bytes takes of the window. */
function costOf(length: number): number {
  return length + FRAME_COST_BYTES;
}

export function encodeTaken(amountBytes: number): Buffer {
  const payload = Buffer.allocUnsafe(4);
  payload.writeUInt32BE(amountBytes);
  return payload;
}

function decodeTaken({ payload }: Frame): number {
  return payload.readUInt32BE(0);
}

/** Replies that have come to the sender and are not delivered. */
export class ReplyQueue {
  readonly #waiting: Buffer[] = [];
  /** Of those in hand, too. */
  #windowBytes = REPLY_WINDOW_BYTES;
  #closed = false;
  #wake = (): void => undefined;

  /** @throws `transfer.protocol-violation` beyond the window */
  take({ payload }: Frame): void {
    this.#windowBytes -= costOf(payload.length);
    if (this.#windowBytes < 0) throw violation("more replies than the window covers");
    this.#waiting.push(payload);
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
  delivered(costBytes: number): void {
    this.#windowBytes += costBytes;
  }

  close(): void {
    this.#closed = true;
    this.#waiting.length = 0;
    this.#wake();
  }
}

/** What the receiver may still reply before the sender has delivered some of it. */
export class ReplyWindow {
  #leftBytes = REPLY_WINDOW_BYTES;
  #failure: { readonly reason: unknown } | undefined;
  #wake = (): void => undefined;
  #sent: Promise<void> = Promise.resolve();

  /** TAKEN has come. @throws `transfer.protocol-violation` for more than was sent */
  taken(frame: Frame): void {
    this.#leftBytes += decodeTaken(frame);
    if (this.#leftBytes > REPLY_WINDOW_BYTES) throw violation("replies taken that were not sent");
    this.#wake();
  }

  /**
   * Sends bytes in order, in pieces, each when the window covers it. Resolves when all are sent.
   *
   * @throws the reason of {@link fail}
   */
  async send(bytes: Uint8Array, send: (piece: Uint8Array) => void): Promise<void> {
    const before = this.#sent;
    const sending = (async () => {
      await before;
      for (let at = 0; at < bytes.length; at += REPLY_BYTES_MAX) {
        const piece = bytes.subarray(at, at + REPLY_BYTES_MAX);
        await this.#spend(costOf(piece.length));
        send(piece);
      }
      this.#check();
    })();
    this.#sent = sending.catch(() => undefined);
    await sending;
  }

  /** Whoever waits, or sends later, learns of it. */
  fail(reason: unknown): void {
    this.#failure ??= { reason };
    this.#wake();
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failure.reason;
  }

  async #spend(costBytes: number): Promise<void> {
    this.#check();
    while (this.#leftBytes < costBytes) {
      await new Promise<void>((resolve) => (this.#wake = resolve));
      this.#check();
    }
    this.#leftBytes -= costBytes;
  }
}
