import type { Clock } from "#core";
import { BITS_PER_SECOND_UNKNOWN } from "#delta";
import type { Delivered } from "./delivery.ts";

/** What a sender knows about its link. */
export interface LinkRate {
  /** The limit that applies, in bits per second. */
  readonly limitBitsPerSecond?: number;
  /** Delivered lately, smoothed. */
  readonly measuredBitsPerSecond?: number;
  /**
   * What the link can take, as far as it is known: what it delivered while the sender waited for
   * it and both sides had time; more than that while a side was the slower one or the flow was
   * still growing. Absent where nothing was expected and the link was never full.
   */
  readonly availableBitsPerSecond?: number;
  /** Share of the time in which a sender waited for the link, 0 to 1. */
  readonly waitingShare?: number;
  /** The shortest lately. */
  readonly roundTrip_ms?: number;
}

/** What is known of a link before anything is measured, and of this side. */
export interface LinkFacts {
  readonly bytesPerSecondMax?: number | undefined;
  /** Counts until something is measured. */
  readonly expectedBitsPerSecond?: number | undefined;
  /** Share of the time, 0 to 1, in which this side had work lately; 0 where nobody measures it. */
  readonly busyShare?: (() => number) | undefined;
}

const WINDOW_ms = 100;
/** After so long without data the time does not count. */
const IDLE_ms = 500;
const WEIGHT = 0.5;
const GROWING = 1.25;
/** By how much the link may be quicker than a flow that does not fill it. */
const HEADROOM = 2;
/** A side that is busier than this is what data waits for, not the link. */
const BUSY = 0.8;

function smooth(old: number | undefined, value: number): number {
  return old === undefined ? value : old + WEIGHT * (value - old);
}

/**
 * Measures what the connections of a session deliver, and how long its streams wait for them. The
 * first figure comes with the first PONG after 100 ms of data. Pure but for the clock.
 */
export class LinkMeter {
  readonly #clock: Clock;
  readonly #limit: { readonly limitBitsPerSecond?: number };
  #since_ms: number | undefined;
  #active_ms = 0;
  #bytes = 0;
  #waiting = 0;
  #waitingSince_ms = 0;
  #waited_ms = 0;
  #previous: number | undefined;
  #measured: number | undefined;
  #available: number | undefined;
  readonly #ownBusyShare: () => number;
  #receiverBusyShare = 0;
  #seemedFull = false;
  #waitingShare: number | undefined;
  #roundTrip_ms: number | undefined;

  constructor(clock: Clock, facts: LinkFacts = {}) {
    const { bytesPerSecondMax, expectedBitsPerSecond, busyShare = () => 0 } = facts;
    this.#clock = clock;
    this.#limit =
      bytesPerSecondMax === undefined ? {} : { limitBitsPerSecond: bytesPerSecondMax * 8 };
    this.#available = expectedBitsPerSecond;
    this.#ownBusyShare = busyShare;
  }

  /** The receiver has told how busy it is. */
  receiverBusy(share: number): void {
    this.#receiverBusyShare = share;
  }

  /** Runs a wait for the link and counts its time, once for all that wait at a time. */
  async waiting(wait: () => Promise<void>): Promise<void> {
    const start_ms = this.#clock.monotonic();
    if (this.#waiting === 0) this.#begin(start_ms);
    this.#waiting += 1;
    try {
      await wait();
    } finally {
      this.#waiting -= 1;
      if (this.#waiting === 0) this.#pause(this.#clock.monotonic());
    }
  }

  #begin(now_ms: number): void {
    this.#waitingSince_ms = now_ms;
    if (this.#since_ms === undefined || now_ms - this.#active_ms > IDLE_ms) {
      this.#since_ms = now_ms;
      this.#waited_ms = 0;
      this.#bytes = 0;
    }
    this.#active_ms = now_ms;
  }

  #pause(now_ms: number): void {
    this.#waited_ms += now_ms - this.#waitingSince_ms;
    this.#active_ms = now_ms;
  }

  /** A connection of the session has delivered bytes. */
  delivered({ bytes, roundTrip_ms }: Delivered): void {
    const now_ms = this.#clock.monotonic();
    this.#roundTrip_ms = Math.min(this.#roundTrip_ms ?? Infinity, roundTrip_ms);
    if (this.#since_ms === undefined || bytes === 0) return;
    this.#bytes += bytes;
    this.#active_ms = now_ms;
    const window_ms = now_ms - this.#since_ms;
    if (window_ms < Math.max(WINDOW_ms, this.#roundTrip_ms)) return;
    if (this.#waiting > 0) {
      this.#waited_ms += now_ms - this.#waitingSince_ms;
      this.#waitingSince_ms = now_ms;
    }
    this.#learn((this.#bytes * 8000) / window_ms, Math.min(1, this.#waited_ms / window_ms));
    this.#since_ms = now_ms;
    this.#bytes = 0;
    this.#waited_ms = 0;
  }

  #learn(measured: number, waitingShare: number): void {
    const busyShare = Math.max(this.#ownBusyShare(), this.#receiverBusyShare);
    const seemsFull =
      waitingShare > 0.5 &&
      busyShare < BUSY &&
      this.#previous !== undefined &&
      measured < GROWING * this.#previous;
    // One window may be of a receiver that was busy for a moment.
    const isFull = seemsFull && this.#seemedFull;
    this.#seemedFull = seemsFull;
    const known = this.#available;
    if (isFull) {
      this.#available = Math.min(smooth(known, measured), 2 * measured);
    } else if (known !== undefined) {
      // Encodings are chosen to fill what is thought to be there, so that more shows by and by. One
      // figure may be of what a shaper lets through at once after a pause.
      const lasting = Math.min(measured, this.#previous ?? 0);
      this.#available = Math.max(known, HEADROOM * lasting);
    }
    this.#previous = measured;
    this.#measured = smooth(this.#measured, measured);
    this.#waitingShare = smooth(this.#waitingShare, waitingShare);
  }

  rate(): LinkRate {
    const known = {
      measuredBitsPerSecond: this.#measured,
      availableBitsPerSecond: this.#available,
      waitingShare: this.#waitingShare,
      roundTrip_ms: this.#roundTrip_ms,
    };
    const entries = Object.entries(known).filter(([, value]) => value !== undefined);
    return { ...this.#limit, ...(Object.fromEntries(entries) as Partial<LinkRate>) };
  }
}

/** A round trip below this is one machine room's. */
const NEAR_ms = 2;
/** Assumed of such a link until something is measured. */
const NEAR_BITS_PER_SECOND = 10e9;

/** Of a link that was never full; Infinity where there is nothing to go by. */
function assumedBitsPerSecond({ roundTrip_ms = Infinity, measuredBitsPerSecond = 0 }: LinkRate) {
  const leastBitsPerSecond = HEADROOM * measuredBitsPerSecond;
  if (roundTrip_ms < NEAR_ms) return Math.max(NEAR_BITS_PER_SECOND, leastBitsPerSecond);
  return leastBitsPerSecond > BITS_PER_SECOND_UNKNOWN ? leastBitsPerSecond : Infinity;
}

/** What the link carries, as far as it is known: at most the limit. */
export function linkBitsPerSecond(rate: LinkRate): number | undefined {
  const { limitBitsPerSecond = Infinity, availableBitsPerSecond = assumedBitsPerSecond(rate) } =
    rate;
  const bitsPerSecond = Math.min(limitBitsPerSecond, availableBitsPerSecond);
  return bitsPerSecond === Infinity ? undefined : bitsPerSecond;
}
