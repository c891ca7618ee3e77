import { checkRange, closedError, readOnlyError } from "#block";
import { endOf, mergeRanges, type ByteRange, type World } from "#core";
import { addressText } from "./address.ts";
import { Channel, type Command } from "./channel.ts";
import type { NbdAddress, NbdClientOptions, NbdDevice, StatusExtent } from "./contract.ts";
import { dial, limitTime, type Link } from "./dial.ts";
import { peerError } from "./errors.ts";
import { haggle, type Offer } from "./haggle.ts";
import { ALLOCATION, COMMAND, EXTENT, TRANSMISSION } from "./protocol.ts";

const REQUESTS_MAX = 64;
const IN_FLIGHT_BYTES_MAX = 16 * 2 ** 20;
const HANDSHAKE_ms = 10_000;
const LINGER_ms = 2_000;
/** The longest read or write of one request, where the server takes it. */
const STEP_BYTES_MAX = 2 ** 20;
/** The longest range without payload of one request: a multiple of every block size. */
const SPAN_BYTES_MAX = 2 ** 30;
const EXTENTS_TOTAL_MAX = 2 ** 22;
const ZEROES = new Uint8Array(STEP_BYTES_MAX);

/** The pieces of a range, none longer than `bytesMax`. */
function piecesOf(range: ByteRange, bytesMax: number): ByteRange[] {
  const pieces: ByteRange[] = [];
  for (let offset = range.offset; offset < endOf(range); offset += bytesMax) {
    pieces.push({ offset, length: Math.min(bytesMax, endOf(range) - offset) });
  }
  return pieces;
}

class Client implements NbdDevice {
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly contexts: readonly string[];
  readonly #clock: World["clock"];
  readonly #link: Link;
  readonly #channel: Channel;
  readonly #offer: Offer;
  readonly #subject: string;
  readonly #blockBytes: number;
  readonly #stepBytes: number;
  /** Writes of parts of blocks, one after the other. */
  #unaligned: Promise<unknown> = Promise.resolve();
  #closing: Promise<void> | undefined;

  constructor(clock: World["clock"], link: Link, offer: Offer, options: NbdClientOptions) {
    const { requestsMax = REQUESTS_MAX, inFlightBytesMax = IN_FLIGHT_BYTES_MAX } = options;
    const { structured, facts, sizes } = offer;
    this.#clock = clock;
    this.#link = link;
    this.#offer = offer;
    this.#subject = `${addressText(options.address)} ${options.exportName}`.trimEnd();
    this.sizeBytes = facts.sizeBytes;
    this.readOnly = this.#can(TRANSMISSION.READ_ONLY);
    this.contexts = offer.contexts.map(({ name }) => name);
    this.#blockBytes = sizes.minimumBytes;
    const stepBytes = Math.min(STEP_BYTES_MAX, sizes.payloadBytesMax);
    this.#stepBytes = stepBytes - (stepBytes % this.#blockBytes);
    this.#channel = new Channel(link, {
      structured,
      requestsMax,
      bytesMax: inFlightBytesMax,
      subject: this.#subject,
    });
  }

  get signal(): AbortSignal {
    return this.#link.signal;
  }

  async read(target: Uint8Array, offset: number): Promise<void> {
    const range = { offset, length: target.length };
    this.#check(range, false);
    const around = this.#around(range);
    if (around.length === range.length) {
      await this.#read(target, offset);
      return;
    }
    const bytes = new Uint8Array(around.length);
    await this.#read(bytes, around.offset);
    const start = offset - around.offset;
    target.set(bytes.subarray(start, start + target.length));
  }

  async write(source: Uint8Array, offset: number): Promise<void> {
    const range = { offset, length: source.length };
    this.#check(range, true);
    const around = this.#around(range);
    if (around.length === range.length) await this.#write(source, offset);
    else await this.#writeWithin(around, source, offset);
  }

  async zero(range: ByteRange): Promise<void> {
    this.#check(range, true);
    const isWhole = this.#around(range).length === range.length;
    if (isWhole && this.#can(TRANSMISSION.SEND_WRITE_ZEROES)) {
      await this.#span(COMMAND.WRITE_ZEROES, range);
      return;
    }
    for (const { offset, length } of piecesOf(range, STEP_BYTES_MAX)) {
      await this.write(ZEROES.subarray(0, length), offset);
    }
  }

  async trim(range: ByteRange): Promise<void> {
    this.#check(range, true);
    const isWhole = this.#around(range).length === range.length;
    if (isWhole && this.#can(TRANSMISSION.SEND_TRIM)) await this.#span(COMMAND.TRIM, range);
  }

  async flush(): Promise<void> {
    this.#check({ offset: 0, length: 0 }, false);
    if (!this.#can(TRANSMISSION.SEND_FLUSH)) return;
    await this.#channel.call({ type: COMMAND.FLUSH, offset: 0, length: 0 });
  }

  async allocated(): Promise<ByteRange[]> {
    const whole = { offset: 0, length: this.sizeBytes };
    this.#check(whole, false);
    if (!this.contexts.includes(ALLOCATION)) return [whole];
    const extents = await this.status(whole, ALLOCATION);
    const held = extents.filter(({ flags }) => (flags & EXTENT.ZERO) === 0);
    return mergeRanges(held.map(({ offset, length }) => ({ offset, length })));
  }

  async status(range: ByteRange, name: string): Promise<StatusExtent[]> {
    this.#check(range, false);
    const context = this.#offer.contexts.find((context) => context.name === name);
    if (context === undefined) {
      const message = `the NBD server has no metadata context ${name}`;
      throw peerError("context-missing", message, { subject: this.#subject });
    }
    const extents: StatusExtent[] = [];
    const around = this.#around(range);
    for (let at = around.offset; at < endOf(around);) {
      const length = Math.min(SPAN_BYTES_MAX, endOf(around) - at);
      const status = { type: COMMAND.BLOCK_STATUS, offset: at, length, context: context.id };
      for (const { length, flags } of await this.#channel.call(status)) {
        append(extents, within({ offset: at, length }, range), flags);
        at += length;
      }
      if (extents.length > EXTENTS_TOTAL_MAX) throw tooMany(name, this.#subject);
    }
    return extents;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const cancel = this.#clock.after(LINGER_ms, () => this.#link.end(closedError(this.#subject)));
    await this.#channel.finish(closedError(this.#subject));
    await this.#link.closed;
    cancel();
  }

  #can(flag: number): boolean {
    return (this.#offer.facts.flags & flag) !== 0;
  }

  #check(range: ByteRange, writes: boolean): void {
    if (this.#closing !== undefined) throw closedError(this.#subject);
    this.signal.throwIfAborted();
    if (writes && this.readOnly) throw readOnlyError(this.#subject);
    checkRange(range, this.sizeBytes);
  }

  /** The whole blocks around a range. */
  #around(range: ByteRange): ByteRange {
    const block = this.#blockBytes;
    const offset = range.offset - (range.offset % block);
    const end = Math.min(Math.ceil(endOf(range) / block) * block, this.sizeBytes);
    return { offset, length: range.length === 0 ? 0 : end - offset };
  }

  async #read(target: Uint8Array, offset: number): Promise<void> {
    const calls = piecesOf({ offset, length: target.length }, this.#stepBytes).map((piece) => {
      const start = piece.offset - offset;
      return { type: COMMAND.READ, ...piece, target: target.subarray(start, start + piece.length) };
    });
    await this.#all(calls);
  }

  async #write(source: Uint8Array, offset: number): Promise<void> {
    const calls = piecesOf({ offset, length: source.length }, this.#stepBytes).map((piece) => {
      const start = piece.offset - offset;
      const payload = source.subarray(start, start + piece.length);
      return { type: COMMAND.WRITE, ...piece, payload };
    });
    await this.#all(calls);
  }

  async #span(type: number, range: ByteRange): Promise<void> {
    await this.#all(piecesOf(range, SPAN_BYTES_MAX).map((piece) => ({ type, ...piece })));
  }

  /** All of them at once, as far as the limits allow. The first failure counts, at the end. */
  async #all(commands: readonly Command[]): Promise<void> {
    const [only] = commands;
    if (only !== undefined && commands.length === 1) {
      await this.#channel.call(only);
      return;
    }
    const ends = await Promise.allSettled(commands.map((command) => this.#channel.call(command)));
    const failed = ends.find((end) => end.status === "rejected");
    if (failed !== undefined) throw failed.reason;
  }

  /** Reads whole blocks, changes them, writes them, while no other such write does. */
  async #writeWithin(around: ByteRange, source: Uint8Array, offset: number): Promise<void> {
    const change = async (): Promise<void> => {
      const bytes = new Uint8Array(around.length);
      await this.#read(bytes, around.offset);
      bytes.set(source, offset - around.offset);
      await this.#write(bytes, around.offset);
    };
    const mine = this.#unaligned.then(change, change);
    this.#unaligned = mine.catch(() => undefined);
    await mine;
  }
}

