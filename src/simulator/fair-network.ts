/**
 * Max-min fair rates of flows over links, kept up to date as flows come and go. Exact: a link's
 * level is what each flow gets that no other link holds lower, and a flow's rate is the lowest level
 * on its way. A change is followed only to links whose level it moves, so its cost depends on how
 * loaded the links around it are and not on how many there are.
 */
import { TesseraError } from "#core";

/** Most links on the way of a flow. */
export const HOPS_MAX = 4;

/** Levels and rates that differ by less count as equal. */
const EQUAL = 1e-12;
/** Updates of links in one change, for each flow there is: far more than levels ever need. */
const UPDATES_MAX = 1e4;
const FLOWS_FIRST = 256;

export class FairNetwork {
  /** Flows whose rate the last `settle` changed; the first `changedCount` count. */
  changed = new Int32Array(FLOWS_FIRST);
  changedCount = 0;
  flows = 0;

  readonly #capacities: Float64Array;
  /** By link: infinity where it is not full. */
  readonly #levels: Float64Array;
  /** By link: its first hop, as `flow * HOPS_MAX + index`; -1 for none. */
  readonly #heads: Int32Array;
  readonly #counts: Int32Array;
  readonly #waiting: Uint8Array;
  readonly #queue: number[] = [];

  #hopLinks = new Int32Array(FLOWS_FIRST * HOPS_MAX).fill(-1);
  #hopNext = new Int32Array(FLOWS_FIRST * HOPS_MAX);
  #hopBefore = new Int32Array(FLOWS_FIRST * HOPS_MAX);
  #caps = new Float64Array(FLOWS_FIRST);
  #rates = new Float64Array(FLOWS_FIRST);
  #touched = new Uint8Array(FLOWS_FIRST);
  #bounds = new Float64Array(FLOWS_FIRST);
  #free: number[] = [];
  #used = 0;

  /** @param capacities of the links, in bits per second: above 0 */
  constructor(capacities: ArrayLike<number>) {
    this.#capacities = Float64Array.from(capacities);
    this.#levels = new Float64Array(capacities.length).fill(Number.POSITIVE_INFINITY);
    this.#heads = new Int32Array(capacities.length).fill(-1);
    this.#counts = new Int32Array(capacities.length);
    this.#waiting = new Uint8Array(capacities.length);
  }

