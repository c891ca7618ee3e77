import { hash } from "node:crypto";
import { endOf } from "#core";
import { isZero, type BlockDevice } from "#block";
import { decodeRead, decodeReadId, encodeReadId, type BlockRead } from "./block-reads.ts";
import { compress } from "./compression.ts";
import { violation } from "./errors.ts";
import type { Frame } from "./frame.ts";
import { FLAG_SAME, FLAG_ZSTD, READS_MAX, TYPE } from "./protocol.ts";
import type { LevelNow } from "./send-blob.ts";
import type { OutgoingStream } from "./sender-stream.ts";

/** Reads that are in hand at a time. */
const WORKERS = 4;

/** The reads that a receiver has asked for on one stream and that are not answered. */
export class ReadQueue {
  /** In the order in which they came. */
  readonly #waiting = new Map<number, BlockRead>();
  readonly #inHand = new Set<number>();
  #wake = (): void => undefined;

  /** READ or CANCEL. @throws `transfer.protocol-violation` */
  take(frame: Frame): void {
    if (frame.type === TYPE.CANCEL) {
      const id = decodeReadId(frame);
      this.#waiting.delete(id);
      this.#inHand.delete(id);
      return;
    }
    const read = decodeRead(frame);
    if (this.isWanted(read.id) || this.#waiting.has(read.id)) throw violation("a READ twice");
    if (this.#waiting.size >= READS_MAX) throw violation("too many READs at a time");
    this.#waiting.set(read.id, read);
    this.#wake();
  }

  /** The next read to be answered; it is in hand until {@link answered}. */
  async next(signal: AbortSignal): Promise<BlockRead> {
    for (;;) {
      signal.throwIfAborted();
      const first = this.#waiting.values().next();
      if (first.done !== true) {
        this.#waiting.delete(first.value.id);
        this.#inHand.add(first.value.id);
        return first.value;
      }
      await this.#news(signal);
    }
  }

  /** False for one in hand that has been cancelled. */
  isWanted(id: number): boolean {
    return this.#inHand.has(id);
  }

  answered(id: number): void {
    this.#inHand.delete(id);
  }

  /** Several may wait at a time. */
  #news(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const former = this.#wake;
      const wake = (): void => {
        signal.removeEventListener("abort", wake);
        former();
        resolve();
      };
      this.#wake = () => {
        this.#wake = () => undefined;
        wake();
      };
      signal.addEventListener("abort", wake, { once: true });
    });
  }
}

/**
 * Answers the reads of a stream, as they are ready, until the receiver gives the stream up or the
 * connection ends. Zeroes are told, not sent, and so is what the receiver has.
 *
 * @throws `transfer.protocol-violation` for a read behind the end, what the device throws, and the
 *   reason why the stream has ended
 */
export async function sendReads(
  stream: OutgoingStream,
  device: BlockDevice,
  { reads, level }: { readonly reads: ReadQueue; readonly level: LevelNow },
): Promise<void> {
  const { sizeBytes } = device;
  stream.opened("blocks", { sizeBytes }, { doneBytes: 0, totalBytes: sizeBytes });
  const failed = new AbortController();
  const signal = AbortSignal.any([stream.signal, failed.signal]);
  let sent: Promise<void> = Promise.resolve();
  // One answer after the other: a stream's credit is spent in order.
  const send = (answer: () => Promise<void>): Promise<void> => {
    sent = sent.then(answer);
    return sent;
  };
  const work = async (): Promise<void> => {
    for (;;) {
      const read = await reads.next(signal);
      await answer(read, { stream, device, reads, level, send });
      reads.answered(read.id);
    }
  };
  const workers = Array.from({ length: WORKERS }, () =>
    work().catch((cause: unknown) => {
      failed.abort(cause);
      throw cause;
    }),
  );
  await Promise.allSettled(workers);
  stream.signal.throwIfAborted();
  throw failed.signal.reason;
}

interface Answering {
  readonly stream: OutgoingStream;
  readonly device: BlockDevice;
  readonly reads: ReadQueue;
  readonly level: LevelNow;
  readonly send: (answer: () => Promise<void>) => Promise<void>;
}

async function answer(read: BlockRead, context: Answering): Promise<void> {
  const { stream, device, reads, level, send } = context;
  if (endOf(read) > device.sizeBytes) throw violation("a READ behind the end of the disk");
  const bytes = Buffer.allocUnsafe(read.length);
  await device.read(bytes, read.offset);
  const zero = isZero(bytes);
  const same = !zero && isKnown(read, bytes);
  const told = zero || same;
  const chosen = told || !reads.isWanted(read.id) ? undefined : level();
  const packed = chosen === undefined ? undefined : await compress(bytes, chosen);
  const parts = [encodeReadId(read.id), ...(told ? [] : [packed ?? bytes])];
  const flags = (same ? FLAG_SAME : 0) | (packed === undefined ? 0 : FLAG_ZSTD);
  await send(async () => {
    if (!reads.isWanted(read.id)) return;
    await stream.data({ type: TYPE.DATA, flags, parts }, read.length, packed ? chosen : 0);
  });
}

function isKnown({ known }: BlockRead, bytes: Buffer): boolean {
  return known !== undefined && hash("sha256", bytes, "buffer").equals(known);
}
