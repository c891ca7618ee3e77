import type { World } from "#core";
import { bareOf, NS, XmppClient, type Account, type StreamAddress, type XmlElement } from "#xmpp";
import type { Carrier, CarrierEvents, Parcel } from "./carrier.ts";
import type { AgentKey, FederationTransport, PeerCard } from "./contract.ts";
import type { Sealed } from "./envelope.ts";
import { unreachable } from "./in-process.ts";
import { configureRoom, setMembers } from "./room-host.ts";
import { RoomPresence } from "./room.ts";
import {
  answerPayload,
  DATA_NS,
  failedRequest,
  isQuery,
  MIGRATION_NS,
  OFFER_NS,
  readAnswer,
  readRequest,
  refusalPayload,
  requestPayload,
} from "./stanzas.ts";
import { AgentTransport } from "./transport.ts";

export interface XmppTransportSettings {
  readonly cloud: string;
  readonly key: AgentKey;
  /** The agent's account, and where its own server takes clients by direct TLS. */
  readonly account: Account;
  readonly address: StreamAddress;
  /** PEM of the authority of our own server; absent trusts those of the system. */
  readonly ca?: string;
  /** Bare JID of the federation's room. */
  readonly room: string;
  /** Is the room on our own server, so that we create it and admit its members? */
  readonly hostsRoom: boolean;
  /** The clouds that we trust, as they are now. */
  readonly peers: () => readonly PeerCard[];
  /** Times for tests that cannot wait. */
  readonly timing?: Timing;
}

export interface Timing {
  /** Between two refreshes of presence, and between two self-pings. */
  readonly refresh_ms: { readonly least: number; readonly most: number };
  /** First and longest wait before joining or connecting again. */
  readonly backOff_ms: { readonly first: number; readonly longest: number };
}

const TIMING: Timing = {
  refresh_ms: { least: 15_000, most: 30_000 },
  backOff_ms: { first: 250, longest: 10_000 },
};

export interface XmppTransport extends FederationTransport {
  /** Our full address: the account's, with a resource once logged in. */
  address(): string;
  /** Is the agent logged in at its own server? */
  online(): boolean;
  /** To be called after the list of peers has changed: admits the new ones to a room of ours. */
  refreshPeers(): Promise<void>;
}

/**
 * The transport over XMPP. `start` resolves when the agent is logged in at its own server; the
 * room is joined, and joined again whenever it is lost, in the background.
 */
export function createXmppTransport(world: World, settings: XmppTransportSettings): XmppTransport {
  const carrier = new XmppCarrier(world, settings);
  const { cloud, key, peers, timing = TIMING } = settings;
  const cardOf = (address: string): PeerCard | undefined =>
    peers().find(({ jid }) => jid === bareOf(address));
  const { refresh_ms } = timing;
  const transport = new AgentTransport(world, { cloud, key, carrier, cardOf, refresh_ms });
  return Object.assign(transport, {
    address: () => carrier.address(),
    online: () => carrier.online(),
    refreshPeers: () => carrier.refreshMembers(),
  });
}

class XmppCarrier implements Carrier {
  readonly #settings: XmppTransportSettings;
  readonly #client: XmppClient;
  readonly #world: World;
  #room: RoomPresence | undefined;
  #address: string;
  #offerText: string | undefined;

  constructor(world: World, settings: XmppTransportSettings) {
    this.#world = world;
    this.#settings = settings;
    this.#address = settings.account.jid;
    const { account, address, ca, timing = TIMING } = settings;
    this.#client = new XmppClient(world, {
      account,
      address,
      features: [NS.muc, NS.jingle, MIGRATION_NS, DATA_NS, OFFER_NS],
      backOff_ms: timing.backOff_ms,
      ...(ca === undefined ? {} : { ca }),
    });
  }

  address(): string {
    return this.#client.jid ?? this.#address;
  }

  online(): boolean {
    return this.#client.jid !== undefined;
  }

  async start(events: CarrierEvents): Promise<void> {
    const answer = async (iq: XmlElement): Promise<XmlElement> => {
      try {
        const { from, sealed } = readRequest(iq);
        return answerPayload(await events.asked(from, sealed));
      } catch (error) {
        this.#world.log.log("info", "a request was not taken", { error: String(error) });
        return refusalPayload(error);
      }
    };
    this.#client.handleIq(NS.jingle, "jingle", answer);
    this.#client.handleIq(MIGRATION_NS, "query", answer);
    await this.#client.start();
    this.#address = this.address();
    const { room, cloud, timing = TIMING } = this.#settings;
    const { refresh_ms, backOff_ms } = timing;
    const onJoined = (): Promise<void> => this.#configure();
    const roomSettings = { room, cloud, onJoined, ping_ms: refresh_ms, backOff_ms };
    this.#room = new RoomPresence(this.#world, this.#client, roomSettings, events);
    if (this.#offerText !== undefined) this.#room.announce(this.#offerText);
    this.#room.start();
  }

  async stop(): Promise<void> {
    await this.#room?.stop();
    await this.#client.stop();
  }

  announce(offerText: string): void {
    this.#offerText = offerText;
    this.#room?.announce(offerText);
  }

  async ask(parcel: Parcel, timeout_ms: number): Promise<Sealed> {
    const { to, action } = parcel;
    if (this.#client.jid === undefined) throw unreachable(to);
    const type = isQuery(action) ? "get" : "set";
    const payload = requestPayload(parcel, this.address());
    let reply: XmlElement;
    try {
      reply = await this.#client.ask({ to, type, payload, timeout_ms });
    } catch (error) {
      throw failedRequest(error, to);
    }
    return readAnswer(reply);
  }

  /** Admits and removes members, if the room is ours. */
  async refreshMembers(): Promise<void> {
    const { hostsRoom, room, peers } = this.#settings;
    if (!hostsRoom || this.#client.jid === undefined) return;
    await setMembers(
      this.#client,
      room,
      peers().map(({ jid }) => jid),
    );
  }

  async #configure(): Promise<void> {
    if (!this.#settings.hostsRoom) return;
    await configureRoom(this.#client, this.#settings.room);
    await this.refreshMembers();
  }
}
