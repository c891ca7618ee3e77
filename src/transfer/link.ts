import { hasCode, type TesseraError, type World } from "#core";
import type { Connection } from "./connection.ts";
import type { DataEndpoint } from "./contract.ts";
import { dialCandidate } from "./dial.ts";
import { isRetryable, linkLost, peerError } from "./errors.ts";
import { dialHandshake, type ResumeStore } from "./handshake.ts";
import type { DataIdentity } from "./identity.ts";
import type { Timing } from "./protocol.ts";
import { Receiver } from "./receiver-streams.ts";
import { decodeHeld, encodeHeld, laneToken } from "./tokens.ts";
import type { WindowBudget } from "./window.ts";

export interface LinkOptions {
  readonly identity: DataIdentity;
  readonly endpoint: DataEndpoint;
  readonly session: string;
  readonly tokens: HeldTokens;
  /** Which connection of the session; 0 is the first. */
  readonly lane: number;
  readonly budget: WindowBudget;
  readonly timing: Timing;
}

/** The newest token of every lane of a session, kept durably where there is a store. */
export class HeldTokens {
  readonly #first: string;
  readonly #resume: ResumeStore | undefined;
  #loading: Promise<Map<number, string>> | undefined;
  #saved: Promise<void> = Promise.resolve();

  constructor(first: string, resume: ResumeStore | undefined) {
    this.#first = first;
    this.#resume = resume;
  }

  /** @throws `transfer.state-invalid` (corrupt) */
  async of(lane: number): Promise<string> {
    return (await this.#load()).get(lane) ?? laneToken(this.#first, lane);
  }

  /** Returns when the token is durable. */
  async set(lane: number, token: string): Promise<void> {
    const held = await this.#load();
    const save = async (): Promise<void> => {
      await this.#resume?.save(encodeHeld(new Map([...held, [lane, token]])));
      held.set(lane, token);
    };
    const saved = this.#saved.then(save);
    this.#saved = saved.catch(() => undefined);
    await saved;
  }

  #load(): Promise<Map<number, string>> {
    this.#loading ??= (async () => {
      const kept = await this.#resume?.load();
      return kept === undefined ? new Map<number, string>() : decodeHeld(kept);
    })();
    return this.#loading;
  }
}

/**
 * The pause before attempt `attempt` (0 is the first, at once): doubling, shortened at random by
 * up to a half. Pure.
 */
export function backoff_ms(attempt: number, timing: Timing, fraction: number): number {
  if (attempt === 0) return 0;
  const whole = Math.min(
    timing.backoffMax_ms,
    timing.backoffMin_ms * 2 ** Math.min(attempt - 1, 30),
  );
  return whole * (1 - fraction / 2);
}

/** Waits for a promise or for the signal, whichever is first; does not stop the work. */
export function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason as Error);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

interface Dialled {
  readonly connection: Connection;
  readonly features: readonly string[];
}

/** A connection that is being made, and for how many. */
interface Dialling {
  readonly work: Promise<Receiver>;
  readonly stop: AbortController;
  waiters: number;
}

/** The receiver's connection of one lane of a session, made again as often as needed. */
export class Link {
  readonly #world: World;
  readonly #options: LinkOptions;
  readonly #closed = new AbortController();
  #current: Receiver | undefined;
  #dialling: Dialling | undefined;
  #attempts = 0;
  #pastWireBytes = 0;

  constructor(world: World, options: LinkOptions) {
    this.#world = world;
    this.#options = options;
  }

  /** The live connection, where there is one. */
  get current(): Receiver | undefined {
    return this.#current?.connection.signal.aborted === false ? this.#current : undefined;
  }

  wireBytes(): number {
    return this.#pastWireBytes + (this.#current?.connection.wireBytes() ?? 0);
  }

  /** The pause before the next attempt begins anew: something was achieved. */
  succeeded(): void {
    this.#attempts = 0;
  }

