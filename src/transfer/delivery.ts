import type { Clock } from "#core";
import { HEADER_BYTES } from "./protocol.ts";

const MARK_BYTES_MIN = 32 * 1024;
const FLIGHT_BYTES_MIN = 64 * 1024;
const FLIGHT_BYTES_MAX = 64 * 2 ** 20;
/** Beyond twice the path's round trip, so that slow event loops and late PONGs cost no rate. */
const SLACK_ms = 40;
/** A frame of a lower class should not hold up a demanded one for longer. */
const FRAGMENT_ms = 8;
const FRAGMENT_BYTES_MIN = 16 * 1024;
/** A fragment and the PING behind it share a TLS record, and mostly a packet. */
const MARK_BYTES = HEADER_BYTES + 8;
const WHOLE_BYTES = 512 * 1024;
const RATE_WINDOW_ms = 1_000;
const ROUND_TRIP_STALE_ms = 20_000;
const MARKS_MAX = 4096;

interface Mark {
  readonly id: number;
  readonly at_ms: number;
  /** Bytes sent before the PING, and of these known as delivered at that moment. */
  readonly sentBytes: number;
  readonly deliveredBytes: number;
}

/** What one PONG has told. */
export interface Delivered {
  readonly bytes: number;
  readonly roundTrip_ms: number;
}

/**
 * Follows what a connection has under way, by numbered PINGs between the frames: the PONG says that
 * everything before has been read at the other side. From that come the round trip, the rate of
 * delivery, and how much may be under way so that the path is full but no queue grows, in which a
 * demanded frame would have to wait: twice the rate times the shortest round trip, as in BBR
 * (Cardwell et al., 2016), and some slack. Pure but for the clock.
 */
export class Delivery {
  readonly #clock: Clock;
  readonly #marks: Mark[] = [];
  #nextId = 1;
  #sentBytes = 0;
  #deliveredBytes = 0;
  #markedBytes = 0;
  #roundTrip_ms: number | undefined;
  #roundTripAt_ms = 0;
  #probeFrom_ms: number | undefined;
  #rates: { readonly at_ms: number; readonly bytesPerSecond: number }[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The shortest lately; undefined before the first PONG. */
  get roundTrip_ms(): number | undefined {
    return this.#roundTrip_ms;
  }

  /** The best of the last second, or of ten round trips; undefined before the first PONG. */
  get bytesPerSecond(): number | undefined {
    if (this.#rates.length === 0) return undefined;
    return Math.max(...this.#rates.map(({ bytesPerSecond }) => bytesPerSecond));
  }

  /** Most bytes that should be under way. */
  get flightBytesMax(): number {
    const rate = this.bytesPerSecond;
    if (rate === undefined || this.#roundTrip_ms === undefined) return FLIGHT_BYTES_MIN;
    const probing = this.#probeFrom_ms !== undefined;
    const time_ms = probing ? this.#roundTrip_ms : 2 * this.#roundTrip_ms + SLACK_ms;
    return Math.min(FLIGHT_BYTES_MAX, Math.max(FLIGHT_BYTES_MIN, (rate * time_ms) / 1000));
  }

  get hasRoom(): boolean {
    return this.#sentBytes - this.#deliveredBytes < this.flightBytesMax;
  }

  /** Most bytes of a frame, header included, that should go without a chance for others. */
  get fragmentBytesMax(): number {
    const rate = this.bytesPerSecond;
    if (rate === undefined) return FLIGHT_BYTES_MIN;
    const bytes = Math.floor((rate * FRAGMENT_ms) / 1000 / FRAGMENT_BYTES_MIN) * FRAGMENT_BYTES_MIN;
    if (bytes >= WHOLE_BYTES) return Infinity;
    return Math.max(FRAGMENT_BYTES_MIN, bytes) - MARK_BYTES;
  }

  sent(bytes: number): void {
    this.#sentBytes += bytes;
  }

  /** Whether a PING should follow now. Each costs bytes: where one is under way, none comes soon. */
  get markDue(): boolean {
    const unmarked = this.#sentBytes - this.#markedBytes;
    if (unmarked === 0) return false;
    if (this.#marks.length === 0) return true;
    return unmarked >= Math.max(MARK_BYTES_MIN, this.flightBytesMax / 8);
  }

  /**
   * There is no room, and no PONG is due that would make some: what may be under way has shrunk
   * below what was sent since the last PING. The keepalive need not help, since answers to the
   * peer's keepalive count as life signs, too.
   */
  get isStuck(): boolean {
    return this.#marks.length === 0 && !this.hasRoom;
  }

  /** The payload of a PING that is sent now. */
  mark(): Buffer {
    const id = this.#nextId;
    this.#nextId += 1;
    const at_ms = this.#clock.monotonic();
    this.#marks.push({
      id,
      at_ms,
      sentBytes: this.#sentBytes,
      deliveredBytes: this.#deliveredBytes,
    });
    if (this.#marks.length > MARKS_MAX) this.#marks.shift();
    this.#markedBytes = this.#sentBytes;
    const payload = Buffer.alloc(8);
    payload.writeBigUInt64BE(BigInt(id));
    return payload;
  }

  /** A PONG; undefined for one that answers no PING. */
  pong(payload: Buffer): Delivered | undefined {
    const id = Number(payload.readBigUInt64BE(0));
    const at = this.#marks.findIndex((mark) => mark.id === id);
    const mark = this.#marks[at];
    if (mark === undefined) return undefined;
    this.#marks.splice(0, at + 1);
    const now_ms = this.#clock.monotonic();
    const roundTrip_ms = Math.max(0.01, now_ms - mark.at_ms);
    const bytes = mark.sentBytes - this.#deliveredBytes;
    this.#deliveredBytes = mark.sentBytes;
    this.#learnRoundTrip(now_ms, mark, roundTrip_ms);
    const flown = mark.sentBytes - mark.deliveredBytes;
    if (flown > 0) this.#learnRate(now_ms, (flown * 1000) / roundTrip_ms);
    return { bytes, roundTrip_ms };
  }

  /**
   * A shortest round trip that is old may be that of another path. The queue is then let run empty
   * for one round trip, and what is measured counts.
   */
  #learnRoundTrip(now_ms: number, mark: Mark, roundTrip_ms: number): void {
    const known_ms = this.#roundTrip_ms ?? Infinity;
    const probed =
      this.#probeFrom_ms !== undefined && mark.at_ms >= this.#probeFrom_ms + 2 * known_ms;
    if (roundTrip_ms <= known_ms || probed) {
      this.#roundTrip_ms = roundTrip_ms;
      this.#roundTripAt_ms = now_ms;
      this.#probeFrom_ms = undefined;
    } else if (now_ms - this.#roundTripAt_ms > ROUND_TRIP_STALE_ms) this.#probeFrom_ms ??= now_ms;
  }

  #learnRate(now_ms: number, bytesPerSecond: number): void {
    const window_ms = Math.max(RATE_WINDOW_ms, 10 * (this.#roundTrip_ms ?? 0));
    this.#rates = this.#rates.filter(
      (known) => now_ms - known.at_ms <= window_ms && known.bytesPerSecond > bytesPerSecond,
    );
    this.#rates.push({ at_ms: now_ms, bytesPerSecond });
  }
}
