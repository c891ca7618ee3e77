import type { ByteRange, World } from "#core";
import type { FetchPriority, RemoteReader } from "./contract.ts";

const PAUSE_MIN_ms = 100;
const PAUSE_MAX_ms = 5_000;

/** The source of the moment. Whoever reads waits until there is one that answers. */
export class RemoteSlot {
  readonly #world: World;
  #remote: RemoteReader | undefined;
  #replaced = new AbortController();
  #attached = Promise.withResolvers<void>();
  /** Why the last read failed; undefined when the last one succeeded. */
  failure: unknown;

  constructor(world: World) {
    this.#world = world;
  }

  /** What is under way at the former one is asked of this one. */
  set(remote: RemoteReader | undefined): void {
    const { resolve } = this.#attached;
    this.#remote = remote;
    this.#replaced.abort(new Error("another source is used"));
    this.#replaced = new AbortController();
    this.#attached = Promise.withResolvers<void>();
    resolve();
  }

  /** Tries until it succeeds. @throws the signal's reason, nothing else */
  async fetch(
    range: ByteRange,
    priority: FetchPriority,
    signal: AbortSignal,
  ): Promise<Uint8Array | undefined> {
    for (let pause_ms = PAUSE_MIN_ms; ; pause_ms = Math.min(2 * pause_ms, PAUSE_MAX_ms)) {
      signal.throwIfAborted();
      const remote = this.#remote;
      const changed = this.#attached.promise;
      try {
        if (remote !== undefined) {
          const either = AbortSignal.any([signal, this.#replaced.signal]);
          const bytes = await remote.fetch(range, priority, either);
          this.failure = undefined;
          return bytes;
        }
      } catch (cause) {
        signal.throwIfAborted();
        if (remote === this.#remote) this.failure = cause;
        else continue;
      }
      await this.#pause(remote === undefined ? undefined : pause_ms, changed, signal);
    }
  }

  /** Until the source changes or so much time has passed. */
  async #pause(
    pause_ms: number | undefined,
    changed: Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    const over = new AbortController();
    const either = AbortSignal.any([signal, over.signal]);
    const aborted = new Promise<void>((resolve) => {
      either.addEventListener("abort", () => resolve(), { once: true });
    });
    const waits: Promise<void>[] = [changed, aborted];
    if (pause_ms !== undefined) {
      waits.push(this.#world.clock.sleep(pause_ms, either).catch(() => undefined));
    }
    await Promise.race(waits);
    over.abort();
  }
}