  /** A live connection. Dials until it has one, the signal aborts, or the other side refuses. */
  async acquire(signal: AbortSignal): Promise<Receiver> {
    this.#closed.signal.throwIfAborted();
    signal.throwIfAborted();
    if (this.current !== undefined) return this.current;
    const dialling = (this.#dialling ??= this.#startDialling());
    dialling.waiters += 1;
    try {
      return await unlessAborted(dialling.work, signal);
    } finally {
      dialling.waiters -= 1;
      if (dialling.waiters === 0) this.#giveUp(dialling, signal.reason);
    }
  }

  close(): void {
    this.#closed.abort(peerError("closing", "the receiver was closed"));
    this.#current?.connection.end(peerError("closing", "the receiver is closing"));
  }

  #startDialling(): Dialling {
    const stop = new AbortController();
    const signal = AbortSignal.any([stop.signal, this.#closed.signal]);
    const work = this.#dialUntil(signal);
    const dialling = { work, stop, waiters: 0 };
    const forget = (): void => this.#forget(dialling);
    work.then(forget, forget);
    return dialling;
  }

  /** Who comes from now on must not be told why others left. */
  #giveUp(dialling: Dialling, reason: unknown): void {
    this.#forget(dialling);
    dialling.stop.abort(reason);
  }

  #forget(dialling: Dialling): void {
    if (this.#dialling === dialling) this.#dialling = undefined;
  }

  async #dialUntil(signal: AbortSignal): Promise<Receiver> {
    this.#pastWireBytes = this.wireBytes();
    this.#current = undefined;
    for (;;) {
      const pause_ms = backoff_ms(
        this.#attempts,
        this.#options.timing,
        this.#world.random.fraction(),
      );
      if (pause_ms > 0) await this.#world.clock.sleep(pause_ms, signal);
      this.#attempts += 1;
      try {
        const { connection, features } = await this.#dialAll(signal);
        if (signal.aborted) connection.end(peerError("cancelled", "given up"), false);
        signal.throwIfAborted();
        this.#current = new Receiver(connection, { budget: this.#options.budget, features });
        return this.#current;
      } catch (cause) {
        signal.throwIfAborted();
        if (!isRetryable(cause)) throw cause;
        this.#world.log.log("info", "no data connection yet", { cause });
      }
    }
  }

  /** Every candidate once. A wrong certificate counts only when no candidate is left. */
  async #dialAll(signal: AbortSignal): Promise<Dialled> {
    let mismatch: TesseraError | undefined;
    let last: unknown = linkLost(new Error("no candidates"));
    for (const candidate of this.#options.endpoint.candidates) {
      try {
        return await this.#dialOne(candidate, signal);
      } catch (cause) {
        signal.throwIfAborted();
        last = cause;
        if (hasCode(cause, "transfer.certificate-mismatch")) mismatch = cause;
        else if (!isRetryable(cause)) throw cause;
      }
    }
    throw mismatch ?? peerError("unreachable", "no candidate answers", { cause: last });
  }

  async #dialOne(
    candidate: DataEndpoint["candidates"][number],
    signal: AbortSignal,
  ): Promise<Dialled> {
    const { identity, endpoint, session, timing, tokens, lane } = this.#options;
    const certificate = endpoint.certificate;
    const connection = await dialCandidate(this.#world, candidate, {
      identity,
      certificate,
      timing,
      signal,
    });
    const abort = (): void => connection.end(peerError("cancelled", "given up"), false);
    signal.addEventListener("abort", abort, { once: true });
    try {
      const hello = { role: "receiver", session, token: await tokens.of(lane), lane } as const;
      const { features } = await dialHandshake(connection, hello, (fresh) =>
        tokens.set(lane, fresh),
      );
      return { connection, features };
    } catch (cause) {
      this.#pastWireBytes += connection.wireBytes();
      connection.end(linkLost(cause), false);
      throw cause;
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }
}
