import { endOf, type ByteRange, type World } from "#core";
import { isZero, type BlockDevice } from "#block";
import { blocksOf, overlapOf } from "./block-map.ts";
import type { FetchPriority } from "./contract.ts";
import type { DurableMap } from "./durable-map.ts";
import type { RangeLocks } from "./range-locks.ts";
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

/** Bytes on their way; `done` when they are local. */
export interface Fetch {
  readonly range: ByteRange;
  readonly priority: FetchPriority;
  readonly asked_ms: number;
  readonly done: Promise<FetchAnswer>;
}

/** What is on its way: whoever needs it waits for it together. */
export class Fetches {
  readonly #place: FetchPlace;
  readonly #byBlock = new Map<number, Set<Fetch>>();
  /** Called when a fetch has ended, well or not, and its blocks may be fetched again. */
  onEnded: (fetch: Fetch) => void = () => undefined;

  constructor(place: FetchPlace) {
    this.#place = place;
  }

  /** Something of the block is on its way. */
  has(block: number): boolean {
    return this.#byBlock.has(block);
  }

  /** When all that is under way now has ended, well or not. */
  async settled(): Promise<void> {
    const all = new Set([...this.#byBlock.values()].flatMap((fetches) => [...fetches]));
    await Promise.allSettled([...all].map(({ done }) => done));
  }

  /** Fetches what of a range is not local, in one piece. */
  start(whole: ByteRange, priority: FetchPriority): Fetch {
    const { world, durable, remote, signal } = this.#place;
    const range = hullOf(durable.map.missing(whole)) ?? { offset: whole.offset, length: 0 };
    const asked_ms = world.clock.monotonic();
    const nothing = { bytes: 0, took_ms: 0 };
    if (range.length === 0) return { range, priority, asked_ms, done: Promise.resolve(nothing) };
    const done = remote.fetch(range, priority, signal).then(async (bytes) => {
      const took_ms = world.clock.monotonic() - asked_ms;
      await this.#merge(range, priority, bytes);
      this.#place.arrived();
      return { bytes: range.length, took_ms };
    });
    const fetch: Fetch = { range, priority, asked_ms, done };
    for (const block of blocksOf(range)) {
      const fetches = this.#byBlock.get(block) ?? new Set();
      this.#byBlock.set(block, fetches.add(fetch));
    }
    const ended = (): void => this.#ended(fetch);
    done.then(ended, ended);
    return fetch;
  }

  /**
   * Resolves when a range of one block is local, for which somebody waits. What comes in the background
   * is given the time in which its answer can come; then the range is asked for by itself, as
   * demanded, and what comes first counts.
   */
  async demand(range: ByteRange, usual_ms: number): Promise<void> {
    const known = this.#coming(range).find(({ priority }) => priority === "background");
    if (known === undefined) await this.#demandNow(range);
    else await this.#hurry(known, range, usual_ms);
  }

  /** What is on its way and brings all of a range of one block. */
  #coming(range: ByteRange): Fetch[] {
    const [block = 0] = blocksOf(range);
    return [...(this.#byBlock.get(block) ?? [])].filter((fetch) => covers(fetch.range, range));
  }

  /** By itself, and once however many wait. */
  async #demandNow(range: ByteRange): Promise<void> {
    const known = this.#coming(range).find(({ priority }) => priority === "demanded");
    await (known ?? this.start(range, "demanded")).done;
  }

  async #hurry(known: Fetch, range: ByteRange, usual_ms: number): Promise<void> {
    const { clock } = this.#place.world;
    const late_ms = Math.max(0, known.asked_ms + usual_ms - clock.monotonic());
    const came = new AbortController();
    const signal = AbortSignal.any([came.signal, this.#place.signal]);
    const own = clock.sleep(late_ms, signal).then(() => this.#demandNow(range));
    try {
      await Promise.any([known.done, own]);
    } catch (cause) {
      throw cause instanceof AggregateError ? cause.errors[0] : cause;
    } finally {
      came.abort(new Error("the range has come"));
    }
  }

  #ended(fetch: Fetch): void {
    for (const block of blocksOf(fetch.range)) {
      const fetches = this.#byBlock.get(block);
      fetches?.delete(fetch);
      if (fetches?.size === 0) this.#byBlock.delete(block);
    }
    this.onEnded(fetch);
  }

  /** Writes what is still missing, and nothing else: what the guest wrote meanwhile counts. */
  async #merge(
    range: ByteRange,
    priority: FetchPriority,
    bytes: Uint8Array | undefined,
  ): Promise<void> {
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
      await durable.record(bytes === undefined ? "zero" : priority, missing);
    });
  }
}

function covers(outer: ByteRange, inner: ByteRange): boolean {
  return outer.offset <= inner.offset && endOf(outer) >= endOf(inner);
}

/** The least range that holds all of some sorted ranges. */
function hullOf(ranges: readonly ByteRange[]): ByteRange | undefined {
  const [first] = ranges;
  const last = ranges.at(-1);
  if (first === undefined || last === undefined) return undefined;
  return { offset: first.offset, length: endOf(last) - first.offset };
}
