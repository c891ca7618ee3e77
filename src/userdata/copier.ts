import { endOf } from "#core";
import { BLOCK_BYTES } from "#block";
import { STALE, blocksOf } from "./block-map.ts";
import { CopyOrder } from "./copy-order.ts";
import { CopyWindow } from "./copy-window.ts";
import type { Fetch, FetchPlace, Fetches } from "./fetches.ts";
import type { BlockRun } from "./read-ahead.ts";

const PAUSE_ms = 1_000;
/** Used in place of a measured time of an answer. */
const BASE_UNKNOWN_ms = 50;
/** What a fetch in the background may be later than the quickest before it is asked for again. */
const LATE_FACTOR = 1.25;
const LATE_ms = 2;

/** Fetches, in the background, everything that is still at the source. */
export class Copier {
  readonly #place: FetchPlace;
  readonly #fetches: Fetches;
  readonly #window = new CopyWindow();
  #order: CopyOrder;
  #started = false;
  #paused = false;
  #underWayBytes = 0;
  #demands = 0;

  constructor(place: FetchPlace, fetches: Fetches) {
    this.#place = place;
    this.#fetches = fetches;
    this.#order = new CopyOrder(place.durable.map.blocks);
    fetches.onEnded = (fetch) => this.#ended(fetch);
  }

  /** After so long an answer is late. */
  get usual_ms(): number {
    return (this.#window.base_ms ?? BASE_UNKNOWN_ms) * LATE_FACTOR + LATE_ms;
  }

  start(hints: readonly BlockRun[]): void {
    this.#order = new CopyOrder(this.#place.durable.map.blocks, hints);
    this.#started = true;
    this.#fill();
  }

  /** The guest waits for bytes of a block until `done`; what else is in it is fetched soon. */
  demanded(block: number, done: Promise<unknown>): void {
    this.#demands += 1;
    const over = (): void => {
      this.#demands -= 1;
      this.#order.demanded(block);
      this.#fill();
    };
    done.then(over, over);
  }

  /** A sequential reader will want these. */
  ahead({ first, count }: BlockRun): void {
    const { map } = this.#place.durable;
    for (let block = first; block < Math.min(first + count, map.blocks); block += 1) {
      if (this.#isWanted(block)) this.#fetch({ first: block, count: 1 });
    }
  }

  readonly #isWanted = (block: number): boolean =>
    this.#place.durable.map.stateOf(block) === STALE && !this.#fetches.has(block);

  #fill(): void {
    const { signal } = this.#place;
    while (this.#started && !this.#paused && !signal.aborted) {
      const { requestBytes } = this.#window;
      const leastBytes = Math.min(requestBytes, BLOCK_BYTES);
      const allowedBytes = this.#window.allowedBytes(this.#demands);
      // One request goes on in any case, so that the copy never stands still.
      if (this.#underWayBytes > 0 && this.#underWayBytes + leastBytes > allowedBytes) return;
      const run = this.#order.next(this.#isWanted, Math.max(1, requestBytes / BLOCK_BYTES));
      if (run === undefined) return;
      this.#fetch(run, requestBytes);
    }
  }

  /** The first so many bytes that lack of some blocks. */
  #fetch({ first, count }: BlockRun, bytesMax = BLOCK_BYTES): void {
    const { map } = this.#place.durable;
    const { offset } = map.rangeOf(first);
    const whole = { offset, length: endOf(map.rangeOf(first + count - 1)) - offset };
    const start = map.missing(whole)[0]?.offset ?? offset;
    const length = Math.min(endOf(whole) - start, bytesMax);
    this.#follow(this.#fetches.start({ offset: start, length }, "background"));
  }

  #follow({ range, done }: Fetch): void {
    const { clock, log } = this.#place.world;
    this.#underWayBytes += range.length;
    const over = (): void => {
      this.#underWayBytes -= range.length;
      this.#fill();
    };
    const came = ({ bytes, took_ms }: { bytes: number; took_ms: number }): void => {
      if (bytes > 0) this.#window.answered(bytes, took_ms, clock.monotonic());
      over();
    };
    done.then(came, (cause: unknown) => {
      if (!this.#place.signal.aborted) {
        log.log("warn", "blocks that came cannot be written; trying again", { cause });
        this.#pause();
      }
      over();
    });
  }

  /** Whatever brought a part of a block: the rest is looked for anew. */
  #ended({ range }: Fetch): void {
    for (const block of blocksOf(range)) {
      if (this.#place.durable.map.stateOf(block) === STALE) this.#order.again(block);
    }
    this.#fill();
  }

  #pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    const go = (): void => {
      this.#paused = false;
      this.#fill();
    };
    this.#place.world.clock.sleep(PAUSE_ms, this.#place.signal).then(go, () => undefined);
  }
}
