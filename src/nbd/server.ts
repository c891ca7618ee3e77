import { createServer, type Server, type Socket } from "node:net";
import { TesseraError, type World } from "#core";
import { addressText, checkAddress, uriOf } from "./address.ts";
import { BufferPool } from "./buffers.ts";
import type { NbdAddress, NbdServer, NbdServerOptions } from "./contract.ts";
import { peerError } from "./errors.ts";
import { serveExports, type ServedExport } from "./exports.ts";
import { Negotiation, greeting, type Agreement, type OfferedExport } from "./negotiation.ts";
import { Session } from "./session.ts";

const CONNECTIONS_MAX = 32;
const HANDSHAKE_ms = 10_000;
const LINGER_ms = 2_000;

/** One client, from its connection to its end. */
class Client {
  readonly socket: Socket;
  /** Undefined until an export is chosen. */
  exportName: string | undefined;
  session: Session | undefined;
  readonly closed: Promise<void>;

  constructor(socket: Socket) {
    this.socket = socket;
    this.closed = new Promise((resolve) => socket.once("close", () => resolve()));
  }
}

class Listener implements NbdServer {
  readonly #world: Pick<World, "clock" | "log">;
  readonly #exports: ReadonlyMap<string, ServedExport>;
  readonly #offered: ReadonlyMap<string, OfferedExport>;
  readonly #connectionsMax: number;
  readonly #handshake_ms: number;
  readonly #server: Server;
  readonly #pool = new BufferPool();
  /** Oldest first. */
  readonly #clients = new Set<Client>();
  address: NbdAddress;

  constructor(world: Pick<World, "clock" | "log">, options: NbdServerOptions) {
    const { address, exports } = options;
    this.#world = world;
    this.address = address;
    this.#exports = serveExports(exports);
    this.#offered = new Map([...this.#exports].map(([name, { offered }]) => [name, offered]));
    this.#connectionsMax = options.connectionsMax ?? CONNECTIONS_MAX;
    this.#handshake_ms = options.handshake_ms ?? HANDSHAKE_ms;
    this.#server = createServer({ noDelay: true }, (socket) => this.#connected(socket));
  }

  listen(): Promise<void> {
    const { address } = this;
    return new Promise((resolve, reject) => {
      this.#server.once("error", (cause) => reject(listenFailed(address, cause)));
      const ready = (): void => {
        const bound = this.#server.address();
        if ("host" in address && bound !== null && typeof bound === "object") {
          this.address = { host: address.host, port: bound.port };
        }
        resolve();
      };
      // The socket never exists with wider permissions than 0600.
      const mask = process.umask(0o177);
      try {
        if ("path" in address) this.#server.listen(address.path, ready);
        else this.#server.listen(address.port, address.host, ready);
      } finally {
        process.umask(mask);
      }
    });
  }

  uri(exportName: string): string {
    return uriOf(this.address, exportName);
  }

  clients(exportName: string): number {
    return [...this.#clients].filter((client) => client.exportName === exportName).length;
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => void this.#server.close(() => resolve()));
    const clients = [...this.#clients];
    for (const { session, socket } of clients) {
      if (session === undefined) socket.destroy();
      else session.finish();
    }
    const cancel = this.#world.clock.after(LINGER_ms, () => {
      for (const { socket } of clients) socket.destroy();
    });
    await Promise.all(clients.map((client) => client.closed));
    cancel();
    await closed;
  }

  #connected(socket: Socket): void {
    if (this.#clients.size >= this.#connectionsMax && !this.#makeRoom()) {
      this.#world.log.log("warn", "NBD connection refused: too many");
      socket.destroy();
      return;
    }
    const client = new Client(socket);
    this.#clients.add(client);
    socket.on("error", () => socket.destroy());
    socket.once("close", () => this.#clients.delete(client));
    this.#negotiate(client);
  }

  /** Whoever has been choosing an export for longest gives way. */
  #makeRoom(): boolean {
    const idle = [...this.#clients].find(({ session }) => session === undefined);
    idle?.socket.destroy();
    if (idle !== undefined) this.#clients.delete(idle);
    return idle !== undefined;
  }

  #negotiate(client: Client): void {
    const { socket } = client;
    const late = (): void =>
      this.#drop(client, peerError("stalled", "the handshake took too long"));
    const cancel = this.#world.clock.after(this.#handshake_ms, late);
    socket.once("close", cancel);
    const negotiation = new Negotiation(this.#offered, (bytes) => void socket.write(bytes));
    socket.write(greeting());
    const take = (chunk: Buffer): void => {
      socket.cork();
      try {
        const outcome = negotiation.push(chunk);
        if (outcome === undefined) return;
        socket.off("data", take);
        cancel();
        if (outcome === "aborted") socket.end();
        else this.#serve(client, outcome);
      } catch (cause) {
        this.#drop(client, cause);
      } finally {
        socket.uncork();
      }
    };
    socket.on("data", take);
  }

  #serve(client: Client, { exportName, structured, allocation, rest }: Agreement): void {
    const { socket } = client;
    const served = this.#exports.get(exportName);
    if (served === undefined) throw new Error(`${exportName} was agreed on and is not there`);
    const { device, readOnly, flush } = served;
    const rules = { sizeBytes: device.sizeBytes, readOnly, status: allocation };
    const parts = { socket, device, rules, structured, flush, pool: this.#pool };
    const session = new Session(parts, (cause) => {
      if (cause === undefined) socket.destroySoon();
      else this.#drop(client, cause);
    });
    client.exportName = exportName;
    client.session = session;
    socket.on("data", (chunk: Buffer) => session.push(chunk));
    if (rest.length > 0) session.push(rest);
  }

  #drop(client: Client, cause: unknown): void {
    this.#world.log.log("warn", "NBD connection dropped", {
      cause,
      export: client.exportName,
    });
    client.socket.destroy();
  }
}

function listenFailed(address: NbdAddress, cause: Error): TesseraError {
  const where = addressText(address);
  const message = `cannot listen on ${where}: ${cause.message}`;
  return new TesseraError("environment", "nbd.listen-failed", message, {
    subject: where,
    remedy: "choose another socket, or remove what is left of an earlier one",
    cause,
  });
}

/**
 * Serves block devices by NBD, without TLS: on a unix socket or on loopback only.
 *
 * @throws `nbd.listen-failed` (environment); `nbd.export-invalid`, `nbd.socket-path-too-long`,
 *   `nbd.address-public` (misuse)
 */
export async function serveNbd(
  world: Pick<World, "clock" | "log">,
  options: NbdServerOptions,
): Promise<NbdServer> {
  checkAddress(options.address);
  const listener = new Listener(world, options);
  await listener.listen();
  return listener;
}
