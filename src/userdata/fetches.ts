import { endOf, type ByteRange, type World } from "#core";
import { isZero, type BlockDevice } from "#block";
import { blocksOf, overlapOf } from "./block-map.ts";
import type { FetchPriority } from "./contract.ts";
import type { DurableMap } from "./durable-map.ts";
import type { RangeLocks } from "./range-locks.ts";
import type { BlockRun } from "./read-ahead.ts";
import type { RemoteSlot } from "./remote-slot.ts";

/** What fetches work on. */
export interface FetchPlace {
  readonly world: World;
  readonly local: BlockDevice;
  readonly durable: DurableMap;
  readonly locks: RangeLocks;
  readonly remote: RemoteSlot;
  /** Called whenever blocks have become local. */
  readonly arrived: () => void;
  /** Ends everything: the device is closed or the source given up. */
  readonly signal: AbortSignal;
}

export interface FetchAnswer {
  readonly bytes: number;
  /** From the request to the answer. */
  readonly took_ms: number;
}

/** Blocks on their way; resolved when they are local. */
export interface Fetch {
  readonly run: BlockRun;
  readonly range: ByteRange;
  readonly asked_ms: number;
  readonly done: Promise<FetchAnswer>;
  /** Somebody waits for it. */
  demanded: boolean;
  readonly stop: AbortController;
  readonly came: PromiseWithResolvers<Uint8Array | undefined>;
}

/** Each block is fetched once, however many wait for it. */
export class Fetches {
  readonly #place: FetchPlace;
  readonly #byBlock = new Map<number, Fetch>();

  constructor(place: FetchPlace) {
    this.#place = place;
  }

  has(block: number): boolean {
    return this.#byBlock.has(block);
  }

  /** When all that is under way now has ended, well or not. */
  async settled(): Promise<void> {
    await Promise.allSettled([...new Set(this.#byBlock.values())].map(({ done }) => done));
  }

  /** Fetches what of the blocks is not local and not on its way. */
  start(run: BlockRun, priority: FetchPriority): Fetch {
    const { world, durable, signal } = this.#place;
    const { map } = durable;
    const { offset } = map.rangeOf(run.first);
    const whole = { offset, length: endOf(map.rangeOf(run.first + run.count - 1)) - offset };
    const came = Promise.withResolvers<Uint8Array | undefined>();
    const stop = new AbortController();
    const asked_ms = world.clock.monotonic();
    const range = hullOf(map.missing(whole)) ?? { offset, length: 0 };
    const fetch: Fetch = {
      run,
      range,
      asked_ms,
      came,
      stop,
      demanded: priority === "demanded",
      done: came.promise.then((bytes) => this.#finish(fetch, bytes)),
    };
    const abort = (): void => came.reject(signal.reason as Error);
    signal.addEventListener("abort", abort, { once: true });
    if (signal.aborted) abort();
    for (let step = 0; step < run.count; step += 1) this.#byBlock.set(run.first + step, fetch);
    fetch.done
      .finally(() => this.#ended(fetch, abort))
      // Whoever waits for it has the failure.
      .catch(() => undefined);
    this.#attempt(fetch, priority);
    return fetch;
  }

  /**
   * The fetch of a block that somebody waits for now. One that goes on in the background is given the
   * time in which its answer can come; then the block is asked for again, as demanded, and the
   * answer that comes first counts.
   */
  demand(block: number, usual_ms: number): Fetch {
    const fetch = this.#byBlock.get(block);
    if (fetch === undefined) return this.start({ first: block, count: 1 }, "demanded");
    if (!fetch.demanded) {
      fetch.demanded = true;
      const { clock } = this.#place.world;
      const late_ms = fetch.asked_ms + usual_ms - clock.monotonic();
      if (late_ms <= 0) this.#attempt(fetch, "demanded");
      else {
        clock.sleep(late_ms, fetch.stop.signal).then(
          () => this.#attempt(fetch, "demanded"),
          () => undefined,
        );
      }
    }
    return fetch;
  }

  #attempt({ range, came, stop }: Fetch, priority: FetchPriority): void {
    if (stop.signal.aborted) return;
    const { remote, signal } = this.#place;
    const either = AbortSignal.any([stop.signal, signal]);
    remote.fetch(range, priority, either).then(came.resolve, came.reject);
  }

  #ended(fetch: Fetch, abort: () => void): void {
    this.#place.signal.removeEventListener("abort", abort);
    fetch.stop.abort(new Error("the blocks have come"));
    const { first, count } = fetch.run;
    for (let step = 0; step < count; step += 1) this.#byBlock.delete(first + step);
  }

  async #finish(fetch: Fetch, bytes: Uint8Array | undefined): Promise<FetchAnswer> {
    fetch.stop.abort(new Error("the blocks have come"));
    const took_ms = this.#place.world.clock.monotonic() - fetch.asked_ms;
    await this.#merge(fetch, bytes);
    this.#place.arrived();
    return { bytes: fetch.range.length, took_ms };
  }

  /** Writes what is still missing, and nothing else: what the guest wrote meanwhile counts. */
  async #merge({ range, demanded }: Fetch, bytes: Uint8Array | undefined): Promise<void> {
    const { local, durable, locks } = this.#place;
    await locks.run(range, async () => {
      const missing = durable.map.missing(range);
      for (const part of missing) {
        // By block, so that holes of the source stay holes.
        for (const block of blocksOf(part)) {
          const own = overlapOf(part, durable.map.rangeOf(block));
          const start = own.offset - range.offset;
          const piece = bytes?.subarray(start, start + own.length);
          if (piece === undefined || isZero(piece)) await local.zero(own);
          else await local.write(piece, own.offset);
        }
      }
      const kind = bytes === undefined ? "zero" : demanded ? "demanded" : "background";
      await durable.record(kind, missing);
    });
  }
}

/** The least range that holds all of some sorted ranges. */
function hullOf(ranges: readonly ByteRange[]): ByteRange | undefined {
  const [first] = ranges;
  const last = ranges.at(-1);
  if (first === undefined || last === undefined) return undefined;
  return { offset: first.offset, length: endOf(last) - first.offset };
}
