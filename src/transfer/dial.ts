import type { Socket, TcpNetConnectOpts } from "node:net";
import { connect, type ConnectionOptions, type TLSSocket } from "node:tls";
import type { Clock, Digest, World } from "#core";
import { Connection, type IncomingBytes } from "./connection.ts";
import type { Candidate } from "./contract.ts";
import { linkLost, peerError } from "./errors.ts";
import { fingerprintOf, type DataIdentity } from "./identity.ts";
import { ALPN, type Timing } from "./protocol.ts";

const READ_BYTES = 64 * 1024;
/** What may come before the connection takes it: an error in place of a handshake. */
const EARLY_BYTES_MAX = 64 * 1024;

/**
 * Reads into one buffer that is used again and again: it takes half the processor time of a buffer
 * for every TLS record. What comes before there is a taker is kept.
 */
class Incoming implements IncomingBytes {
  #early: Buffer[] = [];
  #earlyBytes = 0;
  #taker: ((bytes: Buffer) => void) | undefined;
  readonly onread = {
    buffer: Buffer.allocUnsafeSlow(READ_BYTES),
    callback: (length: number, buffer: Uint8Array): boolean => {
      this.#came(Buffer.from(buffer.buffer, buffer.byteOffset, length));
      return true;
    },
  };

  take(taker: (bytes: Buffer) => void): void {
    this.#taker = taker;
    for (const bytes of this.#early.splice(0)) taker(bytes);
  }

  #came(bytes: Buffer): void {
    if (this.#taker !== undefined) this.#taker(bytes);
    else if (this.#earlyBytes <= EARLY_BYTES_MAX) {
      this.#early.push(Buffer.from(bytes));
      this.#earlyBytes += bytes.length;
    }
  }
}

interface DialOptions {
  readonly identity: DataIdentity;
  /** What the other side must show. */
  readonly certificate: Digest;
  readonly timing: Timing;
  readonly signal: AbortSignal;
}

/** Resolves when the socket emits `event`; destroys it on error, time-out or abort. */
function established(
  clock: Clock,
  socket: Socket,
  event: "connect" | "secureConnect",
  limits: { readonly timeout_ms: number; readonly signal: AbortSignal },
): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (cause: unknown): void => {
      done();
      socket.destroy();
      reject(limits.signal.aborted ? (limits.signal.reason as Error) : linkLost(cause));
    };
    const succeed = (): void => {
      done();
      resolve();
    };
    const onClose = (): void => fail(undefined);
    const stop = clock.after(limits.timeout_ms, () => fail(new Error("time-out")));
    const done = (): void => {
      stop();
      limits.signal.removeEventListener("abort", fail);
      socket.off(event, succeed).off("close", onClose);
    };
    // The listener for errors stays: one that comes after the failure must not go unhandled.
    socket.on("error", fail).once(event, succeed).once("close", onClose);
    limits.signal.addEventListener("abort", fail, { once: true });
    if (limits.signal.aborted) fail(undefined);
  });
}

function checkCertificate(socket: TLSSocket, expected: Digest, subject: string): void {
  const der = socket.getPeerX509Certificate()?.raw;
  if (der === undefined || fingerprintOf(der) !== expected) {
    const message = "the data port shows another certificate than the negotiation signed";
    throw peerError("certificate-mismatch", message, {
      subject,
      remedy: "check the candidates of the other cloud, and who listens there",
    });
  }
}

/**
 * Connects to one candidate over TLS and checks who answers. Nothing is sent to anybody else.
 *
 * @throws `transfer.link-lost`, `transfer.certificate-mismatch`, the signal's reason
 */
export async function dialCandidate(
  world: World,
  candidate: Candidate,
  options: DialOptions,
): Promise<Connection> {
  const { identity, certificate, timing, signal } = options;
  const subject = `${candidate.host}:${candidate.port}`;
  const incoming = new Incoming();
  const target: TcpNetConnectOpts & ConnectionOptions = {
    host: candidate.host,
    port: candidate.port,
    onread: incoming.onread,
    key: identity.key,
    cert: identity.certificatePem,
    minVersion: "TLSv1.3",
    ALPNProtocols: [ALPN],
    // Certificates are self-signed; ours is an exact comparison with the signed fingerprint.
    rejectUnauthorized: false,
  };
  const tls = connect(target);
  try {
    const clock = world.clock;
    await established(clock, tls, "connect", { timeout_ms: timing.connect_ms, signal });
    // As an option it is lost on the way through TLS.
    tls.setNoDelay(true);
    await established(clock, tls, "secureConnect", { timeout_ms: timing.handshake_ms, signal });
    checkCertificate(tls, certificate, subject);
    if (tls.alpnProtocol !== ALPN) throw peerError("version-unsupported", `no ${ALPN} there`);
    return new Connection(world.clock, timing, { tls, incoming });
  } catch (cause) {
    tls.destroy();
    throw cause;
  }
}
