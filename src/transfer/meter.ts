import type { Clock } from "#core";

/** What a sender knows about its link. */
export interface LinkRate {
  /** The limit that applies, in bits per second. */
  readonly limitBitsPerSecond?: number;
  /** Measured over the last window. */
  readonly measuredBitsPerSecond?: number;
  /** Share of the window in which a sender waited for the link, 0 to 1. */
  readonly waitingShare?: number;
}

const WINDOW_ms = 2_000;

/** Measures what a session's connection carries and how long its sender waits for it. */
export class LinkMeter {
  readonly #clock: Clock;
  readonly #limit: { readonly limitBitsPerSecond?: number };
  #since_ms: number;
  #bytes = 0;
  #waited_ms = 0;
  #last: LinkRate = {};

  constructor(clock: Clock, bytesPerSecondMax: number | undefined) {
    this.#clock = clock;
    this.#limit =
      bytesPerSecondMax === undefined ? {} : { limitBitsPerSecond: bytesPerSecondMax * 8 };
    this.#since_ms = clock.monotonic();
  }

  sent(bytes: number): void {
    this.#bytes += bytes;
  }

  /** Runs a wait for the link and counts its time. */
  async waiting(wait: () => Promise<void>): Promise<void> {
    const start_ms = this.#clock.monotonic();
    await wait();
    this.#waited_ms += this.#clock.monotonic() - start_ms;
  }

  rate(): LinkRate {
    const now_ms = this.#clock.monotonic();
    const window_ms = now_ms - this.#since_ms;
    if (window_ms >= WINDOW_ms) {
      this.#last = {
        measuredBitsPerSecond: (this.#bytes * 8000) / window_ms,
        waitingShare: Math.min(1, this.#waited_ms / window_ms),
      };
      this.#since_ms = now_ms;
      this.#bytes = 0;
      this.#waited_ms = 0;
    }
    return { ...this.#limit, ...this.#last };
  }
}
