/** Requests of one connection and their replies, at the client. */
import type { TesseraError } from "#core";
import type { Link } from "./dial.ts";
import { errorOfReply } from "./errors.ts";
import type { Descriptor } from "./extents.ts";
import { Permits } from "./permits.ts";
import { COMMAND, REQUEST_BYTES } from "./protocol.ts";
import { ReplyDecoder, type Outcome, type Pending } from "./reply-decoder.ts";
import type { Cookie } from "./replies.ts";
import { encodeRequest } from "./requests.ts";

/** "Tess": tells our cookies from those of nobody. */
const COOKIE_HIGH = 0x5465_7373;
const REQUEST_COST_BYTES = 512;

/** What is asked; a write has its bytes in `payload`. */
export interface Command extends Pending {
  readonly flags?: number;
  readonly payload?: Uint8Array;
}

interface Waiting extends Command {
  readonly resolve: (descriptors: readonly Descriptor[]) => void;
  readonly reject: (reason: unknown) => void;
}

export interface ChannelOptions {
  readonly structured: boolean;
  readonly requestsMax: number;
  readonly bytesMax: number;
  /** What errors are about. */
  readonly subject: string;
}

export class Channel {
  readonly #link: Link;
  readonly #subject: string;
  readonly #permits: Permits;
  readonly #waiting = new Map<number, Waiting>();
  #cookie = 0;
  #isCorked = false;
  #onIdle: () => void = () => undefined;

  constructor(link: Link, options: ChannelOptions) {
    this.#link = link;
    this.#subject = options.subject;
    this.#permits = new Permits(options.requestsMax, options.bytesMax);
    const decoder = new ReplyDecoder(options.structured, {
      find: ({ cookieHigh, cookieLow }) =>
        cookieHigh === COOKIE_HIGH ? this.#waiting.get(cookieLow) : undefined,
      done: (cookie, outcome) => this.#done(cookie, outcome),
    });
    const fail = (): void => this.#fail(link.signal.reason);
    link.signal.addEventListener("abort", fail, { once: true });
    link.serve((bytes) => decoder.push(bytes));
  }

  /** @throws the server's error, or the link's when it ends first */
  async call(command: Command): Promise<readonly Descriptor[]> {
    this.#link.signal.throwIfAborted();
    const permit = this.#permits.take(costOf(command));
    if (permit !== undefined) await permit;
    this.#link.signal.throwIfAborted();
    return await new Promise((resolve, reject) => {
      while (this.#waiting.has(this.#cookie)) this.#cookie = (this.#cookie + 1) >>> 0;
      const cookie = this.#cookie;
      this.#cookie = (cookie + 1) >>> 0;
      this.#waiting.set(cookie, { ...command, resolve, reject });
      this.#send(cookie, command);
    });
  }

  /** Refuses who waits for a turn, lets those under way end, and takes leave. */
  async finish(reason: TesseraError): Promise<void> {
    this.#permits.fail(reason);
    if (this.#waiting.size > 0) await new Promise<void>((resolve) => (this.#onIdle = resolve));
    if (this.#link.signal.aborted) return;
    this.#send(this.#cookie, { type: COMMAND.DISC, offset: 0, length: 0 });
    this.#link.leave(reason);
  }

  /** Requests of one turn of the program go out by one system call. */
  #send(cookieLow: number, command: Command): void {
    const { socket } = this.#link;
    if (!this.#isCorked) {
      this.#isCorked = true;
      socket.cork();
      queueMicrotask(() => {
        this.#isCorked = false;
        socket.uncork();
      });
    }
    const { type, flags = 0, offset, length, payload } = command;
    const header = Buffer.allocUnsafe(REQUEST_BYTES);
    const cookie = { cookieHigh: COOKIE_HIGH, cookieLow };
    encodeRequest({ type, flags, offset, length, ...cookie }, header);
    socket.write(header);
    if (payload !== undefined) socket.write(payload);
  }

  #done({ cookieLow }: Cookie, { errno, message, descriptors }: Outcome): void {
    const waiting = this.#waiting.get(cookieLow);
    if (waiting === undefined) return;
    this.#waiting.delete(cookieLow);
    if (errno === 0) waiting.resolve(descriptors);
    else waiting.reject(errorOfReply(errno, message, this.#subject));
    this.#permits.give(costOf(waiting));
    if (this.#waiting.size === 0) this.#onIdle();
  }

  #fail(reason: unknown): void {
    const failed = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { reject } of failed) reject(reason);
    this.#permits.fail(reason);
    this.#onIdle();
  }
}

function costOf({ target, payload }: Command): number {
  return REQUEST_COST_BYTES + (target?.length ?? payload?.length ?? 0);
}
