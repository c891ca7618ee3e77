import type { MemoryTunnel } from "./contract.ts";
import { isRetryable, peerError, violation } from "./errors.ts";
import type { Frame } from "./frame.ts";
import { ContentsEndSchema, MemoryOpenedSchema, decodeBytes, decodeJson } from "./messages.ts";
import { PRIORITY, TUNNEL_TOLD_BYTES, TYPE } from "./protocol.ts";
import type { IncomingStream, Receiver } from "./receiver-streams.ts";
import { ReplyPath, encodeTaken } from "./return-path.ts";

export interface TunnelOptions {
  /** Names the tunnel; of the form of a token, and never used before. */
  readonly id: string;
  /** A connection of the session; dialled where there is none. */
  readonly acquire: (signal: AbortSignal) => Promise<Receiver>;
  /** Ends the tunnel. */
  readonly signal: AbortSignal;
  /** How much has come. */
  readonly onPiece: (figures: { readonly doneBytes: number; readonly wireBytes: number }) => void;
  /** The connection broke, and another one is to carry the tunnel. */
  readonly onCut: (cause: unknown) => void;
}

/** What carries a tunnel at the moment. */
interface Carrier {
  readonly receiver: Receiver;
  readonly stream: IncomingStream;
}

/** @throws `transfer.protocol-violation` for what is not the next bytes */
function bytesOf(frame: Frame, doneBytes: number): Buffer {
  if (frame.type !== TYPE.BYTES) throw violation(`frame type ${frame.type} in a tunnel`);
  const { offset, rawBytes, data } = decodeBytes(frame);
  if (offset !== doneBytes || data.length !== rawBytes || frame.flags !== 0) {
    throw violation(`${rawBytes} bytes at ${offset} where ${doneBytes} was due in a tunnel`);
  }
  return data;
}

/** The connection has gone, and another one may carry the tunnel on. */
function isCut({ connection }: Receiver): boolean {
  return connection.signal.aborted && isRetryable(connection.signal.reason);
}

/** A tunnel at the destination: streams carry it, one after the other. */
class ReceiverTunnel implements MemoryTunnel {
  readonly chunks: AsyncIterable<Uint8Array> = {
    [Symbol.asyncIterator]: () => {
      const bytes = this.#bytes();
      return { next: () => bytes.next(), return: () => this.#unwanted() };
    },
  };
  readonly #options: TunnelOptions;
  readonly #replies = new ReplyPath();
  readonly #life = new AbortController();
  readonly #over = Promise.withResolvers<void>();
  readonly #abort = (): void => this.#end(this.#options.signal.reason);
  #carrier: Carrier | undefined;
  #doneBytes = 0;
  #toldBytes = 0;
  /** Of streams that carry the tunnel no more. */
  #pastWireBytes = 0;

  constructor(options: TunnelOptions) {
    this.#options = options;
    options.signal.addEventListener("abort", this.#abort, { once: true });
  }

  /** Resolves when nothing of the tunnel is held any more; never rejects. */
  get over(): Promise<void> {
    return this.#over.promise;
  }

  /** @throws what the sender says instead of OPENED, and why there is no connection */
  async open(): Promise<void> {
    try {
      this.#options.signal.throwIfAborted();
      await this.#carry();
    } catch (cause) {
      this.#end(cause);
      throw cause;
    }
  }

  /** Lets another stream carry the tunnel. */
  async #carry(): Promise<Carrier> {
    for (;;) {
      const receiver = await this.#options.acquire(this.#life.signal);
      this.#life.signal.throwIfAborted();
      const carrier = { receiver, stream: this.#openOver(receiver) };
      try {
        await this.#opened(carrier.stream);
        return carrier;
      } catch (cause) {
        this.#leave(carrier, cause);
      }
    }
  }

  #openOver(receiver: Receiver): IncomingStream {
    const { id } = this.#options;
    const place = { tunnel: id, from: this.#doneBytes };
    const stream = receiver.open({ kind: "memory", ...place, priority: PRIORITY.memory });
    stream.replies = this.#replies;
    this.#carrier = { receiver, stream };
    return stream;
  }

  async #opened(stream: IncomingStream): Promise<void> {
    const frame = await stream.next();
    if (frame.type !== TYPE.OPENED) throw violation(`frame type ${frame.type} before OPENED`);
    const opened = decodeJson(frame, MemoryOpenedSchema);
    this.#replies.resume(opened, (payload) => stream.send(TYPE.REPLY, payload));
  }

  /** @throws the cause, unless another connection may cure it */
  #leave({ receiver, stream }: Carrier, cause: unknown): void {
    this.#life.signal.throwIfAborted();
    if (!isCut(receiver)) throw cause;
    this.#replies.pause();
    this.#carrier = undefined;
    this.#pastWireBytes += stream.wireBytes;
    receiver.done(stream);
    this.#options.onCut(cause);
  }

