import { connect, type TLSSocket } from "node:tls";
import { TesseraError, type Clock } from "#core";
import { serialise, type XmlElement } from "./element.ts";
import { NS } from "./namespaces.ts";
import { StreamParser, type StreamLimits } from "./parser.ts";

export interface StreamAddress {
  readonly host: string;
  /** A port that speaks TLS from the first byte (XEP-0368). */
  readonly port: number;
}

export interface StreamSettings {
  readonly domain: string;
  readonly address: StreamAddress;
  /** PEM of the only authorities that are trusted; absent trusts those of the system. */
  readonly ca?: string;
  readonly limits: StreamLimits;
  /** A stanza above a limit was dropped. */
  readonly onDropped: () => void;
}

/** Bytes that may wait for a server that does not read before the stream is given up. */
const UNSENT_BYTES_MAX = 16 * 2 ** 20;

function offline(domain: string, cause?: unknown): TesseraError {
  return new TesseraError("environment", "xmpp.offline", `no stream to ${domain}`, {
    subject: domain,
    remedy: "check that the XMPP server runs and is reachable",
    cause,
  });
}

/**
 * One XMPP stream inside TLS. Elements are received one by one with {@link receive} while the
 * stream is negotiated, and go to a handler from {@link deliver} on. Any fault of the peer ends the
 * stream; `closed` resolves once with the reason.
 */
export class XmlStream {
  readonly closed: Promise<TesseraError>;
  readonly #socket: TLSSocket;
  readonly #settings: StreamSettings;
  readonly #queue: XmlElement[] = [];
  #parser: StreamParser;
  #handler: ((element: XmlElement) => void) | undefined;
  #waiting: PromiseWithResolvers<XmlElement> | undefined;
  #failure: TesseraError | undefined;
  readonly #close: (reason: TesseraError) => void;

  private constructor(socket: TLSSocket, settings: StreamSettings) {
    const { promise, resolve } = Promise.withResolvers<TesseraError>();
    this.closed = promise;
    this.#close = resolve;
    this.#socket = socket;
    this.#settings = settings;
    this.#parser = this.#newParser();
    socket.on("data", (bytes: Buffer) => this.#read(bytes));
    socket.on("error", (cause) => this.fail(offline(settings.domain, cause)));
    socket.on("close", () => this.fail(offline(settings.domain)));
  }

  /**
   * Connects, and verifies the server's certificate against the authorities and the domain.
   *
   * @throws `xmpp.certificate-refused`, `xmpp.offline`
   */
  static async open(settings: StreamSettings): Promise<XmlStream> {
    const { address, domain, ca } = settings;
    const socket = connect({
      host: address.host,
      port: address.port,
      servername: domain,
      minVersion: "TLSv1.2",
      ALPNProtocols: ["xmpp-client"],
      ...(ca === undefined ? {} : { ca }),
    });
    socket.setNoDelay(true);
    const stream = new XmlStream(socket, settings);
    const ready = Promise.withResolvers<void>();
    socket.once("secureConnect", ready.resolve);
    const reason = await Promise.race([ready.promise, stream.closed]);
    if (reason !== undefined) throw certificateFault(reason, domain) ?? reason;
    return stream;
  }

  /** Sends a stream header and forgets what the parser knew, as at every restart. */
  begin(): void {
    this.#queue.length = 0;
    this.#parser = this.#newParser();
    this.#write(
      `<?xml version="1.0"?><stream:stream to="${this.#settings.domain}" version="1.0" ` +
        `xml:lang="en" xmlns="${NS.client}" xmlns:stream="${NS.streams}">`,
    );
  }

  /** The next element, in order. @throws what ended the stream */
  async receive(): Promise<XmlElement> {
    const next = this.#queue.shift();
    if (next !== undefined) return next;
    if (this.#failure !== undefined) throw this.#failure;
    this.#waiting = Promise.withResolvers<XmlElement>();
    return this.#waiting.promise;
  }

  /** From now on every element goes to `handler`. */
  deliver(handler: (element: XmlElement) => void): void {
    this.#handler = handler;
    for (const element of this.#queue.splice(0)) handler(element);
  }

  /** @throws `xmpp.offline` when the stream has ended */
  send(element: XmlElement): void {
    if (this.#failure !== undefined) throw this.#failure;
    this.#write(serialise(element));
  }

  /** Ends the stream politely; `closed` resolves. */
  end(): void {
    if (this.#failure !== undefined) return;
    this.#socket.end("</stream:stream>");
    this.#settle(offline(this.#settings.domain));
  }

  /** Ends the stream at once for this reason. */
  fail(reason: TesseraError): void {
    this.#socket.destroy();
    this.#settle(reason);
  }

  /** Ends the stream if `work` is not done in time. */
  async within<T>(clock: Clock, timeout_ms: number, work: Promise<T>): Promise<T> {
    const { domain } = this.#settings;
    const cancel = clock.after(timeout_ms, () =>
      this.fail(
        new TesseraError("environment", "xmpp.timeout", `${domain} did not answer in time`, {
          subject: domain,
        }),
      ),
    );
    return work.finally(cancel);
  }

  #settle(reason: TesseraError): void {
    if (this.#failure !== undefined) return;
    this.#failure = reason;
    this.#waiting?.reject(reason);
    this.#close(reason);
  }

  #write(text: string): void {
    this.#socket.write(text);
    if (this.#socket.writableLength > UNSENT_BYTES_MAX) this.fail(offline(this.#settings.domain));
  }

  #read(bytes: Uint8Array): void {
    if (this.#failure !== undefined) return;
    try {
      this.#parser.write(bytes);
    } catch (cause) {
      const known = cause instanceof TesseraError;
      this.fail(
        known ? cause : new TesseraError("bug", "xmpp.unexpected", "reading failed", { cause }),
      );
    }
  }

  #newParser(): StreamParser {
    return new StreamParser(
      {
        onOpen: () => {},
        onStanza: (element) => this.#take(element),
        onDropped: this.#settings.onDropped,
        onEnd: () => this.fail(offline(this.#settings.domain)),
      },
      this.#settings.limits,
    );
  }

  #take(element: XmlElement): void {
    if (this.#failure !== undefined) return;
    if (element.namespace === NS.streams && element.name === "error") {
      this.fail(streamError(element, this.#settings.domain));
      return;
    }
    if (this.#handler !== undefined) {
      this.#handler(element);
      return;
    }
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting === undefined) this.#queue.push(element);
    else waiting.resolve(element);
  }
}

function streamError(element: XmlElement, domain: string): TesseraError {
  const conditions = element.children.filter((child) => typeof child !== "string");
  const condition = conditions.find((child) => child.namespace === NS.streamErrors)?.name;
  return new TesseraError(
    "peer",
    "xmpp.stream-error",
    `${domain} ended the stream: ${condition ?? "no reason given"}`,
    { subject: domain },
  );
}

const CERTIFICATE_FAULT = /CERT|ALTNAME|SELF_SIGNED|ISSUER|UNABLE_TO_|SIGNATURE/;

function certificateFault(reason: TesseraError, domain: string): TesseraError | undefined {
  const code = (reason.cause as { code?: unknown } | undefined)?.code;
  if (typeof code !== "string" || !CERTIFICATE_FAULT.test(code)) return undefined;
  return new TesseraError(
    "environment",
    "xmpp.certificate-refused",
    `the certificate of ${domain} is not trusted (${code})`,
    { subject: domain, remedy: "give the CA that signed it", cause: reason.cause },
  );
}
