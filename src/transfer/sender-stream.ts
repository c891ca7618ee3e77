import type { EncodingShares } from "#core";
import type { TransferProgress } from "./contract.ts";
import type { Connection } from "./connection.ts";
import { violation } from "./errors.ts";
import type { RateLimiter } from "./limiter.ts";
import { encodeJson } from "./messages.ts";
import type { LinkMeter } from "./meter.ts";
import {
  CREDIT_BYTES_MAX,
  FRAME_COST_BYTES,
  HEADER_BYTES,
  PRIORITY,
  TYPE,
  type FrameType,
  type Priority,
} from "./protocol.ts";
import type { ReadQueue } from "./send-reads.ts";
import type { SenderTunnel } from "./sender-tunnel.ts";
import type { DataFrame } from "./writer.ts";

/** What all streams of a session at its sender share. */
export interface SenderLink {
  /** Undefined: no limit. */
  readonly limiter: RateLimiter | undefined;
  readonly meter: LinkMeter;
  readonly onProgress: (progress: TransferProgress) => void;
}

/** One stream at the sender: its credit, its frames, its progress. */
export class OutgoingStream {
  readonly id: number;
  /** Aborts when the receiver gives the stream up or the connection ends. */
  readonly signal: AbortSignal;
  readonly #connection: Connection;
  readonly #link: SenderLink;
  readonly #cancelled = new AbortController();
  #creditBytes: number;
  #wake = (): void => undefined;
  #progress = { stream: "", doneBytes: 0, totalBytes: 0, wireBytes: 0 };
  readonly #encodings: Record<string, { rawBytes: number; wireBytes: number }> = {};
  readonly #want = Promise.withResolvers<Buffer>();
  #wantCame = false;
  readonly #priority: Priority;
  /** What the receiver has asked for; only of a stream of blocks. */
  reads: ReadQueue | undefined;
  /** What it carries, once it does; only of a stream of memory. */
  tunnel: SenderTunnel | undefined;

  constructor(
    connection: Connection,
    link: SenderLink,
    open: {
      readonly id: number;
      readonly credit: number;
      readonly priority?: Priority | undefined;
    },
  ) {
    this.#connection = connection;
    this.#link = link;
    this.id = open.id;
    this.#creditBytes = open.credit;
    this.#priority = open.priority ?? PRIORITY.background;
    this.signal = AbortSignal.any([connection.signal, this.#cancelled.signal]);
    this.#want.promise.catch(() => undefined);
    const abort = (): void => {
      this.#wake();
      this.#want.reject(this.signal.reason as Error);
    };
    this.signal.addEventListener("abort", abort, { once: true });
  }

  /** The payload of WANT has come. @throws `transfer.protocol-violation` when it is the second */
  want(payload: Buffer): void {
    if (this.#wantCame) throw violation("a second WANT of a stream");
    this.#wantCame = true;
    this.#want.resolve(payload);
  }

  /** Waits for WANT. @throws why the stream has ended before */
  wanted(): Promise<Buffer> {
    return this.#want.promise;
  }

  /** @throws `transfer.protocol-violation` when the credit grows beyond its bound */
  addCredit(amountBytes: number): void {
    this.#creditBytes += amountBytes;
    if (this.#creditBytes > CREDIT_BYTES_MAX) throw violation("a stream's credit is above 2^31");
    this.#wake();
  }

  /** The receiver has ended it; its connection may live. */
  get isGivenUp(): boolean {
    return this.#cancelled.signal.aborted;
  }

  cancel(reason: Error): void {
    this.#cancelled.abort(reason);
  }

  opened(name: string, content: object, progress: Progress): void {
    this.#progress = { ...this.#progress, stream: name, ...progress };
    this.#connection.send(TYPE.OPENED, this.id, encodeJson(content));
  }

  /** Sends a short frame, which costs no credit. */
  send(type: FrameType, payload: Uint8Array): void {
    this.#connection.send(type, this.id, payload);
  }

  /** What this stream's bytes were compressed with so far. */
  get encodings(): EncodingShares {
    return this.#encodings;
  }

  ended(content: object): void {
    this.#connection.send(TYPE.END, this.id, encodeJson(content));
    const { doneBytes, totalBytes } = this.#progress;
    this.#report({ doneBytes: Math.max(doneBytes, totalBytes) });
  }

  /**
   * Sends a frame of data within the credit, the limit and what the link takes. `encoding` is
   * the level that it was compressed with, 0 for none, or as in `EncodingShares`; `onFree` is called when nothing reads the parts any more.
   */
  async data(
    frame: Pick<DataFrame, "type" | "flags" | "parts" | "onFree">,
    rawBytes: number,
    encoding: number | string = 0,
  ): Promise<void> {
    const payloadBytes = frame.parts.reduce((sum, part) => sum + part.length, 0);
    const { limiter, meter } = this.#link;
    // A receiver that is slow to give credit says nothing about the link.
    await this.#spend(payloadBytes + FRAME_COST_BYTES);
    const common = { stream: this.id, priority: this.#priority, limiter };
    await meter.waiting(() => this.#connection.sendData({ ...frame, ...common }));
    this.#account(encoding, rawBytes, payloadBytes + HEADER_BYTES);
    this.#report({
      doneBytes: this.#progress.doneBytes + rawBytes,
      wireBytes: this.#progress.wireBytes + payloadBytes + HEADER_BYTES,
    });
  }

  #account(encoding: number | string, rawBytes: number, wireBytes: number): void {
    const direct = encoding === 0 ? "plain" : `direct-${encoding}`;
    const name = typeof encoding === "string" ? encoding : direct;
    const share = (this.#encodings[name] ??= { rawBytes: 0, wireBytes: 0 });
    share.rawBytes += rawBytes;
    share.wireBytes += wireBytes;
  }

  #report(change: Partial<Omit<TransferProgress, "stream">>): void {
    this.#progress = { ...this.#progress, ...change };
    this.#link.onProgress({ ...this.#progress, encodings: this.#encodings });
  }

  async #spend(costBytes: number): Promise<void> {
    this.signal.throwIfAborted();
    while (this.#creditBytes < costBytes) {
      await new Promise<void>((resolve) => (this.#wake = resolve));
      this.signal.throwIfAborted();
    }
    this.#creditBytes -= costBytes;
  }
}

interface Progress {
  readonly doneBytes: number;
  readonly totalBytes: number;
}
