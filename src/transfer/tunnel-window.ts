import type { Clock } from "#core";
import { TUNNEL_KEPT_BYTES } from "./protocol.ts";

/** How long bytes may wait beyond the shortest time that any took: a machine's pause includes it. */
const QUEUE_ms = 100;
const BYTES_MIN = 256 * 1024;
/** One late answer says little. */
const SHRINK_MAX = 7 / 8;

interface Sent {
  readonly endBytes: number;
  readonly at_ms: number;
  /** On their way when this had been sent, this included. */
  readonly underWayBytes: number;
}

/**
 * How many bytes of a tunnel may be on their way until the other side has taken them: what is taken in
 * the shortest time that any took and 100 ms (Little's law). More would only wait, at the path or at
 * the other side's hypervisor, and all of it comes before the last of a machine that stands still.
 * Pure but for the clock.
 */
export class TunnelWindow {
  readonly #clock: Pick<Clock, "monotonic">;
  #sent: Sent[] = [];
  #shortest_ms = Number.POSITIVE_INFINITY;
  #bytesMax = BYTES_MIN;

  constructor(clock: Pick<Clock, "monotonic">) {
    this.#clock = clock;
  }

  get bytesMax(): number {
    return this.#bytesMax;
  }

  /** Another connection carries the tunnel, perhaps on another path. */
  restart(): void {
    this.#sent = [];
    this.#shortest_ms = Number.POSITIVE_INFINITY;
    this.#bytesMax = BYTES_MIN;
  }

  /** @param underWayBytes what was sent and has not been taken, this included */
  sent(endBytes: number, underWayBytes: number): void {
    this.#sent.push({ endBytes, at_ms: this.#clock.monotonic(), underWayBytes });
  }

  taken(upTo: number): void {
    const count = this.#sent.findIndex(({ endBytes }) => endBytes > upTo);
    const gone = this.#sent.splice(0, count < 0 ? this.#sent.length : count);
    const last = gone.at(-1);
    if (last === undefined) return;
    const took_ms = Math.max(1, this.#clock.monotonic() - last.at_ms);
    this.#shortest_ms = Math.min(this.#shortest_ms, took_ms);
    const bytes = (last.underWayBytes * (this.#shortest_ms + QUEUE_ms)) / took_ms;
    const bounded = Math.max(BYTES_MIN, bytes, this.#bytesMax * SHRINK_MAX);
    this.#bytesMax = Math.min(TUNNEL_KEPT_BYTES, bounded);
  }
}