  /**
   * Rates change at the next `settle`.
   *
   * @param links different ones, 1 to {@link HOPS_MAX}
   * @param cap the most that the flow itself can reach
   */
  add(links: readonly number[], cap: number): number {
    const flow = this.#free.pop() ?? this.#used++;
    if (flow === this.#rates.length) this.#grow();
    this.#caps[flow] = cap;
    this.#rates[flow] = 0;
    links.forEach((link, index) => this.#join(flow * HOPS_MAX + index, link));
    this.#touch(flow);
    this.flows += 1;
    return flow;
  }

  remove(flow: number): void {
    for (let hop = flow * HOPS_MAX; hop < (flow + 1) * HOPS_MAX; hop += 1) {
      if ((this.#hopLinks[hop] as number) >= 0) this.#leave(hop);
    }
    this.#free.push(flow);
    this.#rates[flow] = 0;
    this.flows -= 1;
  }

  setCap(flow: number, cap: number): void {
    this.#caps[flow] = cap;
    for (let hop = flow * HOPS_MAX; hop < (flow + 1) * HOPS_MAX; hop += 1) {
      const link = this.#hopLinks[hop] as number;
      if (link >= 0) this.#enqueue(link);
    }
    this.#touch(flow);
  }

  rateOf(flow: number): number {
    return this.#rates[flow] as number;
  }

  capOf(flow: number): number {
    return this.#caps[flow] as number;
  }

  /** Flows on a link. */
  countOn(link: number): number {
    return this.#counts[link] as number;
  }

  flowsOn(link: number): number[] {
    const flows: number[] = [];
    for (let hop = this.#heads[link] as number; hop >= 0; hop = this.#hopNext[hop] as number) {
      flows.push(Math.floor(hop / HOPS_MAX));
    }
    return flows;
  }

  /**
   * Brings all rates up to date and lists those that changed.
   *
   * Each turn of a link uses the levels of the others as they are. The lowest true level is right
   * after every link had its turn, as no input of that link is below it; then the next, and so on,
   * so the turns end, and where they end each flow is held by a full link on which nobody has more.
   *
   * @throws `simulator.network-unsettled` (bug)
   */
  settle(): void {
    let updatesLeft = UPDATES_MAX * (this.flows + 1);
    for (let at = 0; at < this.#queue.length; at += 1) {
      const link = this.#queue[at] as number;
      this.#waiting[link] = 0;
      this.#update(link);
      updatesLeft -= 1;
      if (updatesLeft === 0) throw unsettled();
    }
    this.#queue.length = 0;
    this.#listChanges();
  }

  #listChanges(): void {
    let count = 0;
    for (let at = 0; at < this.changedCount; at += 1) {
      const flow = this.changed[at] as number;
      this.#touched[flow] = 0;
      const rate = this.#boundOf(flow, -1);
      const before = this.#rates[flow] as number;
      if ((this.#hopLinks[flow * HOPS_MAX] as number) < 0) continue;
      if (Math.abs(rate - before) <= EQUAL * rate) continue;
      this.#rates[flow] = rate;
      this.changed[count++] = flow;
    }
    this.changedCount = count;
  }

  /** To be called when the changes were seen, before the next `add`. */
  clearChanges(): void {
    this.changedCount = 0;
  }

  #update(link: number): void {
    const before = this.#levels[link] as number;
    const level = this.#levelOf(link);
    if (level === before || Math.abs(level - before) <= EQUAL * Math.min(level, before)) return;
    this.#levels[link] = level;
    for (let hop = this.#heads[link] as number; hop >= 0; hop = this.#hopNext[hop] as number) {
      this.#tell(Math.floor(hop / HOPS_MAX), hop, before, level);
    }
  }

  /** Lets the other links of a flow have a turn where its bound there moves what they give. */
  #tell(flow: number, hop: number, before: number, level: number): void {
    this.#touch(flow);
    const cap = this.#caps[flow] as number;
    for (let other = flow * HOPS_MAX; other < (flow + 1) * HOPS_MAX; other += 1) {
      const link = this.#hopLinks[other] as number;
      if (link < 0 || other === hop) continue;
      const held = Math.min(cap, this.#levels[link] as number);
      if (Math.min(before, held) !== Math.min(level, held)) this.#enqueue(link);
    }
  }

  /** Fills the link like a vessel: flows that others hold lower keep that, the rest share evenly. */
  #levelOf(link: number): number {
    const bounds = this.#bounds;
    let count = 0;
    for (let hop = this.#heads[link] as number; hop >= 0; hop = this.#hopNext[hop] as number) {
      bounds[count++] = this.#boundOf(Math.floor(hop / HOPS_MAX), hop);
    }
    let left = this.#capacities[link] as number;
    for (;;) {
      if (count === 0) return Number.POSITIVE_INFINITY;
      const share = left / count;
      let kept = 0;
      for (let at = 0; at < count; at += 1) {
        const bound = bounds[at] as number;
        if (bound <= share) left -= bound;
        else bounds[kept++] = bound;
      }
      if (kept === count) return share;
      count = kept;
    }
  }

  /** What a flow could have if the link of `hop` were wide. */
  #boundOf(flow: number, hop: number): number {
    let bound = this.#caps[flow] as number;
    for (let other = flow * HOPS_MAX; other < (flow + 1) * HOPS_MAX; other += 1) {
      const link = this.#hopLinks[other] as number;
      if (link < 0) break;
      if (other !== hop) bound = Math.min(bound, this.#levels[link] as number);
    }
    return bound;
  }

  #join(hop: number, link: number): void {
    const head = this.#heads[link] as number;
    this.#hopLinks[hop] = link;
    this.#hopNext[hop] = head;
    this.#hopBefore[hop] = -1;
    if (head >= 0) this.#hopBefore[head] = hop;
    this.#heads[link] = hop;
    this.#counts[link] = (this.#counts[link] as number) + 1;
    this.#enqueue(link);
  }

  #leave(hop: number): void {
    const link = this.#hopLinks[hop] as number;
    const next = this.#hopNext[hop] as number;
    const before = this.#hopBefore[hop] as number;
    if (before >= 0) this.#hopNext[before] = next;
    else this.#heads[link] = next;
    if (next >= 0) this.#hopBefore[next] = before;
    this.#hopLinks[hop] = -1;
    this.#counts[link] = (this.#counts[link] as number) - 1;
    this.#enqueue(link);
  }

  #enqueue(link: number): void {
    if (this.#waiting[link] === 1) return;
    this.#waiting[link] = 1;
    this.#queue.push(link);
  }

  #touch(flow: number): void {
    if (this.#touched[flow] === 1) return;
    this.#touched[flow] = 1;
    this.changed[this.changedCount++] = flow;
  }

  #grow(): void {
    const length = this.#rates.length * 2;
    this.#hopLinks = grown(new Int32Array(length * HOPS_MAX).fill(-1), this.#hopLinks);
    this.#hopNext = grown(new Int32Array(length * HOPS_MAX), this.#hopNext);
    this.#hopBefore = grown(new Int32Array(length * HOPS_MAX), this.#hopBefore);
    this.#caps = grown(new Float64Array(length), this.#caps);
    this.#rates = grown(new Float64Array(length), this.#rates);
    this.#touched = grown(new Uint8Array(length), this.#touched);
    this.#bounds = grown(new Float64Array(length), this.#bounds);
    this.changed = grown(new Int32Array(length), this.changed);
  }
}

function grown<T extends { set(from: T): void }>(to: T, from: T): T {
  to.set(from);
  return to;
}

function unsettled(): TesseraError {
  return new TesseraError("bug", "simulator.network-unsettled", "the links' levels do not settle", {
    remedy: "report it with the scenario and its seed",
  });
}
