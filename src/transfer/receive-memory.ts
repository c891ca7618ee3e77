import type { MemoryTunnel } from "./contract.ts";
import { peerError, violation } from "./errors.ts";
import type { Frame } from "./frame.ts";
import { ContentsEndSchema, MemoryOpenedSchema, decodeBytes, decodeJson } from "./messages.ts";
import { PRIORITY, TYPE } from "./protocol.ts";
import type { IncomingStream, Receiver } from "./receiver-streams.ts";
import { ReplyWindow } from "./return-path.ts";

/** How much has come. */
type OnPiece = (figures: { readonly doneBytes: number; readonly wireBytes: number }) => void;

/** @throws `transfer.protocol-violation` for what is not the next bytes */
function bytesOf(frame: Frame, doneBytes: number): Buffer {
  if (frame.type !== TYPE.BYTES) throw violation(`frame type ${frame.type} in a tunnel`);
  const { offset, rawBytes, data } = decodeBytes(frame);
  if (offset !== doneBytes || data.length !== rawBytes || frame.flags !== 0) {
    throw violation(`${rawBytes} bytes at ${offset} where ${doneBytes} was due in a tunnel`);
  }
  return data;
}

/** A tunnel at the destination: one stream of one connection. */
class StreamTunnel implements MemoryTunnel {
  readonly chunks: AsyncIterable<Uint8Array> = {
    [Symbol.asyncIterator]: () => {
      const bytes = this.#bytes();
      return { next: () => bytes.next(), return: () => this.#unwanted() };
    },
  };
  readonly #receiver: Receiver;
  readonly #stream: IncomingStream;
  readonly #signal: AbortSignal;
  readonly #onPiece: OnPiece;
  readonly #replies = new ReplyWindow();
  readonly #over = Promise.withResolvers<void>();
  readonly #abort = (): void => this.#fail(this.#signal.reason);
  readonly #lost = (): void => this.#end(this.#receiver.connection.signal.reason);

  constructor(receiver: Receiver, signal: AbortSignal, onPiece: OnPiece) {
    this.#receiver = receiver;
    this.#signal = signal;
    this.#onPiece = onPiece;
    this.#stream = receiver.open({ kind: "memory", priority: PRIORITY.memory });
    this.#stream.replies = this.#replies;
    signal.addEventListener("abort", this.#abort, { once: true });
    receiver.connection.signal.addEventListener("abort", this.#lost, { once: true });
  }

  /** Resolves when nothing of the stream is held any more; never rejects. */
  get over(): Promise<void> {
    return this.#over.promise;
  }

  /** @throws what the sender says instead of OPENED */
  async opened(): Promise<void> {
    try {
      const frame = await this.#stream.next();
      if (frame.type !== TYPE.OPENED) throw violation(`frame type ${frame.type} before OPENED`);
      decodeJson(frame, MemoryOpenedSchema);
    } catch (cause) {
      this.#end(cause);
      throw cause;
    }
  }

  /** Whoever takes the chunks wants no more of them: a generator not begun would not learn of it. */
  async #unwanted(): Promise<IteratorReturnResult<void>> {
    await this.close();
    return { done: true, value: undefined };
  }

  async *#bytes(): AsyncGenerator<Uint8Array, void, undefined> {
    let doneBytes = 0;
    try {
      for await (const frame of this.#stream.frames()) {
        if (frame.type === TYPE.END) {
          decodeJson(frame, ContentsEndSchema);
          this.#end(peerError("cancelled", "the tunnel is over"));
          return;
        }
        const bytes = bytesOf(frame, doneBytes);
        doneBytes += bytes.length;
        this.#onPiece({ doneBytes, wireBytes: this.#stream.wireBytes });
        yield bytes;
        this.#stream.release(frame);
      }
    } catch (cause) {
      this.#end(cause);
      throw cause;
    }
  }

  reply(bytes: Uint8Array): Promise<void> {
    return this.#replies.send(bytes, (piece) => this.#stream.send(TYPE.REPLY, piece));
  }

  close(reason: unknown = peerError("cancelled", "the tunnel was closed")): Promise<void> {
    this.#fail(reason);
    return Promise.resolve();
  }

  #fail(reason: unknown): void {
    this.#stream.fail(reason);
    this.#end(reason);
  }

  /** The first time counts. After END the sender need not be told. */
  #end(reason: unknown): void {
    this.#signal.removeEventListener("abort", this.#abort);
    this.#receiver.connection.signal.removeEventListener("abort", this.#lost);
    this.#replies.fail(reason);
    this.#receiver.done(this.#stream, reason);
    this.#over.resolve();
  }
}

/**
 * Opens a tunnel over a connection and hands it to `use` once the sender has opened its end. Resolves
 * when the tunnel is over.
 *
 * @throws what the sender says instead of opening it
 */
export async function receiveMemory(
  receiver: Receiver,
  use: (tunnel: MemoryTunnel) => void,
  { signal, onPiece }: { readonly signal: AbortSignal; readonly onPiece: OnPiece },
): Promise<void> {
  const tunnel = new StreamTunnel(receiver, signal, onPiece);
  await tunnel.opened();
  use(tunnel);
  await tunnel.over;
}
