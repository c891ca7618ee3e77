/**
 * A relay of TCP or unix sockets that behaves like a link: throttled, cut, corrupted, silent. Used by
 * tests, and by the demo as the link between two clouds. `up` is from the client to the target, `down`
 * back.
 */
import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

export interface RelayOptions {
  readonly target: { readonly host: string; readonly port: number } | { readonly path: string };
  /** Default 127.0.0.1, on a port that the system chooses. */
  readonly listen?: { readonly host?: string; readonly port?: number } | { readonly path: string };
  /** TCP payload in each direction, over all connections; absent means no throttle. */
  readonly bitsPerSecond?: number;
}

export interface RelayBytes {
  readonly up: number;
  readonly down: number;
}

export interface Relay {
  readonly port: number;
  /** TCP payload delivered so far. */
  bytes(): RelayBytes;
  /** Connections accepted so far. */
  connections(): number;
  /** Bits per second in each direction from now on; undefined lifts the throttle. */
  setRate(bitsPerSecond: number | undefined): void;
  /** Resets every connection that exists now. */
  cutAll(): void;
  /** Cuts all connections once so many more bytes have been delivered downwards. */
  cutAfter(downBytes: number): void;
  /** Inverts one bit of the byte that comes so many bytes later, downwards. */
  corruptAfter(downBytes: number): void;
  /** While frozen, nothing is delivered in either direction and nothing is closed. */
  setFrozen(frozen: boolean): void;
  close(): Promise<void>;
}

/** Each direction ends by itself, when its last byte has been delivered. */
const HALVES = { noDelay: true, allowHalfOpen: true } as const;

const BURST_ms = 20;
const SLICE_BYTES_MAX = 16 * 1024;

/** A token bucket as a schedule: `due_ms` is when the bucket would be even. */
class Throttle {
  #bytesPerMs: number | undefined;
  #due_ms = performance.now();

  setRate(bitsPerSecond: number | undefined): void {
    this.#bytesPerMs = bitsPerSecond === undefined ? undefined : bitsPerSecond / 8000;
    this.#due_ms = performance.now();
  }

  get sliceBytes(): number {
    const rate = this.#bytesPerMs;
    if (rate === undefined) return Number.MAX_SAFE_INTEGER;
    return Math.max(256, Math.min(SLICE_BYTES_MAX, Math.floor(rate * 10)));
  }

  /** Resolves when the bytes have had their time on the link. */
  async take(bytes: number): Promise<void> {
    if (this.#bytesPerMs === undefined) return;
    const now_ms = performance.now();
    this.#due_ms = Math.max(this.#due_ms, now_ms - BURST_ms) + bytes / this.#bytesPerMs;
    if (this.#due_ms > now_ms) await sleep(this.#due_ms - now_ms);
  }
}

/** One direction of all connections. */
class Direction {
  readonly throttle = new Throttle();
  deliveredBytes = 0;
  /** Positions in the delivered bytes at which something happens. */
  cutAt: number | undefined;
  corruptAt: number | undefined;

  /** The slice as it is delivered; `cut` when the link breaks after it. */
  deliver(slice: Buffer): { readonly bytes: Buffer; readonly cut: boolean } {
    const from = this.deliveredBytes;
    const room = this.cutAt === undefined ? slice.length : this.cutAt - from;
    const bytes = Buffer.from(slice.subarray(0, Math.max(0, room)));
    const corruptAt = this.corruptAt === undefined ? -1 : this.corruptAt - from;
    if (corruptAt >= 0 && corruptAt < bytes.length) {
      bytes[corruptAt] = (bytes[corruptAt] ?? 0) ^ 1;
      this.corruptAt = undefined;
    }
    this.deliveredBytes += bytes.length;
    const cut = this.cutAt !== undefined && this.deliveredBytes >= this.cutAt;
    if (cut) this.cutAt = undefined;
    return { bytes, cut };
  }
}

function drained(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      socket.off("drain", done).off("close", done);
      resolve();
    };
    socket.on("drain", done).on("close", done);
  });
}

class RunningRelay implements Relay {
  readonly #options: RelayOptions;
  readonly #server = createServer(HALVES, (client) => this.#accept(client));
  readonly #up = new Direction();
  readonly #down = new Direction();
  readonly #sockets = new Set<Socket>();
  #connections = 0;
  #thaw = Promise.withResolvers<void>();

  constructor(options: RelayOptions) {
    this.#options = options;
    this.#thaw.resolve();
    this.setRate(options.bitsPerSecond);
  }

  async listen(): Promise<this> {
    const { listen = {} } = this.#options;
    const address = "path" in listen ? listen : { host: "127.0.0.1", port: 0, ...listen };
    this.#server.listen(address);
    await once(this.#server, "listening");
    return this;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  bytes(): RelayBytes {
    return { up: this.#up.deliveredBytes, down: this.#down.deliveredBytes };
  }

  connections(): number {
    return this.#connections;
  }

  setRate(bitsPerSecond: number | undefined): void {
    this.#up.throttle.setRate(bitsPerSecond);
    this.#down.throttle.setRate(bitsPerSecond);
  }

  cutAll(): void {
    for (const socket of this.#sockets) {
      // A unix socket has no reset: its other end reads an end, and writes in vain.
      if (socket.connecting || socket.remoteAddress === undefined) socket.destroy();
      else socket.resetAndDestroy();
    }
  }

  cutAfter(downBytes: number): void {
    this.#down.cutAt = this.#down.deliveredBytes + Math.ceil(downBytes);
  }

  corruptAfter(downBytes: number): void {
    this.#down.corruptAt = this.#down.deliveredBytes + Math.ceil(downBytes);
  }

  setFrozen(frozen: boolean): void {
    this.#thaw.resolve();
    this.#thaw = Promise.withResolvers<void>();
    if (!frozen) this.#thaw.resolve();
  }

  async close(): Promise<void> {
    this.setFrozen(false);
    const closed = once(this.#server, "close");
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #accept(client: Socket): void {
    this.#connections += 1;
    const target = connect({ ...this.#options.target, ...HALVES });
    for (const socket of [client, target]) {
      this.#sockets.add(socket);
      socket.on("error", () => socket.destroy());
      socket.on("close", () => this.#sockets.delete(socket));
    }
    client.on("close", (broken) => broken && target.destroy());
    target.on("close", (broken) => broken && client.destroy());
    void this.#pump(client, target, this.#up);
    void this.#pump(target, client, this.#down);
  }

  /** Never rejects: a socket that breaks ends both, as on a real link. */
  async #pump(from: Socket, to: Socket, direction: Direction): Promise<void> {
    try {
      const chunks = from.iterator({ destroyOnReturn: false });
      for await (const chunk of chunks) await this.#carry(chunk as Buffer, to, direction);
      to.end();
    } catch {
      from.destroy();
      to.destroy();
    }
  }

  async #carry(chunk: Buffer, to: Socket, direction: Direction): Promise<void> {
    for (let at = 0; at < chunk.length;) {
      const slice = chunk.subarray(at, at + direction.throttle.sliceBytes);
      at += slice.length;
      await direction.throttle.take(slice.length);
      await this.#thaw.promise;
      const { bytes, cut } = direction.deliver(slice);
      if (to.destroyed) throw new Error("the other end is gone");
      if (!to.write(bytes)) await drained(to);
      if (cut) this.cutAll();
    }
  }
}

/** Starts a relay on loopback, or where `listen` says. */
export async function startRelay(options: RelayOptions): Promise<Relay> {
  return await new RunningRelay(options).listen();
}
