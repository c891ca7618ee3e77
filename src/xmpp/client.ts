import { TesseraError, type World } from "#core";
import { childOf, childrenOf, stanza, textOf, xml, type XmlElement } from "./element.ts";
import { bareOf, domainOf } from "./jid.ts";
import { NS } from "./namespaces.ts";
import { STREAM_LIMITS } from "./parser.ts";
import { openSession, type Account, type Session } from "./session.ts";
import type { StreamAddress } from "./stream.ts";

export interface ClientSettings {
  readonly account: Account;
  readonly address: StreamAddress;
  /** PEM of the authorities that sign the server's certificate; absent trusts the system's. */
  readonly ca?: string;
  /** Features that are told to those who ask (XEP-0030). */
  readonly features?: readonly string[];
  readonly negotiation_ms?: number;
  /** First and longest wait before a new connection. */
  readonly backOff_ms?: { readonly first: number; readonly longest: number };
  /** How often an idle stream is probed, and how long the server may take to answer. */
  readonly probe_ms?: { readonly every: number; readonly timeout: number };
}

export interface Question {
  readonly to?: string;
  readonly type: "get" | "set";
  readonly payload: XmlElement;
  readonly timeout_ms?: number;
}

/** Answers an IQ with the payload of the result; an error becomes an error stanza. */
export type IqHandler = (iq: XmlElement) => Promise<XmlElement | undefined>;

/** What an error stanza said; the `cause` of `xmpp.stanza-error`. */
export interface StanzaFailure {
  readonly type: string;
  /** RFC 6120, section 8.3.3, for instance `item-not-found`. */
  readonly condition: string;
  readonly text: string;
  /** The whole error element, for conditions of an application. */
  readonly element: XmlElement | undefined;
}

const QUESTION_MS = 30_000;

interface Pending {
  readonly answerers: ReadonlySet<string | undefined>;
  readonly settle: (outcome: XmlElement | TesseraError) => void;
}

/** The condition of the error stanza that `error` stands for, if it does. */
export function conditionOf(error: unknown): string | undefined {
  if (!(error instanceof TesseraError) || error.code !== "xmpp.stanza-error") return undefined;
  return (error.cause as StanzaFailure).condition;
}

export function failureOf(element: XmlElement): StanzaFailure {
  const error = childOf(element, NS.client, "error");
  const details = error === undefined ? [] : childrenOf(error);
  const named = details.filter(({ namespace }) => namespace === NS.stanzas);
  const text = named.find(({ name }) => name === "text");
  return {
    type: error?.attributes["type"] ?? "cancel",
    condition: named.find(({ name }) => name !== "text")?.name ?? "undefined-condition",
    text: text === undefined ? "" : textOf(text).slice(0, 500),
    element: error,
  };
}

export function stanzaError(element: XmlElement): TesseraError {
  const failure = failureOf(element);
  const from = element.attributes["from"] ?? "the server";
  const message = `${from} answered ${failure.condition}${failure.text && `: ${failure.text}`}`;
  return new TesseraError("peer", "xmpp.stanza-error", message, { subject: from, cause: failure });
}

/**
 * An XMPP client that stays connected. One life: `start` resolves with the first session (or
 * throws why there is none), after which a lost session is replaced with back-off until `stop`.
 * Answers are matched by sender and id; all that is unanswered when a session ends fails at once,
 * since nothing tells whether it arrived.
 */
export class XmppClient {
  readonly #world: World;
  readonly #settings: ClientSettings;
  readonly #resource: string;
  readonly #pending = new Map<string, Pending>();
  readonly #iqHandlers = new Map<string, IqHandler>();
  readonly #listeners = new Set<(element: XmlElement) => void>();
  readonly #onlineListeners = new Set<() => void>();
  readonly #offlineListeners = new Set<() => void>();
  readonly #stopping = new AbortController();
  #session: Session | undefined;
  #loop: Promise<void> = Promise.resolve();

