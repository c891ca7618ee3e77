import { TesseraError, type Json, type Offer, type World } from "#core";
import type { Carrier } from "./carrier.ts";
import type {
  AgentKey,
  AgentMessage,
  FederationTransport,
  MessageHandler,
  Peer,
  PeerCard,
} from "./contract.ts";
import { Exchange } from "./exchange.ts";
import { malformed } from "./json.ts";
import { encodeOffer, validateOffer } from "./offer.ts";
import { Roster } from "./roster.ts";

const REQUEST_MS = 30_000;
/** How long an offer counts after it was last confirmed or refreshed. */
const OFFER_LIFE_MS = 90_000;
/** Presence is refreshed after a time between these, chosen anew each time. */
const REFRESH_MS = { least: 15_000, most: 30_000 };

export interface TransportSettings {
  readonly cloud: string;
  readonly key: AgentKey;
  readonly carrier: Carrier;
  readonly cardOf: (address: string) => PeerCard | undefined;
  /** For tests that cannot wait. */
  readonly refresh_ms?: { readonly least: number; readonly most: number };
}

/** The contract over any carrier: offers, confirmation, signed requests, refreshes. */
export class AgentTransport implements FederationTransport {
  readonly cloud: string;
  readonly #world: World;
  readonly #settings: TransportSettings;
  readonly #exchange: Exchange;
  readonly #roster: Roster;
  #offer: Offer | undefined;
  #cancelRefresh: () => void = () => {};

  constructor(world: World, settings: TransportSettings) {
    this.#world = world;
    this.#settings = settings;
    this.cloud = settings.cloud;
    const { carrier, cardOf, key } = settings;
    const address = (): string => carrier.address();
    this.#exchange = new Exchange(world, { key, cardOf, address });
    this.#roster = new Roster(world, cardOf);
  }

  async start(handler: MessageHandler): Promise<void> {
    const handle: MessageHandler = async (from, message) =>
      message.action === "offer-get" ? this.#currentOffer() : handler(from, message);
    await this.#settings.carrier.start({
      present: (address, offerText) => this.#roster.present(address, offerText),
      gone: (address) => this.#roster.gone(address),
      lost: () => this.#roster.clear(),
      asked: (from, sealed) => this.#exchange.answer(from, sealed, handle),
    });
    this.#scheduleRefresh();
  }

  async stop(): Promise<void> {
    this.#cancelRefresh();
    await this.#settings.carrier.stop();
    this.#roster.clear();
  }

  async announce(offer: Offer): Promise<void> {
    this.#settings.carrier.announce(encodeOffer(offer));
    this.#offer = offer;
  }

  peers(): readonly Peer[] {
    return this.#roster.peers();
  }

  async confirmOffer(cloud: string): Promise<Offer> {
    const session = this.#world.random.uuid();
    const body = await this.request(cloud, { session, action: "offer-get", body: null });
    const offer = validateOffer(body);
    if (offer.cloud !== cloud) throw malformed("an offer of another cloud");
    return offer;
  }

  async request(
    cloud: string,
    message: AgentMessage,
    timeout_ms: number = REQUEST_MS,
  ): Promise<Json> {
    const peer = this.#roster.peers().find((other) => other.cloud === cloud);
    if (peer === undefined) throw absent(cloud);
    const request = this.#exchange.request(peer.jid, message, timeout_ms);
    const { session, action } = message;
    const parcel = { to: peer.jid, session, action, sealed: request.sealed };
    return this.#exchange.open(request, await this.#settings.carrier.ask(parcel, timeout_ms));
  }

  onPeers(listener: () => void): () => void {
    return this.#roster.onChange(listener);
  }

  #currentOffer(): Json {
    if (this.#offer === undefined) {
      throw new TesseraError("peer", "federation.no-offer", `${this.cloud} offers nothing yet`, {
        subject: this.cloud,
        remedy: "ask again later",
      });
    }
    const { repository, ...offer } = this.#renewed(this.#offer);
    return { ...offer, repository: { ...repository } };
  }

  /** While we are here and answer for it, the last offer stays good. */
  #renewed(offer: Offer): Offer {
    const expires_ms = Math.max(offer.expires_ms, this.#world.clock.now() + OFFER_LIFE_MS);
    return { ...offer, expires_ms: Math.ceil(expires_ms) };
  }

  #scheduleRefresh(): void {
    const { least, most } = this.#settings.refresh_ms ?? REFRESH_MS;
    const wait_ms = least + (most - least) * this.#world.random.fraction();
    this.#cancelRefresh = this.#world.clock.after(wait_ms, () => {
      this.#roster.sweep();
      if (this.#offer !== undefined) {
        this.#settings.carrier.announce(encodeOffer(this.#renewed(this.#offer)));
      }
      this.#scheduleRefresh();
    });
  }
}

function absent(cloud: string): TesseraError {
  return new TesseraError("peer", "federation.unreachable", `${cloud} is not in the federation`, {
    subject: cloud,
    remedy: "check that its agent runs, and that both clouds have each other's card",
  });
}
