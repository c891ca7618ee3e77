import type { World } from "#core";
import type { LinkReport } from "./contract.ts";
import { peerError } from "./errors.ts";
import type { ResumeStore } from "./handshake.ts";
import { HeldTokens, Link, type LinkOptions } from "./link.ts";
import { LANES_MAX } from "./protocol.ts";
import type { Receiver } from "./receiver-streams.ts";
import { WindowBudget } from "./window.ts";

/** What the choice of the number of connections depends on. */
export interface LaneFacts {
  /** Connections at present. */
  readonly lanes: number;
  /** Streams that would be open, the new one included. */
  readonly streams: number;
  /** All connections together, lately; undefined before there is a figure. */
  readonly bitsPerSecond?: number | undefined;
  readonly roundTrip_ms?: number | undefined;
  /** What the path is known or announced to carry. */
  readonly knownBitsPerSecond?: number | undefined;
  /** The rate with one connection fewer; undefined while there is only one. */
  readonly formerBitsPerSecond?: number | undefined;
}

/** Below it one connection fills any path that its windows cover. */
const ROUND_TRIP_ms = 20;
/** Under way on one connection; the usual limits of the systems' socket buffers are near. */
const FLIGHT_BYTES = 2 ** 20;
const WORTH = 1.15;
const FILLED = 0.8;

/**
 * Whether another connection is worth its while: the path is long; streams are there to use it; the
 * path is not known to be full; the last one that was added brought something; and what is under
 * way on each connection is near what systems allow, or far below what is known of the path, as
 * where packets are lost. Pure.
 */
export function wantsLane(facts: LaneFacts): boolean {
  const { lanes, streams, bitsPerSecond, roundTrip_ms, knownBitsPerSecond } = facts;
  if (lanes >= LANES_MAX || streams <= lanes) return false;
  if (bitsPerSecond === undefined || roundTrip_ms === undefined) return false;
  if (roundTrip_ms < ROUND_TRIP_ms) return false;
  if (knownBitsPerSecond !== undefined && bitsPerSecond >= FILLED * knownBitsPerSecond)
    return false;
  const { formerBitsPerSecond } = facts;
  if (formerBitsPerSecond !== undefined && bitsPerSecond < WORTH * formerBitsPerSecond)
    return false;
  const flightBytes = (bitsPerSecond / lanes / 8) * (roundTrip_ms / 1000);
  return flightBytes >= FLIGHT_BYTES || knownBitsPerSecond !== undefined;
}

const LATE = peerError("unreachable", "the connection took too long");
/** How often the rate is taken at most. */
const RATE_ms = 500;

/** What came over a session's connections lately. */
class ArrivalRate {
  #since_ms = 0;
  #bytes = 0;
  bitsPerSecond: number | undefined;

  /** @param wireBytes all that ever came */
  at(now_ms: number, wireBytes: number): void {
    const time_ms = now_ms - this.#since_ms;
    if (time_ms < RATE_ms) return;
    if (time_ms < 4 * RATE_ms) this.bitsPerSecond = ((wireBytes - this.#bytes) * 8000) / time_ms;
    this.#since_ms = now_ms;
    this.#bytes = wireBytes;
  }
}

export interface LanesOptions extends Omit<LinkOptions, "tokens" | "lane" | "budget"> {
  readonly token: string;
  readonly resume?: ResumeStore | undefined;
  /** What the path is known or announced to carry. */
  readonly knownBitsPerSecond?: number | undefined;
}

/** A session's connections at its receiver: one at first, more where one cannot fill the path. */
export class Lanes {
  readonly #world: World;
  readonly #options: LanesOptions;
  readonly #tokens: HeldTokens;
  readonly #budget = new WindowBudget();
  readonly #links: Link[];
  readonly #rate = new ArrivalRate();
  /** Lanes that the other side refused or that could not be had; not tried again. */
  readonly #failed = new Set<Link>();
  #formerBitsPerSecond: number | undefined;
  #changed_ms = 0;

  constructor(world: World, options: LanesOptions) {
    this.#world = world;
    this.#options = options;
    this.#tokens = new HeldTokens(options.token, options.resume);
    this.#links = [this.#newLink(0)];
  }

  #newLink(lane: number): Link {
    const { token: _, resume: __, knownBitsPerSecond: ___, ...options } = this.#options;
    return new Link(this.#world, { ...options, tokens: this.#tokens, lane, budget: this.#budget });
  }

  wireBytes(): number {
    return this.#links.reduce((sum, link) => sum + link.wireBytes(), 0);
  }

  /** Something was achieved. */
  succeeded(): void {
    for (const link of this.#links) link.succeeded();
    this.#rate.at(this.#world.clock.monotonic(), this.wireBytes());
  }

  report(): LinkReport {
    const { bitsPerSecond } = this.#rate;
    const roundTrip_ms = this.#roundTrip_ms();
    return {
      lanes: this.#live().length,
      ...(bitsPerSecond === undefined ? {} : { bitsPerSecond }),
      ...(roundTrip_ms === undefined ? {} : { roundTrip_ms }),
    };
  }

  /** A live connection for a stream: that with the fewest streams, or a new one where it pays. */
  async acquire(signal: AbortSignal): Promise<Receiver> {
    const live = this.#live();
    const [first] = this.#links;
    if (first === undefined || live.length === 0) return await (first as Link).acquire(signal);
    if (this.#wantsAnother(live)) {
      const another = await this.#another(signal);
      if (another !== undefined) return another;
    }
    return live.reduce((one, other) => (other.streams < one.streams ? other : one));
  }

  close(): void {
    for (const link of this.#links) link.close();
  }

  #live(): Receiver[] {
    return this.#links.flatMap(({ current }) => (current === undefined ? [] : [current]));
  }

  #roundTrip_ms(): number | undefined {
    const known = this.#live().flatMap(({ connection }) => connection.roundTrip_ms ?? []);
    return known.length === 0 ? undefined : Math.min(...known);
  }

  #wantsAnother(live: readonly Receiver[]): boolean {
    const now_ms = this.#world.clock.monotonic();
    this.#rate.at(now_ms, this.wireBytes());
    if (this.#failed.size > 0 || now_ms - this.#changed_ms < 4 * RATE_ms) return false;
    return wantsLane({
      lanes: live.length,
      streams: live.reduce((sum, { streams }) => sum + streams, 1),
      bitsPerSecond: this.#rate.bitsPerSecond,
      roundTrip_ms: this.#roundTrip_ms(),
      knownBitsPerSecond: this.#options.knownBitsPerSecond,
      formerBitsPerSecond: this.#formerBitsPerSecond,
    });
  }

  /** A further lane; undefined where it cannot be had, which is no failure of the stream. */
  async #another(signal: AbortSignal): Promise<Receiver | undefined> {
    const dead = this.#links.find(({ current }) => current === undefined);
    const link = dead ?? this.#newLink(this.#links.length);
    if (dead === undefined) this.#links.push(link);
    this.#formerBitsPerSecond = this.#rate.bitsPerSecond;
    this.#changed_ms = this.#world.clock.monotonic();
    const late = new AbortController();
    const { clock, log } = this.#world;
    const stop = clock.after(this.#options.timing.connect_ms, () => late.abort(LATE));
    try {
      return await link.acquire(AbortSignal.any([signal, late.signal]));
    } catch (cause) {
      signal.throwIfAborted();
      this.#failed.add(link);
      log.log("info", "no further data connection", { cause });
      return undefined;
    } finally {
      stop();
    }
  }
}
