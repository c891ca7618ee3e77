import type { World } from "#core";
import { parseChallenge } from "./challenge.ts";
import type { RegistryAccess, RegistryOptions } from "./contract.ts";
import { accessRefused, protocolBroken, unreachable } from "./errors.ts";
import { isLoopback } from "./reference.ts";
import { persistently } from "./retry.ts";
import { basic, fetchToken } from "./token.ts";
import { Wire, type WireAnswer, type WireRequest } from "./wire.ts";

const IDLE_MS = 60_000;
const ATTEMPTS_MAX = 5;
const REDIRECTS_MAX = 5;
/** Once without or with an old token, once with a new one. */
const ROUNDS_MAX = 2;

export interface Sending {
  readonly method: WireRequest["method"];
  /** A path below `/v2/NAME/`, one below `/` that begins with it, or where the registry said to go on. */
  readonly to: string | URL;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
}

export interface Target {
  readonly host: string;
  readonly name: string;
  readonly writes: boolean;
  /** What a token is asked for, where that is not this repository. */
  readonly scope?: string;
}

/**
 * Requests to one repository of one registry: authenticated as it asks for, redirected where it
 * sends. Credentials and tokens go to the registry's own origin, and to nobody that it redirects to.
 */
export class Session {
  readonly world: World;
  readonly host: string;
  readonly #base: URL;
  readonly #name: string;
  readonly #wire: Wire;
  readonly #access: RegistryAccess;
  readonly #options: RegistryOptions;
  readonly #scope: string;
  #authorization: string | undefined;

  constructor(world: World, target: Target, access: RegistryAccess, options: RegistryOptions = {}) {
    const { host, name, writes } = target;
    this.world = world;
    this.host = host;
    this.#name = name;
    this.#access = access;
    this.#options = options;
    this.#base = new URL(`${isPlain(host, access) ? "http" : "https"}://${host}`);
    this.#scope = target.scope ?? `repository:${name}:${writes ? "pull,push" : "pull"}`;
    this.#wire = new Wire({
      host,
      idle_ms: options.idle_ms ?? IDLE_MS,
      ...(access.ca === undefined ? {} : { ca: access.ca }),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
  }

  close(): void {
    this.#wire.close();
  }

  /** Tries `work` again as long as another attempt may help. */
  persistently<T>(work: (progressed: () => void) => Promise<T>): Promise<T> {
    const { attemptsMax = ATTEMPTS_MAX, signal } = this.#options;
    return persistently(
      this.world,
      { attemptsMax, ...(signal === undefined ? {} : { signal }) },
      work,
    );
  }

  /**
   * The answer to one request; a status of 500 and above, or 429, is thrown.
   *
   * @throws `registry.access-refused` (misuse), `registry.protocol` (peer), `registry.unreachable`
   */
  async send(sending: Sending): Promise<WireAnswer> {
    this.#options.signal?.throwIfAborted();
    let url =
      typeof sending.to === "string"
        ? new URL(sending.to.startsWith("/") ? sending.to : this.#own(sending.to), this.#base)
        : this.#allowed(sending.to);
    let rounds = 0;
    for (let hops = 0; hops <= REDIRECTS_MAX;) {
      const answer = await this.#once(sending, url);
      if (answer.status === 401 && this.#isOwn(url)) {
        answer.discard();
        await this.#authenticate(answer, (rounds += 1));
        continue;
      }
      if (!isRedirect(answer.status)) return this.#judged(answer);
      answer.discard();
      url = this.#nextHop(sending, answer);
      hops += 1;
    }
    throw protocolBroken(this.host, `redirects more than ${REDIRECTS_MAX} times`);
  }

  /** Where an answer's `Location` leads. @throws `registry.protocol` (peer) */
  location(answer: WireAnswer): URL {
    const { location } = answer.headers;
    if (location === undefined || !URL.canParse(location, answer.url.href)) {
      throw protocolBroken(this.host, "does not say where to go on");
    }
    return this.#allowed(new URL(location, answer.url));
  }

  #once({ method, headers = {}, body }: Sending, url: URL): Promise<WireAnswer> {
    const own = this.#isOwn(url) && this.#authorization !== undefined;
    return this.#wire.send({
      method,
      url,
      headers: { ...headers, ...(own ? { authorization: this.#authorization ?? "" } : {}) },
      ...(body === undefined ? {} : { body }),
    });
  }

  #own(path: string): string {
    return `/v2/${this.#name}/${path}`;
  }

  #isOwn(url: URL): boolean {
    return url.origin === this.#base.origin;
  }

  async #authenticate(answer: WireAnswer, round: number): Promise<void> {
    const header = answer.headers["www-authenticate"] ?? "";
    const challenge = parseChallenge(header);
    const { credentials } = this.#access;
    if (challenge === undefined) {
      throw accessRefused(this.host, "asks for an authentication that is not known here");
    }
    if (challenge.scheme === "basic" && credentials === undefined) {
      throw accessRefused(this.host, "asks for a user and a password");
    }
    const spent = challenge.scheme === "basic" ? round > 1 : round > ROUNDS_MAX;
    if (spent) throw accessRefused(this.host, "does not accept what it is given");
    this.#authorization =
      challenge.scheme === "basic" && credentials !== undefined
        ? basic(credentials)
        : await this.#bearer(challenge);
  }

  async #bearer(challenge: ReturnType<typeof parseChallenge>): Promise<string> {
    if (challenge?.scheme !== "bearer") throw accessRefused(this.host, "asks for nothing known");
    const { credentials } = this.#access;
    const token = await fetchToken(this.#wire, this.#base, challenge, {
      scope: this.#scope,
      ...(credentials === undefined ? {} : { credentials }),
    });
    return `Bearer ${token}`;
  }

  #nextHop({ method }: Sending, answer: WireAnswer): URL {
    if (method === "GET" || method === "HEAD") return this.location(answer);
    throw protocolBroken(this.host, `redirects a ${method}`);
  }

  /** TLS stays TLS, and without TLS only the registry itself is spoken to. */
  #allowed(url: URL): URL {
    if (url.protocol === "https:" || this.#isOwn(url)) return url;
    throw protocolBroken(this.host, `sends to ${url.origin}, where we do not go`);
  }

  #judged(answer: WireAnswer): WireAnswer {
    const { status } = answer;
    if (status < 500 && status !== 429 && status !== 401 && status !== 403) return answer;
    answer.discard();
    if (status === 401 || status === 403) {
      throw accessRefused(this.host, `refuses (status ${status} from ${answer.url.host})`);
    }
    throw unreachable(answer.url.host, `it answers with status ${status}`);
  }
}

function isPlain(host: string, { plainHttp, ca }: RegistryAccess): boolean {
  if (isLoopback(host)) return ca === undefined;
  return plainHttp === true;
}

function isRedirect(status: number): boolean {
  return [301, 302, 303, 307, 308].includes(status);
}
