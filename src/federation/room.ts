/**
 * The federation's room (XEP-0045) seen from one agent.
 *
 * ```
 * agent                              room
 *   | presence to room/nick, x/muc     |
 *   |--------------------------------->|
 *   |   presence of every occupant     |  real JIDs, as whois is anyone
 *   |<---------------------------------|
 *   |   own presence, status 110       |  joined
 *   |<---------------------------------|
 *   | ping to room/nick (XEP-0410)     |  every 15 to 30 s: not-acceptable means rejoin
 *   |--------------------------------->|
 * ```
 */
import { TesseraError, type World } from "#core";
import {
  bareOf,
  childOf,
  childrenOf,
  conditionOf,
  NS,
  resourceOf,
  stanza,
  stanzaError,
  textOf,
  xml,
  type XmlElement,
  type XmppClient,
} from "#xmpp";
import { OFFER_NS } from "./stanzas.ts";

export interface RoomSettings {
  /** Bare JID of the room. */
  readonly room: string;
  readonly cloud: string;
  /** Called after each join, before the room counts as joined; the host configures it here. */
  readonly onJoined: () => Promise<void>;
  readonly ping_ms: { readonly least: number; readonly most: number };
  readonly backOff_ms: { readonly first: number; readonly longest: number };
}

export interface RoomEvents {
  present(realJid: string, offerText: string | undefined): void;
  gone(realJid: string): void;
  lost(): void;
}

const JOIN_MS = 10_000;
/** Answers to a self-ping that mean that we are still in the room (XEP-0410, section 3.2). */
const STILL_IN: ReadonlySet<string | undefined> = new Set([
  "service-unavailable",
  "feature-not-implemented",
  "item-not-found",
]);

/** Keeps the agent in the room: joins, notices when the room has lost it, and joins again. */
export class RoomPresence {
  readonly #world: World;
  readonly #client: XmppClient;
  readonly #settings: RoomSettings;
  readonly #events: RoomEvents;
  readonly #occupants = new Map<string, string>();
  readonly #stopping = new AbortController();
  readonly #unsubscribe: (() => void)[] = [];
  #nick: string;
  #offerText: string | undefined;
  #joined = false;
  #joining: PromiseWithResolvers<void> | undefined;
  #wake = new AbortController();
  #loop: Promise<void> = Promise.resolve();

  constructor(world: World, client: XmppClient, settings: RoomSettings, events: RoomEvents) {
    this.#world = world;
    this.#client = client;
    this.#settings = settings;
    this.#events = events;
    this.#nick = this.#newNick();
  }

