import type { Clock } from "#core";

/** Longer reads would hold up everything else for too long even from memory. */
const LENGTH_MAX = 262_144;
/** The longest read takes a tenth of it from memory; whatever took longer waited for a disk. */
const SLOW_ms = 0.5;
const PAUSE_MIN_ms = 10;
const PAUSE_MAX_ms = 1000;

/**
 * Whether short reads may be made at once. Nothing tells beforehand whether a page is in memory, so
 * it is tried: one slow read stops further ones for 10 ms, and for twice as long each time while
 * the first read after a pause is slow again, up to 1 s. A disk that is not in memory thus holds up
 * the program for at most one read a second, and one that is, never waits for the thread pool.
 */
export class QuickReads {
  readonly #clock: Clock;
  #pause_ms = PAUSE_MIN_ms;
  #notBefore_ms = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Runs `read` and says true, or says false without running it. */
  attempt(length: number, read: () => void): boolean {
    const started_ms = this.#clock.monotonic();
    if (length > LENGTH_MAX || started_ms < this.#notBefore_ms) return false;
    read();
    const ended_ms = this.#clock.monotonic();
    if (ended_ms - started_ms > SLOW_ms) {
      this.#notBefore_ms = ended_ms + this.#pause_ms;
      this.#pause_ms = Math.min(2 * this.#pause_ms, PAUSE_MAX_ms);
    } else if (this.#pause_ms > PAUSE_MIN_ms) this.#pause_ms = PAUSE_MIN_ms;
    return true;
  }
}
