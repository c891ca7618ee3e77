import { constants } from "node:crypto";
import type { AddressInfo, Socket } from "node:net";
import { createServer, type Server, type TLSSocket } from "node:tls";
import { TesseraError, type World } from "#core";
import { Connection } from "./connection.ts";
import type { Candidate, DataEndpoint } from "./contract.ts";
import { peerError } from "./errors.ts";
import { listenHandshake } from "./handshake.ts";
import { fingerprintOf, type DataIdentity } from "./identity.ts";
import { ALPN, TIMING, type Timing } from "./protocol.ts";
import { serveSender } from "./sender.ts";
import { OfferedSession, refuseUnknown, type SessionOffer } from "./session.ts";

const PENDING_MAX = 64;

export interface DataServerOptions {
  readonly identity: DataIdentity;
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
  /** What the other side is told instead of host and port, for instance behind a port forward. */
  readonly advertise?: readonly Candidate[];
  /**
   * Sessions that are offered before the port is opened: after a restart, a receiver that dials
   * again must not meet a port without its session.
   */
  readonly offers?: readonly SessionOffer[];
  readonly timing?: Partial<Timing>;
}

/** The listening sender of the data plane. */
export interface DataServer {
  readonly endpoint: DataEndpoint;
  /** @throws `transfer.session-exists` (misuse); `transfer.state-invalid` (corrupt) */
  offer(session: SessionOffer): Promise<void>;
  /** Ends the session and its connections; an unknown one is no error. */
  withdraw(id: string): Promise<void>;
  /** Bytes that crossed the sockets of a session so far, in both directions, TLS included. */
  wireBytes(id: string): number;
  close(): Promise<void>;
}

/** The raw socket below each TLS socket, found by the peer's address and port. */
function peerKey(socket: Socket): string {
  return `${socket.remoteAddress ?? ""}|${socket.remotePort ?? ""}`;
}

class Listener implements DataServer {
  readonly #world: World;
  readonly #timing: Timing;
  readonly #server: Server;
  readonly #sessions = new Map<string, OfferedSession>();
  readonly #raw = new Map<string, Socket>();
  /** Connections before READY, oldest first, as functions that drop them. */
  readonly #pending = new Map<Socket, () => void>();
  readonly #connections = new Set<Connection>();
  endpoint: DataEndpoint;

  constructor(world: World, { identity, timing }: DataServerOptions) {
    this.#world = world;
    this.#timing = { ...TIMING, ...timing };
    this.endpoint = { candidates: [], certificate: identity.certificate };
    this.#server = createServer({
      key: identity.key,
      cert: identity.certificatePem,
      minVersion: "TLSv1.3",
      ALPNProtocols: [ALPN],
      requestCert: true,
      // Certificates are self-signed; ours is an exact comparison with the signed fingerprint.
      rejectUnauthorized: false,
      handshakeTimeout: this.#timing.handshake_ms,
      secureOptions: constants.SSL_OP_NO_TICKET,
    });
    this.#server.on("connection", (raw: Socket) => this.#connected(raw));
    this.#server.on("secureConnection", (socket) => void this.#secured(socket));
  }

  listen({ host, port, advertise }: DataServerOptions): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", (cause) => reject(listenFailed(host, port, cause)));
      this.#server.listen(port, host, () => {
        const { port: chosen } = this.#server.address() as AddressInfo;
        const candidates = advertise ?? [{ host, port: chosen }];
        this.endpoint = { ...this.endpoint, candidates };
        resolve();
      });
    });
  }

  async offer(offer: SessionOffer): Promise<void> {
    if (this.#sessions.has(offer.id)) throw sessionExists(offer.id);
    const session = await OfferedSession.open(this.#world, offer);
    if (this.#sessions.has(offer.id)) throw sessionExists(offer.id);
    this.#sessions.set(offer.id, session);
  }

  withdraw(id: string): Promise<void> {
    const session = this.#sessions.get(id);
    this.#sessions.delete(id);
    session?.end(peerError("not-offered", "the session is over", { subject: id }));
    return Promise.resolve();
  }

  wireBytes(id: string): number {
    return this.#sessions.get(id)?.wireBytes() ?? 0;
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    const reason = peerError("closing", "the data port is closing");
    for (const connection of this.#connections) connection.end(reason);
    for (const { encoders } of this.#sessions.values()) encoders.threads.close(reason);
    for (const drop of this.#pending.values()) drop();
    for (const raw of this.#raw.values()) if (!this.#pending.has(raw)) raw.destroySoon();
    await closed;
  }

  #connected(raw: Socket): void {
    const key = peerKey(raw);
    raw.setNoDelay(true);
    this.#raw.set(key, raw);
    this.#pending.set(raw, () => raw.destroy());
    raw.once("close", () => {
      if (this.#raw.get(key) === raw) this.#raw.delete(key);
      this.#pending.delete(raw);
    });
    raw.on("error", () => raw.destroy());
    const oldest = this.#pending.size > PENDING_MAX ? this.#pending.values().next() : undefined;
    if (oldest?.done === false) oldest.value();
  }

  async #secured(tls: TLSSocket): Promise<void> {
    const raw = this.#raw.get(peerKey(tls));
    if (raw === undefined || tls.alpnProtocol !== ALPN) {
      tls.destroy();
      return;
    }
    const connection = new Connection(this.#world.clock, this.#timing, { tls, raw });
    this.#connections.add(connection);
    connection.signal.addEventListener("abort", () => this.#connections.delete(connection));
    try {
      const session = await this.#admit(connection, tls);
      this.#pending.delete(raw);
      serveSender(connection, session);
    } catch (cause) {
      this.#world.log.log("warn", "data connection refused", { cause });
      const failed = () => peerError("source-failed", "the session cannot be opened", { cause });
      connection.end(cause instanceof TesseraError ? cause : failed());
    }
  }

  async #admit(connection: Connection, tls: TLSSocket): Promise<OfferedSession> {
    const der = tls.getPeerX509Certificate()?.raw;
    const shown = der === undefined ? undefined : fingerprintOf(der);
    const certificates = [...this.#sessions.values()].map(({ peerCertificate }) => peerCertificate);
    if (shown === undefined || !certificates.includes(shown)) {
      throw peerError("certificate-mismatch", "the certificate is missing or was not agreed on");
    }
    return await listenHandshake<OfferedSession>(connection, shown, {
      find: (id) => this.#sessions.get(id) ?? refuseUnknown(id),
      certificateOf: (session) => session.peerCertificate,
      present: (session, token, lane) => session.present(connection, token, lane),
      confirm: (session, fresh, lane) => session.confirm(connection, fresh, lane),
    });
  }
}

function sessionExists(id: string): TesseraError {
  return new TesseraError("misuse", "transfer.session-exists", "the session is offered already", {
    subject: id,
    remedy: "withdraw it first",
  });
}

function listenFailed(host: string, port: number, cause: Error): TesseraError {
  const message = `cannot listen on ${host} port ${port}: ${cause.message}`;
  return new TesseraError("environment", "transfer.listen-failed", message, {
    subject: `${host}:${port}`,
    remedy: "choose another data port, or end the program that uses it",
    cause,
  });
}

/**
 * Starts the data port.
 *
 * @throws `transfer.listen-failed` (environment), and what `offer` throws
 */
export async function startDataServer(
  world: World,
  options: DataServerOptions,
): Promise<DataServer> {
  const listener = new Listener(world, options);
  for (const offer of options.offers ?? []) await listener.offer(offer);
  await listener.listen(options);
  return listener;
}