  start(): void {
    this.#unsubscribe.push(
      this.#client.onStanza((element) => this.#take(element)),
      this.#client.onOnline(() => this.#lost("a new session")),
      this.#client.onOffline(() => this.#lost("no session")),
    );
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error("the room was left"));
    this.#wake.abort(this.#stopping.signal.reason);
    await this.#loop;
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    if (this.#joined) this.#sendPresence({ type: "unavailable" });
    this.#joined = false;
  }

  announce(offerText: string): void {
    this.#offerText = offerText;
    if (this.#joined) this.#sendPresence({}, this.#offerElement());
  }

  /** Nicks are only labels; a random tail keeps others from occupying ours. */
  #newNick(): string {
    const tail = Buffer.from(this.#world.random.bytes(3)).toString("hex");
    return `${this.#settings.cloud}-${tail}`;
  }

  #offerElement(): XmlElement | undefined {
    if (this.#offerText === undefined) return undefined;
    return xml(OFFER_NS, "offer", {}, this.#offerText);
  }

  #sendPresence(attributes: Record<string, string>, ...children: (XmlElement | undefined)[]): void {
    const to = `${this.#settings.room}/${this.#nick}`;
    try {
      this.#client.send(stanza("presence", { to, ...attributes }, ...children));
    } catch (error) {
      this.#world.log.log("debug", "a presence was not sent", { error: String(error) });
    }
  }

  /**
   * Joins until joined, then pings until the room has lost us, until stopped. The wait grows with
   * every try and only a stay of some length resets it, so a room that throws us out is spared.
   */
  async #run(): Promise<void> {
    const { first, longest } = this.#settings.backOff_ms;
    const { clock, random } = this.#world;
    let wait_ms = first;
    while (!this.#stopping.signal.aborted) {
      const began_ms = clock.monotonic();
      if (await this.#attempt()) await this.#remain();
      if (clock.monotonic() - began_ms > longest) wait_ms = first;
      await this.#sleep(wait_ms * (0.5 + random.fraction()));
      wait_ms = Math.min(wait_ms * 2, longest);
    }
  }

  async #attempt(): Promise<boolean> {
    if (this.#client.jid === undefined) return false;
    try {
      await this.#join();
      await this.#settings.onJoined();
      this.#joined = true;
      // What was announced while the room was being entered.
      this.#sendPresence({}, this.#offerElement());
      return true;
    } catch (error) {
      if (conditionOf(error) === "conflict") this.#nick = this.#newNick();
      this.#world.log.log("info", "the room was not joined", {
        room: this.#settings.room,
        error: String(error),
      });
      return false;
    }
  }

  async #join(): Promise<void> {
    const joining = Promise.withResolvers<void>();
    this.#joining = joining;
    const { room } = this.#settings;
    const cancel = this.#world.clock.after(JOIN_MS, () =>
      joining.reject(
        new TesseraError("environment", "federation.room-unreachable", `${room} is silent`, {
          subject: room,
        }),
      ),
    );
    const history = xml(NS.muc, "history", { maxstanzas: "0" });
    this.#sendPresence({}, xml(NS.muc, "x", {}, history), this.#offerElement());
    await joining.promise.finally(() => {
      cancel();
      this.#joining = undefined;
    });
  }

  async #remain(): Promise<void> {
    const { least, most } = this.#settings.ping_ms;
    while (this.#joined && !this.#stopping.signal.aborted) {
      await this.#sleep(least + (most - least) * this.#world.random.fraction());
      if (!this.#joined || this.#stopping.signal.aborted) return;
      if (!(await this.#stillIn())) this.#lost("the room answered that we are not in it");
    }
  }

  async #stillIn(): Promise<boolean> {
    const to = `${this.#settings.room}/${this.#nick}`;
    try {
      await this.#client.ask({
        to,
        type: "get",
        payload: xml(NS.ping, "ping"),
        timeout_ms: JOIN_MS,
      });
      return true;
    } catch (error) {
      return STILL_IN.has(conditionOf(error) ?? "none");
    }
  }

  async #sleep(milliseconds: number): Promise<void> {
    await this.#world.clock.sleep(milliseconds, this.#wake.signal).catch(() => {});
    if (!this.#stopping.signal.aborted && this.#wake.signal.aborted) {
      this.#wake = new AbortController();
    }
  }

  #lost(reason: string): void {
    if (this.#joined) this.#world.log.log("info", "the room is to be joined again", { reason });
    this.#joined = false;
    this.#occupants.clear();
    this.#events.lost();
    this.#joining?.reject(new Error(reason));
    this.#wake.abort(new Error(reason));
  }

  #take(element: XmlElement): void {
    const from = element.attributes["from"] ?? "";
    if (element.name !== "presence" || bareOf(from) !== this.#settings.room) return;
    const nick = resourceOf(from);
    const type = element.attributes["type"];
    if (type === "error") this.#refused(element);
    else if (nick !== undefined) this.#occupant(nick, type, element);
  }

  #refused(element: XmlElement): void {
    if (this.#joining !== undefined) this.#joining.reject(stanzaError(element));
    else this.#lost("the room refused a presence");
  }

  #occupant(nick: string, type: string | undefined, element: XmlElement): void {
    const user = childOf(element, NS.mucUser, "x");
    const self = statusesOf(user).has("110");
    const realJid = childOf(user, NS.mucUser, "item")?.attributes["jid"];
    if (type === "unavailable") {
      if (self) this.#lost("we were removed from the room");
      else this.#leave(nick);
      return;
    }
    if (type !== undefined || realJid === undefined) return;
    if (!self && realJid !== this.#client.jid) this.#enter(nick, realJid, element);
    if (self) this.#joining?.resolve();
  }

  #enter(nick: string, realJid: string, element: XmlElement): void {
    const before = this.#occupants.get(nick);
    if (before !== undefined && before !== realJid) this.#events.gone(before);
    this.#occupants.set(nick, realJid);
    const stale = childOf(element, NS.delay, "delay") !== undefined;
    const offer = stale ? undefined : childOf(element, OFFER_NS, "offer");
    this.#events.present(realJid, offer && textOf(offer));
  }

  #leave(nick: string): void {
    const realJid = this.#occupants.get(nick);
    this.#occupants.delete(nick);
    if (realJid !== undefined) this.#events.gone(realJid);
  }
}

function statusesOf(user: XmlElement | undefined): ReadonlySet<string> {
  if (user === undefined) return new Set();
  const statuses = childrenOf(user).filter(({ name }) => name === "status");
  return new Set(statuses.map(({ attributes }) => attributes["code"] ?? ""));
}
