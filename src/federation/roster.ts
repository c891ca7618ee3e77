import type { Offer, World } from "#core";
import type { Peer, PeerCard } from "./contract.ts";
import { decodeOffer } from "./offer.ts";

/** A peer that has not been heard of for so long is gone; presence is refreshed every 15 to 30 s. */
export const SILENCE_MS = 100_000;

interface Sighting {
  readonly address: string;
  readonly since: number;
  readonly seen_ms: number;
  readonly offer?: Offer;
}

/** Who is present, by real address. Everything in it is a hint. */
export class Roster {
  readonly #world: World;
  readonly #cardOf: (address: string) => PeerCard | undefined;
  readonly #sightings = new Map<string, Sighting>();
  readonly #listeners = new Set<() => void>();
  #count = 0;

  constructor(world: World, cardOf: (address: string) => PeerCard | undefined) {
    this.#world = world;
    this.#cardOf = cardOf;
  }

  /** A presence came; one that is stale or holds no sound offer says only that somebody is there. */
  present(address: string, offerText: string | undefined): void {
    const card = this.#cardOf(address);
    if (card === undefined) return;
    const before = this.#sightings.get(address);
    const offer = newer(before?.offer, this.#read(offerText, card));
    const now_ms = this.#world.clock.now();
    const since = before?.since ?? (this.#count += 1);
    this.#sightings.set(address, {
      address,
      since,
      seen_ms: now_ms,
      ...(offer === undefined ? {} : { offer }),
    });
    if (before === undefined || offer?.seq !== before.offer?.seq) this.#tell();
  }

  gone(address: string): void {
    if (this.#sightings.delete(address)) this.#tell();
  }

  clear(): void {
    if (this.#sightings.size === 0) return;
    this.#sightings.clear();
    this.#tell();
  }

  /** Forgets who has been silent for too long or is a peer no more. */
  sweep(): void {
    const oldest_ms = this.#world.clock.now() - SILENCE_MS;
    for (const { address, seen_ms } of this.#sightings.values()) {
      if (seen_ms < oldest_ms || this.#cardOf(address) === undefined) this.gone(address);
    }
  }

  /** One entry for each cloud: an agent that came back counts from its newest arrival. */
  peers(): Peer[] {
    const byCloud = new Map<string, Sighting>();
    const now_ms = this.#world.clock.now();
    for (const sighting of this.#sightings.values()) {
      const cloud = this.#cardOf(sighting.address)?.cloud;
      const other = cloud === undefined ? undefined : byCloud.get(cloud);
      if (cloud === undefined || sighting.seen_ms < now_ms - SILENCE_MS) continue;
      if (other === undefined || other.since < sighting.since) byCloud.set(cloud, sighting);
    }
    return [...byCloud].map(([cloud, { address, seen_ms, offer }]) => {
      const valid = offer !== undefined && offer.expires_ms > now_ms ? { offer } : {};
      return { cloud, jid: address, seen_ms, ...valid };
    });
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #read(text: string | undefined, card: PeerCard): Offer | undefined {
    if (text === undefined) return undefined;
    try {
      const offer = decodeOffer(text);
      return offer.cloud === card.cloud ? offer : undefined;
    } catch (error) {
      this.#world.log.log("info", "an offer was dropped", { cloud: card.cloud, error });
      return undefined;
    }
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }
}

function newer(before: Offer | undefined, next: Offer | undefined): Offer | undefined {
  if (before === undefined || next === undefined) return next ?? before;
  return next.seq < before.seq ? before : next;
}