  constructor(world: World, settings: ClientSettings) {
    this.#world = world;
    this.#settings = settings;
    this.#resource = Buffer.from(world.random.bytes(12)).toString("base64url");
    this.handleIq(NS.ping, "ping", async () => undefined);
    this.handleIq(NS.discoInfo, "query", async () => this.#describe());
  }

  /** The full JID while online. */
  get jid(): string | undefined {
    return this.#session?.jid;
  }

  /** @throws as `openSession` */
  async start(): Promise<void> {
    const session = await this.#connect();
    this.#loop = this.#run(session);
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new TesseraError("misuse", "xmpp.stopped", "the client was stopped"));
    this.#session?.stream.end();
    await this.#loop;
  }

  /** @throws `xmpp.offline` */
  send(element: XmlElement): void {
    if (this.#session === undefined) throw this.#offline();
    this.#session.stream.send(element);
  }

  /**
   * Asks and resolves with the whole result stanza.
   *
   * @throws `xmpp.stanza-error` (see {@link conditionOf}), `xmpp.timeout`, `xmpp.offline`
   */
  async ask(question: Question): Promise<XmlElement> {
    const id = this.#world.random.uuid();
    const { to, type, payload, timeout_ms = QUESTION_MS } = question;
    const answer = Promise.withResolvers<XmlElement>();
    const cancel = this.#world.clock.after(timeout_ms, () =>
      answer.reject(
        new TesseraError("peer", "xmpp.timeout", `${to ?? "the server"} did not answer in time`, {
          subject: to ?? domainOf(this.#settings.account.jid),
        }),
      ),
    );
    this.#pending.set(id, {
      answerers: this.#answerers(to),
      settle: (outcome) =>
        outcome instanceof TesseraError ? answer.reject(outcome) : answer.resolve(outcome),
    });
    try {
      this.send(stanza("iq", { to, type, id }, payload));
      return await answer.promise;
    } finally {
      cancel();
      this.#pending.delete(id);
    }
  }

  /** Answers IQs whose payload has this name and namespace. */
  handleIq(namespace: string, name: string, handler: IqHandler): void {
    this.#iqHandlers.set(`${namespace} ${name}`, handler);
  }

  /** Calls back with every presence and message; returns the unsubscriber. */
  onStanza(listener: (element: XmlElement) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Calls back whenever a session begins, after the first one too. */
  onOnline(listener: () => void): () => void {
    this.#onlineListeners.add(listener);
    return () => this.#onlineListeners.delete(listener);
  }

  onOffline(listener: () => void): () => void {
    this.#offlineListeners.add(listener);
    return () => this.#offlineListeners.delete(listener);
  }

  #offline(): TesseraError {
    const domain = domainOf(this.#settings.account.jid);
    return new TesseraError("environment", "xmpp.offline", `no session with ${domain}`, {
      subject: domain,
      remedy: "check that the XMPP server runs; the session is renewed by itself",
    });
  }

  async #connect(): Promise<Session> {
    const { account, address, ca, negotiation_ms = 10_000 } = this.#settings;
    return openSession(this.#world, {
      account,
      address,
      domain: domainOf(account.jid),
      resource: this.#resource,
      limits: STREAM_LIMITS,
      onDropped: () => this.#world.log.log("warn", "a stanza above the limits was dropped"),
      negotiation_ms,
      ...(ca === undefined ? {} : { ca }),
    });
  }

  async #run(first: Session): Promise<void> {
    let session: Session | undefined = first;
    while (session !== undefined) {
      await this.#live(session);
      session = await this.#reconnect();
    }
  }

  async #live(session: Session): Promise<void> {
    this.#session = session;
    session.stream.deliver((element) => this.#take(element));
    const done = new AbortController();
    const probing = this.#probe(session, done.signal);
    if (this.#stopping.signal.aborted) session.stream.end();
    for (const listener of this.#onlineListeners) listener();
    const reason = await session.stream.closed;
    done.abort(reason);
    this.#session = undefined;
    for (const { settle } of this.#pending.values()) settle(reason);
    for (const listener of this.#offlineListeners) listener();
    await probing;
  }

  async #reconnect(): Promise<Session | undefined> {
    const { first, longest } = this.#settings.backOff_ms ?? { first: 250, longest: 30_000 };
    for (let wait_ms = first; ; wait_ms = Math.min(wait_ms * 2, longest)) {
      try {
        const jittered_ms = wait_ms * (0.5 + this.#world.random.fraction());
        await this.#world.clock.sleep(jittered_ms, this.#stopping.signal);
        return await this.#connect();
      } catch (error) {
        if (this.#stopping.signal.aborted) return undefined;
        const code = error instanceof TesseraError ? error.code : "core.unexpected";
        this.#world.log.log("warn", "no XMPP session", { code, jid: this.#settings.account.jid });
      }
    }
  }

  /** A server that hangs keeps the connection open: only asking it tells (XEP-0199). */
  async #probe(session: Session, ended: AbortSignal): Promise<void> {
    const { every, timeout } = this.#settings.probe_ms ?? { every: 30_000, timeout: 15_000 };
    const payload = xml(NS.ping, "ping");
    while (!ended.aborted) {
      try {
        await this.#world.clock.sleep(every, ended);
        await this.ask({ type: "get", payload, timeout_ms: timeout });
      } catch (error) {
        if (!ended.aborted && conditionOf(error) === undefined)
          session.stream.fail(this.#offline());
      }
    }
  }

  /** Who may answer a question to `to` (RFC 6120, section 8.1.2.1). */
  #answerers(to: string | undefined): ReadonlySet<string | undefined> {
    if (to !== undefined) return new Set([to]);
    const { jid } = this.#settings.account;
    return new Set([undefined, jid, domainOf(jid), this.jid]);
  }

  #take(element: XmlElement): void {
    if (element.namespace !== NS.client) return;
    if (element.name !== "iq") {
      for (const listener of this.#listeners) listener(element);
      return;
    }
    const { type, id } = element.attributes as { type?: string; id?: string };
    if (type === "get" || type === "set") void this.#answer(element, id ?? "");
    else this.#settle(element, type, id ?? "");
  }

  #settle(element: XmlElement, type: string | undefined, id: string): void {
    const pending = this.#pending.get(id);
    if (pending === undefined || !pending.answerers.has(element.attributes["from"])) return;
    if (type === "result") pending.settle(element);
    if (type === "error") pending.settle(stanzaError(element));
  }

  async #answer(iq: XmlElement, id: string): Promise<void> {
    const to = iq.attributes["from"];
    const payload = childrenOf(iq)[0];
    const handler = payload && this.#iqHandlers.get(`${payload.namespace} ${payload.name}`);
    const reply = await this.#reply(iq, handler);
    const type = reply?.name === "error" && reply.namespace === NS.client ? "error" : "result";
    try {
      this.send(stanza("iq", { to, type, id }, reply));
    } catch (error) {
      this.#world.log.log("info", "an answer was lost", { to: bareOf(to ?? ""), error });
    }
  }

  async #reply(iq: XmlElement, handler: IqHandler | undefined): Promise<XmlElement | undefined> {
    if (handler === undefined) return errorPayload("cancel", "service-unavailable");
    try {
      return await handler(iq);
    } catch (error) {
      this.#world.log.log("warn", "a handler failed", { error: String(error) });
      return errorPayload("cancel", "internal-server-error");
    }
  }

  #describe(): XmlElement {
    const features = [NS.ping, NS.discoInfo, ...(this.#settings.features ?? [])];
    const identity = xml(NS.discoInfo, "identity", { category: "automation", type: "bot" });
    const told = features.map((name) => xml(NS.discoInfo, "feature", { var: name }));
    return xml(NS.discoInfo, "query", {}, identity, ...told);
  }
}

/** The `error` child of an error stanza; a handler returns it to refuse. */
export function errorPayload(type: string, condition: string): XmlElement {
  return xml(NS.client, "error", { type }, xml(NS.stanzas, condition));
}
