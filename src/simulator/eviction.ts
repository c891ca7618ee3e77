/** A bounded store of components of one cloud, with the policy that says which goes first. */
import type { EvictionPolicy } from "./contract.ts";

const ABSENT = -1;
const PINNED = -2;

/**
 * The cost of fetching, in packets: two for asking, and those that carry it. With it, the policy is
 * GreedyDual-Size(packets) of Cao and Irani, which suits hit ratios in bytes.
 */
const PACKET_BYTES = 1500;

/**
 * Components in use (pinned) are held whatever they take; the capacity is for the others. Every
 * policy is a priority: the lowest goes first.
 */
export class BoundedStore {
  /** Bytes held without being pinned. */
  idleBytes = 0;

  readonly #policy: EvictionPolicy;
  readonly #capacityBytes: number;
  readonly #sizes: ArrayLike<number>;
  /** By component: its place in the heap, ABSENT or PINNED. */
  readonly #places: Int32Array;
  readonly #evicted: (component: number) => void;
  /** A binary heap of idle components. */
  readonly #heap: number[] = [];
  readonly #priorities: number[] = [];
  /** By component while it is held. */
  readonly #requests = new Map<number, number>();
  #clock = 0;
  /** GreedyDual-Size's inflation: the priority of what was evicted last. */
  #inflation = 0;

  constructor(
    policy: EvictionPolicy,
    capacityBytes: number,
    sizes: ArrayLike<number>,
    evicted: (component: number) => void = () => undefined,
  ) {
    this.#policy = policy;
    this.#capacityBytes = capacityBytes;
    this.#sizes = sizes;
    this.#places = new Int32Array(sizes.length).fill(ABSENT);
    this.#evicted = evicted;
  }

  has(component: number): boolean {
    return this.#places[component] !== ABSENT;
  }

  /** It was asked for: counts for the policies; what is not held stays so. */
  touch(component: number): void {
    this.#clock += 1;
    const place = this.#places[component] as number;
    if (place === ABSENT) return;
    this.#requests.set(component, (this.#requests.get(component) ?? 0) + 1);
    if (place === PINNED) return;
    this.#priorities[place] = this.#priorityOf(component);
    this.#sink(place);
  }

  /** Puts it in, without being in use, and evicts what has to make room; too large ones stay out. */
  admit(component: number): void {
    if (this.has(component)) return;
    this.#requests.set(component, 1);
    this.#insert(component);
  }

  /** It is in use from now on: held if it was not, and never evicted. */
  pin(component: number): void {
    const place = this.#places[component] as number;
    if (place === PINNED) return;
    if (place === ABSENT) this.#requests.set(component, 1);
    else this.#takeOut(place);
    this.#places[component] = PINNED;
  }

  /** Nothing uses it any more: held as long as the policy keeps it. */
  unpin(component: number): void {
    if (this.#places[component] !== PINNED) return;
    this.#places[component] = ABSENT;
    this.#insert(component);
  }

  #insert(component: number): void {
    const size = this.#sizes[component] as number;
    if (size > this.#capacityBytes) {
      this.#drop(component);
      return;
    }
    while (this.idleBytes + size > this.#capacityBytes) this.#evictLowest();
    this.idleBytes += size;
    this.#heap.push(component);
    this.#priorities.push(this.#priorityOf(component));
    this.#places[component] = this.#heap.length - 1;
    this.#rise(this.#heap.length - 1);
  }

  #evictLowest(): void {
    const lowest = this.#heap[0] as number;
    this.#inflation = this.#priorities[0] as number;
    this.#takeOut(0);
    this.#drop(lowest);
  }

  #drop(component: number): void {
    this.#places[component] = ABSENT;
    this.#requests.delete(component);
    this.#evicted(component);
  }

  #priorityOf(component: number): number {
    if (this.#policy === "lru") return this.#clock;
    if (this.#policy === "lfu") return this.#requests.get(component) ?? 0;
    const size = this.#sizes[component] as number;
    return this.#inflation + (2 + size / PACKET_BYTES) / size;
  }

  #takeOut(place: number): void {
    this.idleBytes -= this.#sizes[this.#heap[place] as number] as number;
    const last = this.#heap.length - 1;
    this.#swap(place, last);
    this.#heap.pop();
    this.#priorities.pop();
    if (place === last) return;
    this.#rise(place);
    this.#sink(place);
  }

  #rise(from: number): void {
    let place = from;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if ((this.#priorities[parent] as number) <= (this.#priorities[place] as number)) return;
      this.#swap(place, parent);
      place = parent;
    }
  }

  #sink(from: number): void {
    let place = from;
    for (;;) {
      let least = place;
      const end = Math.min(2 * place + 3, this.#heap.length);
      for (let child = 2 * place + 1; child < end; child += 1) {
        const lower = (this.#priorities[child] as number) < (this.#priorities[least] as number);
        if (lower) least = child;
      }
      if (least === place) return;
      this.#swap(place, least);
      place = least;
    }
  }

  #swap(a: number, b: number): void {
    const [first, second] = [this.#heap[a] as number, this.#heap[b] as number];
    const [before, after] = [this.#priorities[a] as number, this.#priorities[b] as number];
    this.#heap[a] = second;
    this.#heap[b] = first;
    this.#priorities[a] = after;
    this.#priorities[b] = before;
    this.#places[second] = a;
    this.#places[first] = b;
  }
}
