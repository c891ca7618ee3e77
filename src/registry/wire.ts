/** One HTTP exchange, with bounds. It knows nothing of registries. */
import { Agent as HttpAgent, request as httpRequest, type IncomingHttpHeaders } from "node:http";
import type { IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { rootCertificates } from "node:tls";
import { TesseraError } from "#core";
import { protocolBroken, unreachable } from "./errors.ts";

export interface WireRequest {
  readonly method: "GET" | "HEAD" | "POST" | "PATCH" | "PUT" | "DELETE";
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
}

/** An answer whose body is not read yet; it must be read to its end or discarded. */
export interface WireAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly url: URL;
  /** @throws `registry.unreachable` when it is cut off */
  chunks(): AsyncIterable<Uint8Array>;
  /** All of the body. @throws `registry.protocol` above `bytesMax` */
  text(bytesMax: number): Promise<string>;
  bytes(bytesMax: number): Promise<Uint8Array>;
  /** Throws the body away, with the connection when more than a little is left. */
  discard(): void;
}

export interface WireOptions {
  /** The registry itself, by host and port, to which `ca` belongs. */
  readonly host: string;
  readonly ca?: string;
  readonly idle_ms: number;
  readonly signal?: AbortSignal;
}

const HEADER_BYTES_MAX = 64 * 1024;
const CONNECTIONS_MAX = 4;

export class Wire {
  readonly #options: WireOptions;
  readonly #plain = new HttpAgent({ keepAlive: true, maxSockets: CONNECTIONS_MAX });
  readonly #secure: HttpsAgent;
  readonly #foreign: HttpsAgent;

  constructor(options: WireOptions) {
    const { ca } = options;
    const common = { keepAlive: true, maxSockets: CONNECTIONS_MAX };
    this.#options = options;
    this.#secure = new HttpsAgent({ ...common, ...(ca === undefined ? {} : { ca }) });
    // Where a registry sends us on may have a certificate of a public authority.
    this.#foreign = new HttpsAgent({
      ...common,
      ...(ca === undefined ? {} : { ca: [...rootCertificates, ca] }),
    });
  }

  /** @throws `registry.unreachable` (environment) */
  async send(request: WireRequest): Promise<WireAnswer> {
    const { signal, idle_ms } = this.#options;
    const { method, url, body } = request;
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const sending = (url.protocol === "https:" ? httpsRequest : httpRequest)(url, {
      method,
      agent: this.#agentOf(url),
      headers: {
        ...request.headers,
        "accept-encoding": "identity",
        ...(body === undefined ? {} : { "content-length": String(body.length) }),
      },
      maxHeaderSize: HEADER_BYTES_MAX,
      timeout: idle_ms,
      ...(signal === undefined ? {} : { signal }),
    });
    sending.on("timeout", () => sending.destroy(new Error(`nothing came for ${idle_ms} ms`)));
    sending.on("error", reject);
    sending.on("response", resolve);
    sending.end(body);
    try {
      return new Answer(await promise, url, signal);
    } catch (cause) {
      throw failure(url, cause, signal);
    }
  }

  close(): void {
    for (const agent of [this.#plain, this.#secure, this.#foreign]) agent.destroy();
  }

  #agentOf(url: URL): HttpAgent {
    if (url.protocol !== "https:") return this.#plain;
    return url.host === new URL(`https://${this.#options.host}`).host
      ? this.#secure
      : this.#foreign;
  }
}

function failure(url: URL, cause: unknown, signal: AbortSignal | undefined): unknown {
  if (signal?.aborted === true) return signal.reason;
  if (cause instanceof TesseraError) return cause;
  const { code, message } = cause as { code?: string; message?: string };
  const plain = code === "EPROTO" ? " (without TLS it is spoken to with --plain-http only)" : "";
  return unreachable(url.host, `${message || code || "the connection failed"}${plain}`, cause);
}

class Answer implements WireAnswer {
  readonly url: URL;
  readonly #message: IncomingMessage;
  readonly #signal: AbortSignal | undefined;

  constructor(message: IncomingMessage, url: URL, signal: AbortSignal | undefined) {
    this.#message = message;
    this.url = url;
    this.#signal = signal;
    // A cut before anybody reads must not end the process.
    message.on("error", () => undefined);
  }

  get status(): number {
    return this.#message.statusCode ?? 0;
  }

  get headers(): IncomingHttpHeaders {
    return this.#message.headers;
  }

  async *chunks(): AsyncIterable<Uint8Array> {
    const encoding = this.headers["content-encoding"];
    if (encoding !== undefined && encoding !== "identity") {
      this.discard();
      throw protocolBroken(this.url.host, `encodes as ${encoding} what was asked for as it is`);
    }
    try {
      for await (const chunk of this.#message) yield chunk as Uint8Array;
    } catch (cause) {
      throw failure(this.url, cause, this.#signal);
    }
    if (!this.#message.complete) throw unreachable(this.url.host, "the connection was cut");
  }

  async bytes(bytesMax: number): Promise<Uint8Array> {
    const pieces: Uint8Array[] = [];
    let length = 0;
    for await (const chunk of this.chunks()) {
      length += chunk.length;
      if (length > bytesMax) {
        this.discard();
        throw protocolBroken(this.url.host, `answers with more than ${bytesMax} bytes`);
      }
      pieces.push(chunk);
    }
    return Buffer.concat(pieces);
  }

  async text(bytesMax: number): Promise<string> {
    return Buffer.from(await this.bytes(bytesMax)).toString("utf8");
  }

  discard(): void {
    const { headers } = this.#message;
    const small = Number(headers["content-length"] ?? Number.NaN) <= 65_536;
    if (small || this.status === 204) this.#message.resume();
    else this.#message.destroy();
  }
}
