import { WINDOW_BUDGET_BYTES, WINDOW_BYTES, WINDOW_BYTES_MAX } from "./protocol.ts";

/** What the windows of a session's streams may take together beyond their first size. */
export class WindowBudget {
  #leftBytes: number;

  constructor(bytes = WINDOW_BUDGET_BYTES) {
    this.#leftBytes = bytes;
  }

  /** Up to so many bytes. */
  take(bytes: number): number {
    const taken = Math.min(bytes, this.#leftBytes);
    this.#leftBytes -= taken;
    return taken;
  }

  giveBack(bytes: number): void {
    this.#leftBytes += bytes;
  }
}

/**
 * The credit of one stream at its receiver. It grows, by doubling, when more than half of it comes
 * and is dealt with within one round trip: then it is the credit that holds the sender up, not the
 * path (dynamic right-sizing, Fisk and Feng, 2001). While more than half waits to be dealt with, it
 * is the receiver that is slow, and more credit would only fill memory. Pure.
 */
export class CreditWindow {
  readonly #budget: WindowBudget;
  #sizeBytes = WINDOW_BYTES;
  /** What the sender may still send. */
  #creditBytes = WINDOW_BYTES;
  #owedBytes = 0;
  #since_ms: number | undefined;
  #releasedBytes = 0;
  #closed = false;

  constructor(budget: WindowBudget) {
    this.#budget = budget;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** A frame came. Returns false when the credit does not cover it. */
  spend(costBytes: number): boolean {
    this.#creditBytes -= costBytes;
    return this.#creditBytes >= 0;
  }

  /**
   * A frame has been dealt with: returns the credit to grant now; 0 for later, since it is granted
   * in larger amounts.
   */
  release(costBytes: number, now_ms: number, roundTrip_ms: number | undefined): number {
    this.#owedBytes += costBytes;
    this.#releasedBytes += costBytes;
    if (roundTrip_ms !== undefined && !this.#closed) this.#judge(now_ms, roundTrip_ms);
    if (this.#owedBytes < this.#sizeBytes / 8) return 0;
    const grantedBytes = this.#owedBytes;
    this.#creditBytes += grantedBytes;
    this.#owedBytes = 0;
    return grantedBytes;
  }

  #judge(now_ms: number, roundTrip_ms: number): void {
    this.#since_ms ??= now_ms;
    const time_ms = now_ms - this.#since_ms;
    if (time_ms < roundTrip_ms) return;
    const perRoundTrip = (this.#releasedBytes * roundTrip_ms) / time_ms;
    const waitingBytes = this.#sizeBytes - this.#creditBytes - this.#owedBytes;
    if (perRoundTrip > this.#sizeBytes / 2 && waitingBytes <= this.#sizeBytes / 2) this.#grow();
    this.#since_ms = now_ms;
    this.#releasedBytes = 0;
  }

  #grow(): void {
    const wanted = Math.min(this.#sizeBytes, WINDOW_BYTES_MAX - this.#sizeBytes);
    const taken = this.#budget.take(wanted);
    this.#sizeBytes += taken;
    this.#owedBytes += taken;
  }

  /** The stream is over. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#budget.giveBack(this.#sizeBytes - WINDOW_BYTES);
  }
}
