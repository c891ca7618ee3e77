/** When something is asked for anew that a living connection does not bring. Pure. */

/** Keepalive and what it takes on the wire stay below this. */
const LIFE_SIGNS_BYTES_PER_s = 200;
/** What a connection that is new exchanges besides. */
const GREETING_BYTES = 1000;

/** True where more came in a time than what shows that a connection lives. */
export function isMoving(bytes: number, time_ms: number): boolean {
  return bytes > GREETING_BYTES + (time_ms / 1000) * LIFE_SIGNS_BYTES_PER_s;
}

/**
 * A period in which nothing came but signs of life is in vain, and the next one is twice as long: a
 * sender that honestly needs long before it can send something is heard in the end, and at most
 * half of the time is lost.
 */
export class Patience {
  readonly #first_ms: number;
  #period_ms: number;
  #since_ms: number;
  #sinceBytes: number;

  /**
   * @param period_ms of the first period
   * @param at a clock reading, and what has crossed the wire up to then
   */
  constructor(period_ms: number, at: { readonly now_ms: number; readonly bytes: number }) {
    this.#first_ms = period_ms;
    this.#period_ms = period_ms;
    this.#since_ms = at.now_ms;
    this.#sinceBytes = at.bytes;
  }

  /** A new attempt begins. */
  begin(now_ms: number, bytes: number): void {
    this.#since_ms = now_ms;
    this.#sinceBytes = bytes;
  }

  /** True, once, when a whole period was in vain. */
  isOver(now_ms: number, bytes: number): boolean {
    const time_ms = now_ms - this.#since_ms;
    if (time_ms < this.#period_ms) return false;
    const came = isMoving(bytes - this.#sinceBytes, time_ms);
    this.begin(now_ms, bytes);
    this.#period_ms = came ? this.#first_ms : 2 * this.#period_ms;
    return !came;
  }
}