  /** Whoever takes the chunks wants no more of them: a generator not begun would not learn of it. */
  async #unwanted(): Promise<IteratorReturnResult<void>> {
    await this.close();
    return { done: true, value: undefined };
  }

  async *#bytes(): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      for (;;) {
        const { frame, stream } = await this.#next();
        if (frame.type === TYPE.END) {
          decodeJson(frame, ContentsEndSchema);
          break;
        }
        const bytes = bytesOf(frame, this.#doneBytes);
        this.#doneBytes += bytes.length;
        const wireBytes = this.#pastWireBytes + stream.wireBytes;
        this.#options.onPiece({ doneBytes: this.#doneBytes, wireBytes });
        yield bytes;
        stream.release(frame);
        if (this.#doneBytes - this.#toldBytes >= TUNNEL_TOLD_BYTES) this.#tellTaken();
      }
      this.#tellTaken();
      this.#end(peerError("cancelled", "the tunnel is over"));
    } catch (cause) {
      this.#end(cause);
      throw cause;
    }
  }

  /** The next frame, over whatever connection it comes. */
  async #next(): Promise<{ readonly frame: Frame; readonly stream: IncomingStream }> {
    for (;;) {
      this.#life.signal.throwIfAborted();
      const carrier = this.#carrier ?? (await this.#carry());
      try {
        return { frame: await carrier.stream.next(), stream: carrier.stream };
      } catch (cause) {
        this.#leave(carrier, cause);
      }
    }
  }

  #tellTaken(): void {
    this.#toldBytes = this.#doneBytes;
    this.#carrier?.stream.send(TYPE.TAKEN, encodeTaken(this.#doneBytes));
  }

  reply(bytes: Uint8Array): Promise<void> {
    return this.#replies.send(bytes);
  }

  close(reason: unknown = peerError("cancelled", "the tunnel was closed")): Promise<void> {
    this.#end(reason);
    return Promise.resolve();
  }

  /** The first time counts. After END the sender need not be told. */
  #end(reason: unknown): void {
    if (this.#life.signal.aborted) return;
    this.#life.abort(reason);
    this.#options.signal.removeEventListener("abort", this.#abort);
    this.#replies.fail(reason);
    this.#carrier?.stream.fail(reason);
    this.#carrier?.receiver.done(this.#carrier.stream, reason);
    this.#over.resolve();
  }
}

/**
 * Opens a tunnel and hands it to `use` once the sender has opened its end; it outlives cuts while its
 * chunks are taken. Resolves when the tunnel is over.
 *
 * @throws what the sender says instead of opening it, and why no connection can be had
 */
export async function receiveMemory(
  options: TunnelOptions,
  use: (tunnel: MemoryTunnel) => void,
): Promise<void> {
  const tunnel = new ReceiverTunnel(options);
  await tunnel.open();
  use(tunnel);
  await tunnel.over;
}
