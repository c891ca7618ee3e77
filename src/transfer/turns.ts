import { PRIORITY, type Priority } from "./protocol.ts";

/** Who waits for the link. */
export interface Claim {
  /** Claims of one stream are met in their order. */
  readonly stream: number;
  readonly priority: Priority;
}

interface Line<C extends Claim> {
  readonly stream: number;
  readonly priority: Priority;
  readonly claims: C[];
  servedBytes: number;
}

/** Streams that do not wait at the moment but are remembered. */
const REMEMBERED_MAX = 64;
/** A lower class gets at least one byte for so many of the higher ones. */
const GUARD_RATIO = 16;

/**
 * Whose turn it is on a link: strictly by priority, streams of equal priority by the bytes that
 * they had (the one with the fewest is next; a stream that comes anew begins with the fewest of its
 * class, so it can neither starve the others nor be starved). So that no class stands still, one
 * that has waited gets a turn after sixteen times the bytes of such a turn went to others.
 */
export class Turns<C extends Claim> {
  readonly #lines = new Map<number, Line<C>>();
  readonly #had = new Map<number, number>();
  /** By class, what the stream that had the last turn had before it: start-time fair queueing. */
  readonly #time = new Map<Priority, number>();
  readonly #passedOverBytes = new Map<Priority, number>();
  readonly #lastTurnBytes = new Map<Priority, number>();

  get empty(): boolean {
    return this.#lines.size === 0;
  }

  add(claim: C): void {
    const line = this.#lines.get(claim.stream);
    if (line !== undefined) {
      line.claims.push(claim);
      return;
    }
    const { stream, priority } = claim;
    const servedBytes = Math.max(this.#had.get(stream) ?? 0, this.#time.get(priority) ?? 0);
    this.#lines.set(stream, { stream, priority, claims: [claim], servedBytes });
  }

  /** Who is next; undefined when nobody waits. */
  next(): C | undefined {
    return this.#nextLine()?.claims[0];
  }

  #nextLine(): Line<C> | undefined {
    let best: Line<C> | undefined;
    let starved: Line<C> | undefined;
    for (const line of this.#lines.values()) {
      if (best === undefined || isBefore(line, best)) best = line;
      if (!this.#isStarved(line.priority)) continue;
      if (starved === undefined || isBefore(line, starved)) starved = line;
    }
    return starved ?? best;
  }

  #isStarved(priority: Priority): boolean {
    if (priority === PRIORITY.demanded) return false;
    const passedOver = this.#passedOverBytes.get(priority) ?? 0;
    return passedOver > GUARD_RATIO * (this.#lastTurnBytes.get(priority) ?? Infinity);
  }

  /** The claim had a turn of so many bytes. */
  served(claim: C, bytes: number): void {
    const line = this.#lines.get(claim.stream);
    if (line !== undefined) {
      this.#time.set(claim.priority, line.servedBytes);
      line.servedBytes += bytes;
    }
    this.#passedOverBytes.set(claim.priority, 0);
    this.#lastTurnBytes.set(claim.priority, bytes);
    const waiting = new Set([...this.#lines.values()].map(({ priority }) => priority));
    for (const priority of waiting) {
      if (priority <= claim.priority) continue;
      this.#passedOverBytes.set(priority, (this.#passedOverBytes.get(priority) ?? 0) + bytes);
      if (!this.#lastTurnBytes.has(priority)) this.#lastTurnBytes.set(priority, bytes);
    }
  }

  /** The claim has all that it asked for, or is given up. */
  remove(claim: C): void {
    const line = this.#lines.get(claim.stream);
    if (line === undefined) return;
    const at = line.claims.indexOf(claim);
    if (at >= 0) line.claims.splice(at, 1);
    if (line.claims.length > 0) return;
    this.#lines.delete(claim.stream);
    this.#had.delete(claim.stream);
    this.#had.set(claim.stream, line.servedBytes);
    const oldest = this.#had.size > REMEMBERED_MAX ? this.#had.keys().next() : undefined;
    if (oldest?.done === false) this.#had.delete(oldest.value);
  }

  /** Everybody who waits. */
  all(): C[] {
    return [...this.#lines.values()].flatMap(({ claims }) => claims);
  }
}

function isBefore<C extends Claim>(one: Line<C>, other: Line<C>): boolean {
  if (one.priority !== other.priority) return one.priority < other.priority;
  return one.servedBytes < other.servedBytes;
}
