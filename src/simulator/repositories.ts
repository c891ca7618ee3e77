/** What each cloud's repository holds, uses and evicts. */
import type { CloudGroup } from "./contract.ts";
import { BoundedStore } from "./eviction.ts";
import { clairvoyantHitBytes, type Stay } from "./theory.ts";

export class Repositories {
  /** Components in all repositories. */
  bytes = 0;
  /** Raw bytes asked for by migrations, and those of them that were held. */
  requestedBytes = 0;
  hitBytes = 0;
  /** By component: how often it was asked for, anywhere. */
  readonly requests: Float64Array;

  readonly #components: number;
  readonly #sizes: Float64Array;
  readonly #held: Uint8Array;
  /** Machines, and migrations on their way, that use a component at a cloud. */
  readonly #uses: Int32Array;
  readonly #stores: readonly (BoundedStore | undefined)[];
  readonly #idleSince: readonly Map<number, number>[];
  readonly #stays: readonly Stay[][];
  /** Hits on components in use, and at clouds that evict nothing: no policy could have missed them. */
  #certainHitBytes = 0;

  constructor(groups: readonly CloudGroup[], sizes: Float64Array) {
    this.#components = sizes.length;
    this.#sizes = sizes;
    this.requests = new Float64Array(sizes.length);
    this.#held = new Uint8Array(groups.length * sizes.length);
    this.#uses = new Int32Array(groups.length * sizes.length);
    this.#stores = groups.map(({ repository }, cloud) => {
      if (repository.policy === "unlimited") return undefined;
      const forget = (component: number): void => this.#forget(cloud, component);
      return new BoundedStore(repository.policy, repository.capacityBytes, sizes, forget);
    });
    const bounded = this.#stores.filter((store) => store !== undefined).length;
    this.#idleSince = bounded === 0 ? [] : groups.map(() => new Map());
    this.#stays = bounded === 0 ? [] : groups.map(() => []);
  }

  holds(cloud: number, component: number): boolean {
    return this.#held[cloud * this.#components + component] === 1;
  }

  /** A migration asks for it: counts for the hit ratio and for eviction. */
  request(cloud: number, component: number, now_s: number): void {
    const size = this.#sizes[component] as number;
    this.requests[component] = (this.requests[component] as number) + 1;
    this.requestedBytes += size;
    const held = this.holds(cloud, component);
    if (held) this.hitBytes += size;
    const store = this.#stores[cloud];
    if (store !== undefined) {
      this.#noteStay(cloud, component, now_s);
      store.touch(component);
    } else if (held) this.#certainHitBytes += size;
  }

  #noteStay(cloud: number, component: number, now_s: number): void {
    const sizeBytes = this.#sizes[component] as number;
    const used = (this.#uses[cloud * this.#components + component] as number) > 0;
    if (used && this.holds(cloud, component)) {
      this.#certainHitBytes += sizeBytes;
      return;
    }
    const since_s = this.#idleSince[cloud]?.get(component);
    if (since_s === undefined) return;
    this.#stays[cloud]?.push({ sizeBytes, length_s: now_s - since_s });
    this.#idleSince[cloud]?.set(component, now_s);
  }

  /** A machine, or a migration to here, uses it from now on. */
  use(cloud: number, component: number): void {
    const index = cloud * this.#components + component;
    this.#uses[index] = (this.#uses[index] as number) + 1;
    if (this.#held[index] === 1) this.#stores[cloud]?.pin(component);
  }

  release(cloud: number, component: number, now_s: number): void {
    const index = cloud * this.#components + component;
    this.#uses[index] = (this.#uses[index] as number) - 1;
    if (this.#uses[index] !== 0 || this.#held[index] !== 1) return;
    this.#idleSince[cloud]?.set(component, now_s);
    this.#stores[cloud]?.unpin(component);
  }

  /** It has come whole. */
  admit(cloud: number, component: number, now_s: number): void {
    const index = cloud * this.#components + component;
    if (this.#held[index] === 1) return;
    this.#held[index] = 1;
    this.bytes += this.#sizes[component] as number;
    const store = this.#stores[cloud];
    if (store === undefined) return;
    if ((this.#uses[index] as number) > 0) {
      store.pin(component);
      return;
    }
    this.#idleSince[cloud]?.set(component, now_s);
    store.admit(component);
  }

  #forget(cloud: number, component: number): void {
    this.#held[cloud * this.#components + component] = 0;
    this.bytes -= this.#sizes[component] as number;
  }

  /** What no eviction policy exceeds on the requests of this run; null where none is bounded. */
  hitBound(capacities: readonly number[], duration_s: number): number | null {
    if (this.#stays.length === 0 || this.requestedBytes === 0) return null;
    const idle = this.#stays.map((stays, cloud) =>
      clairvoyantHitBytes(stays, capacities[cloud] ?? 0, duration_s),
    );
    const hits = idle.reduce((sum, bytes) => sum + bytes, this.#certainHitBytes);
    return Math.min(1, hits / this.requestedBytes);
  }
}
