import { reportOf, TesseraError, type Clock, type World } from "#core";
import type { Carrier, CarrierEvents, Parcel } from "./carrier.ts";
import type { AgentKey, FederationTransport, MessageAction, PeerCard } from "./contract.ts";
import type { Sealed } from "./envelope.ts";
import { refusal } from "./exchange.ts";
import { AgentTransport } from "./transport.ts";

/** A message on its way, as faults see it. */
export interface Passage {
  readonly kind: "request" | "answer";
  /** Clouds. */
  readonly from: string;
  readonly to: string;
  readonly action: MessageAction;
  readonly session: string;
  /** What is carried; a fault may replace it by returning `tamper`. */
  readonly sealed: Sealed;
}

/** What happens to a message; decided anew for each. */
export type Fate =
  | { readonly kind: "pass" }
  | { readonly kind: "drop" }
  | { readonly kind: "delay"; readonly delay_ms: number }
  | { readonly kind: "duplicate" }
  | { readonly kind: "tamper"; readonly sealed: Sealed };

export interface InProcessFederation {
  /** A transport of `cloud`; it takes part from `start` to `stop`. */
  join(cloud: string, key: AgentKey, peers: () => readonly PeerCard[]): FederationTransport;
}

/**
 * A federation inside one process, with the semantics and signatures of the real one. `fate`
 * injects faults; nothing is random but what comes from the world.
 */
export function createInProcessFederation(
  world: World,
  fate: (passage: Passage) => Fate = () => ({ kind: "pass" }),
): InProcessFederation {
  const hub = new Map<string, InProcessCarrier>();
  return {
    join: (cloud, key, peers) => {
      const carrier = new InProcessCarrier({ world, hub, fate, cloud });
      const cardOf = (address: string): PeerCard | undefined =>
        peers().find((card) => card.cloud === cloudOf(address));
      return new AgentTransport(world, { cloud, key, carrier, cardOf });
    },
  };
}

function cloudOf(address: string): string {
  return address.slice(0, address.indexOf("/"));
}

interface CarrierSettings {
  readonly world: World;
  readonly hub: Map<string, InProcessCarrier>;
  readonly fate: (passage: Passage) => Fate;
  readonly cloud: string;
}

class InProcessCarrier implements Carrier {
  readonly #settings: CarrierSettings;
  readonly #address: string;
  #events: CarrierEvents | undefined;
  #offerText: string | undefined;

  constructor(settings: CarrierSettings) {
    this.#settings = settings;
    this.#address = `${settings.cloud}/${settings.world.random.uuid()}`;
  }

  address(): string {
    return this.#address;
  }

  async start(events: CarrierEvents): Promise<void> {
    this.#events = events;
    const { hub } = this.#settings;
    hub.set(this.#address, this);
    for (const other of this.#others()) {
      other.#events?.present(this.#address, this.#offerText);
      events.present(other.#address, other.#offerText);
    }
  }

  async stop(): Promise<void> {
    this.#settings.hub.delete(this.#address);
    this.#events = undefined;
    for (const other of this.#others()) other.#events?.gone(this.#address);
  }

  announce(offerText: string): void {
    this.#offerText = offerText;
    if (this.#events === undefined) return;
    for (const other of this.#others()) other.#events?.present(this.#address, offerText);
  }

  async ask(parcel: Parcel, timeout_ms: number): Promise<Sealed> {
    const { world } = this.#settings;
    const lost = Promise.withResolvers<never>();
    const cancel = world.clock.after(timeout_ms, () => lost.reject(timeout(parcel.to)));
    try {
      return await Promise.race([this.#exchange(parcel, lost.promise), lost.promise]);
    } finally {
      cancel();
    }
  }

  async #exchange(parcel: Parcel, never: Promise<never>): Promise<Sealed> {
    const { to, action, session } = parcel;
    const about = { action, session };
    const target = this.#settings.hub.get(to);
    if (this.#events === undefined || target === undefined) throw unreachable(to);
    const going = {
      ...about,
      kind: "request",
      from: this.#settings.cloud,
      to: cloudOf(to),
    } as const;
    const copies = await this.#pass({ ...going, sealed: parcel.sealed });
    const answers = copies.map((sealed) => target.#asked(this.#address, sealed, to));
    // Of a duplicate only the first answer counts; the other one is a refused replay.
    for (const extra of answers.slice(1)) extra.catch(() => {});
    const answer = await (answers[0] ?? never);
    const coming = {
      ...about,
      kind: "answer",
      from: cloudOf(to),
      to: this.#settings.cloud,
    } as const;
    return (await this.#pass({ ...coming, sealed: answer }))[0] ?? never;
  }

  async #asked(from: string, sealed: Sealed, to: string): Promise<Sealed> {
    const events = this.#events;
    if (events === undefined) throw unreachable(to);
    try {
      return await events.asked(from, sealed);
    } catch (error) {
      throw refusal(cloudOf(to), { ...reportOf(error) });
    }
  }

  /** The copies that arrive. */
  async #pass(passage: Passage): Promise<Sealed[]> {
    const { fate, world } = this.#settings;
    const decided = fate(passage);
    switch (decided.kind) {
      case "pass":
        return [passage.sealed];
      case "drop":
        return [];
      case "duplicate":
        return [passage.sealed, passage.sealed];
      case "tamper":
        return [decided.sealed];
      case "delay":
        return delayed(world.clock, decided.delay_ms, passage.sealed);
      default:
        return unknownFate(decided);
    }
  }

  #others(): InProcessCarrier[] {
    return [...this.#settings.hub.values()].filter((other) => other !== this);
  }
}

function unknownFate(fate: never): never {
  throw new TesseraError("bug", "federation.fate-unknown", JSON.stringify(fate));
}

async function delayed(clock: Clock, delay_ms: number, sealed: Sealed): Promise<Sealed[]> {
  await clock.sleep(delay_ms);
  return [sealed];
}

export function unreachable(to: string, cause?: unknown): TesseraError {
  return new TesseraError("peer", "federation.unreachable", `${to} cannot be reached`, {
    subject: to,
    remedy: "check that its agent and its server run",
    cause,
  });
}

export function timeout(to: string, cause?: unknown): TesseraError {
  return new TesseraError("peer", "federation.timeout", `${to} did not answer in time`, {
    subject: to,
    remedy: "ask again",
    cause,
  });
}
