import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import type { Clock, Digest, World } from "#core";
import { Connection } from "./connection.ts";
import type { Candidate } from "./contract.ts";
import { linkLost, peerError } from "./errors.ts";
import { fingerprintOf, type DataIdentity } from "./identity.ts";
import { ALPN, type Timing } from "./protocol.ts";

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
  const raw = connectTcp({ host: candidate.host, port: candidate.port, noDelay: true });
  await established(world.clock, raw, "connect", { timeout_ms: timing.connect_ms, signal });
  const tls = connectTls({
    socket: raw,
    key: identity.key,
    cert: identity.certificatePem,
    minVersion: "TLSv1.3",
    ALPNProtocols: [ALPN],
    // Certificates are self-signed; ours is an exact comparison with the signed fingerprint.
    rejectUnauthorized: false,
  });
  try {
    const limits = { timeout_ms: timing.handshake_ms, signal };
    await established(world.clock, tls, "secureConnect", limits);
    checkCertificate(tls, certificate, subject);
    if (tls.alpnProtocol !== ALPN) throw peerError("version-unsupported", `no ${ALPN} there`);
    return new Connection(world.clock, timing, { tls, raw });
  } catch (cause) {
    tls.destroy();
    raw.destroy();
    throw cause;
  }
}
