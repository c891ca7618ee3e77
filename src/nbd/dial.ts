import { connect, type NetConnectOpts, type Socket } from "node:net";
import type { Clock } from "#core";
import { addressText } from "./address.ts";
import type { NbdAddress } from "./contract.ts";
import { linkLost, peerError } from "./errors.ts";

const READ_BYTES = 256 * 1024;
/** What a server may say before it is read. */
const EARLY_BYTES_MAX = 2 ** 20;

/**
 * A socket that is read into one buffer again and again. Until `serve` is called, what comes is
 * kept for `take`. It ends once: `signal` aborts with the reason, a TesseraError.
 */
export class Link {
  readonly socket: Socket;
  readonly #ended = new AbortController();
  readonly #closed: Promise<void>;
  #early: Buffer = Buffer.alloc(0);
  #wake: () => void = () => undefined;
  #taker: ((bytes: Buffer) => void) | undefined;

  constructor(address: NbdAddress) {
    const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
    const callback = (length: number): boolean => {
      this.#came(buffer.subarray(0, length));
      return true;
    };
    const where = "path" in address ? address : { ...address, noDelay: true };
    // The types know `onread` only for TCP, Node for both.
    const options = { ...where, onread: { buffer, callback } } as NetConnectOpts;
    this.socket = connect(options);
    this.#closed = new Promise((resolve) => this.socket.once("close", () => resolve()));
    this.socket.on("error", (cause: Error) => this.end(linkLost(cause)));
    this.socket.on("end", () => this.end(linkLost()));
    this.socket.on("close", () => this.end(linkLost()));
  }

  get signal(): AbortSignal {
    return this.#ended.signal;
  }

  /** Resolves when the socket is closed. */
  get closed(): Promise<void> {
    return this.#closed;
  }

  /** Ends the connection at once, for this reason. */
  end(reason: unknown): void {
    if (!this.signal.aborted) this.#ended.abort(reason);
    this.#early = Buffer.alloc(0);
    this.#wake();
    this.socket.destroy();
  }

  /** Ends the connection, for this reason, once all is sent and the server has hung up. */
  leave(reason: unknown): void {
    this.socket.end();
    if (!this.signal.aborted) this.#ended.abort(reason);
  }

  /** The next bytes. @throws the reason of `signal` */
  async take(length: number): Promise<Buffer> {
    while (this.#early.length < length) {
      this.signal.throwIfAborted();
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    const bytes = this.#early.subarray(0, length);
    this.#early = this.#early.subarray(length);
    return bytes;
  }

  /** From now on all bytes go to `taker`, valid during the call; what it throws ends the link. */
  serve(taker: (bytes: Buffer) => void): void {
    this.#taker = taker;
    const early = this.#early;
    this.#early = Buffer.alloc(0);
    if (early.length > 0) this.#came(early);
  }

  #came(bytes: Buffer): void {
    if (this.signal.aborted) return;
    try {
      if (this.#taker === undefined) this.#keep(bytes);
      else this.#taker(bytes);
    } catch (cause) {
      this.end(cause);
    }
  }

  #keep(bytes: Buffer): void {
    if (this.#early.length + bytes.length > EARLY_BYTES_MAX) {
      throw peerError("protocol-violation", "NBD: the server says too much before it is asked");
    }
    this.#early = Buffer.concat([this.#early, bytes]);
    this.#wake();
  }
}

/** @throws `nbd.unreachable`, `nbd.stalled` (peer), or the signal's reason */
export async function dial(
  clock: Clock,
  address: NbdAddress,
  limits: { readonly timeout_ms: number; readonly signal?: AbortSignal | undefined },
): Promise<Link> {
  const { timeout_ms, signal } = limits;
  signal?.throwIfAborted();
  const where = addressText(address);
  const link = new Link(address);
  const stop = limitTime(clock, link, { timeout_ms, where });
  const abort = (): void => link.end(signal?.reason);
  signal?.addEventListener("abort", abort, { once: true });
  try {
    await new Promise<void>((resolve, reject) => {
      link.socket.once("connect", () => resolve());
      link.signal.addEventListener("abort", () => reject(link.signal.reason), { once: true });
    });
    return link;
  } catch (cause) {
    const message = `no NBD server answers at ${where}`;
    if (signal?.aborted === true) throw cause;
    throw peerError("unreachable", message, { subject: where, cause });
  } finally {
    stop();
    signal?.removeEventListener("abort", abort);
  }
}

/** Ends the link when the returned function is not called in time. */
export function limitTime(
  clock: Clock,
  link: Link,
  { timeout_ms, where }: { readonly timeout_ms: number; readonly where: string },
): () => void {
  return clock.after(timeout_ms, () => {
    const message = `the NBD server at ${where} did not answer in time`;
    link.end(peerError("stalled", message, { subject: where }));
  });
}