/** The part of `range` that lies in `limits`. */
function within(range: ByteRange, limits: ByteRange): ByteRange {
  const offset = Math.max(range.offset, limits.offset);
  return { offset, length: Math.max(0, Math.min(endOf(range), endOf(limits)) - offset) };
}

function append(extents: StatusExtent[], range: ByteRange, flags: number): void {
  const last = extents.at(-1);
  if (range.length === 0) return;
  if (last === undefined || last.flags !== flags) extents.push({ ...range, flags });
  else extents[extents.length - 1] = { ...last, length: last.length + range.length };
}

function tooMany(name: string, subject: string) {
  const message = `${name} has more than ${EXTENTS_TOTAL_MAX} extents`;
  return peerError("too-many-extents", message, { subject });
}

async function open(link: Link, options: NbdClientOptions, address: NbdAddress): Promise<Offer> {
  const wire = {
    take: (length: number) => link.take(length),
    send: (bytes: Uint8Array) => void link.socket.write(bytes),
  };
  try {
    return await haggle(wire, {
      exportName: options.exportName,
      contexts: options.contexts ?? [],
    });
  } catch (cause) {
    link.end(cause);
    if (cause instanceof Error && "code" in cause && cause.code === "nbd.link-lost") {
      const message = `the NBD server at ${addressText(address)} hung up during the handshake`;
      throw peerError("handshake-failed", message, { subject: addressText(address), cause });
    }
    throw cause;
  }
}

/**
 * Opens an export of an NBD server.
 *
 * @throws `nbd.unreachable`, `nbd.stalled`, `nbd.handshake-failed`, `nbd.export-unknown`,
 *   `nbd.tls-required`, `nbd.shutting-down`, `nbd.request-invalid`, `nbd.protocol-violation` (peer),
 *   or the signal's reason
 */
export async function connectNbd(
  world: Pick<World, "clock">,
  options: NbdClientOptions,
): Promise<NbdDevice> {
  const { address, signal, handshake_ms: timeout_ms = HANDSHAKE_ms } = options;
  const link = await dial(world.clock, address, { timeout_ms, signal });
  const stop = limitTime(world.clock, link, { timeout_ms, where: addressText(address) });
  const abort = (): void => link.end(signal?.reason);
  signal?.addEventListener("abort", abort, { once: true });
  try {
    const offer = await open(link, options, address);
    return new Client(world.clock, link, offer, options);
  } finally {
    stop();
    signal?.removeEventListener("abort", abort);
  }
}
