import { linkBitsPerSecond } from "./meter.ts";
import type { DataSource, MemoryTunnel } from "./contract.ts";
import { peerError } from "./errors.ts";
import { bytesPrefix } from "./messages.ts";
import { FRAME_COST_BYTES, TYPE } from "./protocol.ts";
import { ReplyQueue, encodeTaken } from "./return-path.ts";
import type { OutgoingStream, SenderLink } from "./sender-stream.ts";

/** Most bytes that are joined to one frame. */
const FRAME_BYTES_MAX = 256 * 1024;
/**
 * What is taken from the hypervisor ahead of the link: what the link carries in this time, within
 * bounds. A page that a guest waits for comes behind it, in the same stream.
 */
const AHEAD_ms = 20;
const AHEAD_BYTES_MIN = 64 * 1024;
const AHEAD_BYTES_MAX = 512 * 1024;

/** Undefined where the rate is not known. Pure. */
export function aheadBytes(bitsPerSecond: number | undefined): number {
  if (bitsPerSecond === undefined) return AHEAD_BYTES_MIN;
  const bytes = (bitsPerSecond / 8) * (AHEAD_ms / 1000);
  return Math.min(AHEAD_BYTES_MAX, Math.max(AHEAD_BYTES_MIN, bytes));
}

/**
 * Between the hypervisor and the link: what comes while the link is busy is joined, what comes while
 * it is idle leaves at once.
 */
class Ahead {
  readonly #bytesMax: () => number;
  readonly #chunks: Uint8Array[] = [];
  #costBytes = 0;
  #over: { readonly reason: unknown } | { readonly reason?: never } | undefined;
  #hasRoom = (): void => undefined;
  #hasNews = (): void => undefined;

  constructor(bytesMax: () => number) {
    this.#bytesMax = bytesMax;
  }

  /** Resolves when more may be put. @throws the reason of {@link fail} */
  async put(chunk: Uint8Array): Promise<void> {
    if (chunk.length > 0) this.#chunks.push(chunk);
    this.#costBytes += chunk.length + FRAME_COST_BYTES;
    this.#hasNews();
    while (this.#costBytes >= this.#bytesMax() && this.#over === undefined) {
      await new Promise<void>((resolve) => (this.#hasRoom = resolve));
    }
    this.#check();
  }

  /** Nothing more will be put. */
  end(): void {
    this.#over ??= {};
    this.#hasNews();
  }

  /** As {@link end}, and what waits is dropped. */
  fail(reason: unknown): void {
    if (this.#over === undefined || !("reason" in this.#over)) this.#over = { reason };
    this.#hasNews();
    this.#hasRoom();
  }

  /** What there is, as much as goes into one frame; undefined at the end. */
  async take(): Promise<readonly Uint8Array[] | undefined> {
    while (this.#chunks.length === 0 && this.#over === undefined) {
      await new Promise<void>((resolve) => (this.#hasNews = resolve));
    }
    this.#check();
    const taken = this.#chunks.length === 0 ? undefined : this.#cut();
    this.#hasRoom();
    return taken;
  }

  #cut(): readonly Uint8Array[] {
    const parts: Uint8Array[] = [];
    for (let left = FRAME_BYTES_MAX; left > 0;) {
      const chunk = this.#chunks[0];
      if (chunk === undefined) break;
      const part = chunk.subarray(0, left);
      parts.push(part);
      left -= part.length;
      this.#costBytes -= part.length;
      if (part.length < chunk.length) this.#chunks[0] = chunk.subarray(part.length);
      else {
        this.#chunks.shift();
        this.#costBytes -= FRAME_COST_BYTES;
      }
    }
    return parts;
  }

  #check(): void {
    if (this.#over !== undefined && "reason" in this.#over) throw this.#over.reason;
  }
}

/** Never rejects: a failure is told to `ahead`. */
async function pull(chunks: AsyncIterable<Uint8Array>, ahead: Ahead): Promise<void> {
  try {
    for await (const chunk of chunks) await ahead.put(chunk);
    ahead.end();
  } catch (cause) {
    ahead.fail(cause);
  }
}

/** Brings replies to the hypervisor. Never rejects: a failure is told to `ahead`. */
async function answer(
  stream: OutgoingStream,
  tunnel: MemoryTunnel,
  { replies, ahead }: { readonly replies: ReplyQueue; readonly ahead: Ahead },
): Promise<void> {
  try {
    for (;;) {
      const next = await replies.next();
      if (next === undefined) return;
      await tunnel.reply(next.bytes);
      replies.delivered(next.costBytes);
      stream.send(TYPE.TAKEN, encodeTaken(next.costBytes));
    }
  } catch (cause) {
    ahead.fail(cause);
  }
}

async function sendChunks(stream: OutgoingStream, ahead: Ahead): Promise<void> {
  for (let offset = 0; ;) {
    const parts = await ahead.take();
    if (parts === undefined) break;
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    const frame = { type: TYPE.BYTES, flags: 0, parts: [bytesPrefix(offset, length), ...parts] };
    await stream.data(frame, length);
    offset += length;
  }
  stream.ended({});
}

async function carry(
  stream: OutgoingStream,
  tunnel: MemoryTunnel,
  { replies, meter }: { readonly replies: ReplyQueue; readonly meter: SenderLink["meter"] },
): Promise<void> {
  const ahead = new Ahead(() => aheadBytes(linkBitsPerSecond(meter.rate())));
  const abort = (): void => ahead.fail(stream.signal.reason);
  stream.signal.throwIfAborted();
  stream.signal.addEventListener("abort", abort, { once: true });
  stream.opened("memory", {}, { doneBytes: 0, totalBytes: 0 });
  void pull(tunnel.chunks, ahead);
  void answer(stream, tunnel, { replies, ahead });
  try {
    await sendChunks(stream, ahead);
  } finally {
    stream.signal.removeEventListener("abort", abort);
    replies.close();
    ahead.fail(peerError("cancelled", "the tunnel is over"));
  }
}

/**
 * Carries a hypervisor's stream to the receiver, and the receiver's replies back, until the stream
 * ends or either side gives it up. The tunnel is closed in any case.
 *
 * @throws `transfer.not-offered`, what the tunnel throws, and the reason why the stream has ended
 */
export async function sendMemory(
  stream: OutgoingStream,
  { source, meter }: Pick<SenderLink, "meter"> & { readonly source: DataSource },
): Promise<void> {
  const { replies = new ReplyQueue() } = stream;
  if (source.openMemory === undefined) {
    throw peerError("not-offered", "no memory is offered in this session");
  }
  const tunnel = await source.openMemory();
  try {
    await carry(stream, tunnel, { replies, meter });
  } catch (cause) {
    await tunnel.close(cause);
    throw cause;
  }
  await tunnel.close();
}
