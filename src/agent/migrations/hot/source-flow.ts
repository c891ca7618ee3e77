/** The memory of a machine on its way out: from its hypervisor's socket into a tunnel. */
import { createServer, type Server, type Socket } from "node:net";
import { reportOf, TesseraError, type World } from "#core";
import type { EncodingConditions } from "#delta";
import { MemoryEncoder, type ComponentPages, type MemoryFigures } from "#memory";
import { growingBuffers } from "#system";
import type { MemoryTunnel } from "#transfer";

/** How often it is looked at whether a link has come back. */
const LOOK_MS = 100;

export interface FlowOptions {
  /** Where the hypervisor will connect to. */
  readonly socketPath: string;
  /** Pages of the components, that the destination holds as well. */
  readonly components: { readonly count: number; readonly pages: ComponentPages };
  readonly conditions: () => EncodingConditions;
}

/** One stream of a hypervisor; when it breaks another one is needed. */
export class SourceFlow {
  readonly tunnel: MemoryTunnel;
  readonly #encoder: MemoryEncoder;
  readonly #server: Server;
  readonly #connected = Promise.withResolvers<Socket>();
  readonly #ended = new AbortController();
  readonly #world: World;
  /** Since when no data connection carries the tunnel. */
  #cutAt_ms: number | undefined;
  #pastCuts_ms = 0;

  private constructor(world: World, server: Server, options: FlowOptions) {
    const { components, conditions } = options;
    this.#world = world;
    this.#server = server;
    this.#encoder = new MemoryEncoder({ clock: world.clock, components, conditions });
    this.#connected.promise.catch(() => undefined);
    server.once("connection", (socket) => this.#take(socket));
    this.tunnel = {
      chunks: this.#chunks(),
      reply: (bytes) => this.#reply(bytes),
      close: (reason) => this.close(reason),
      carried: (isCarried) => this.#carried(isCarried),
    };
  }

  /** @throws `migration.socket-failed` */
  static async listen(world: World, options: FlowOptions): Promise<SourceFlow> {
    await world.files.remove(options.socketPath);
    const server = createServer();
    const flow = new SourceFlow(world, server, options);
    await new Promise<void>((resolve, reject) => {
      server.once("error", (cause) => reject(socketFailed(options.socketPath, cause)));
      server.listen(options.socketPath, resolve);
    });
    return flow;
  }

  get figures(): MemoryFigures {
    return this.#encoder.figures;
  }

  #carried(isCarried: boolean): void {
    this.#pastCuts_ms += this.cut_ms;
    this.#cutAt_ms = isCarried ? undefined : this.#world.clock.monotonic();
  }

  /** For how long no data connection has carried the tunnel; 0 while one does. */
  get cut_ms(): number {
    if (this.#cutAt_ms === undefined) return 0;
    return Math.max(1, this.#world.clock.monotonic() - this.#cutAt_ms);
  }

  /** All the time since the first connection in which none has carried it. */
  get cuts_ms(): number {
    return this.#pastCuts_ms + this.cut_ms;
  }

  /** Aborts when the tunnel has ended, whichever side ended it. */
  get ended(): AbortSignal {
    return this.#ended.signal;
  }

  #take(socket: Socket): void {
    socket.on("error", () => socket.destroy());
    socket.once("close", () => this.#ended.abort());
    this.#server.close();
    if (this.#ended.signal.aborted) socket.destroy();
    this.#connected.resolve(socket);
  }

  async *#chunks(): AsyncGenerator<Uint8Array> {
    const socket = await this.#connected.promise;
    const release = growingBuffers();
    try {
      yield* this.#encoder.encode(socket);
    } finally {
      release();
    }
  }

  async #reply(bytes: Uint8Array): Promise<void> {
    const socket = await this.#connected.promise;
    if (socket.write(bytes)) return;
    const drained = Promise.withResolvers<void>();
    socket.once("drain", drained.resolve);
    socket.once("close", drained.resolve);
    await drained.promise;
  }

  /** Ends the tunnel once no connection has carried it for so long. Never rejects. */
  async endAfterCut(limit_ms: number, signal: AbortSignal): Promise<void> {
    while (!signal.aborted && this.cut_ms <= limit_ms) {
      await this.#world.clock.sleep(LOOK_MS, signal).catch(() => undefined);
    }
    if (signal.aborted) return;
    const message = "no data connection carries the machine's memory any more";
    await this.close(new TesseraError("peer", "transfer.link-lost", message));
  }

  /** Closing its socket is what tells a hypervisor that the link has gone. */
  async close(reason?: unknown): Promise<void> {
    this.#ended.abort(reason);
    this.#server.close();
    this.#connected.reject(new Error("the tunnel was closed"));
    const socket = await this.#connected.promise.catch(() => undefined);
    socket?.destroy();
  }
}

export function socketFailed(path: string, cause: unknown): TesseraError {
  const message = `cannot use the socket ${path}: ${reportOf(cause).message}`;
  return new TesseraError("environment", "migration.socket-failed", message, { subject: path });
}
