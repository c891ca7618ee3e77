/** A repository alone under independent requests: what theory is compared with. */
import type { EvictionPolicy } from "./contract.ts";
import { BoundedStore } from "./eviction.ts";
import { RandomStream, WeightedDraw, zipfWeights } from "./random.ts";
import { clairvoyantHitBytes, type Stay } from "./theory.ts";

export interface ReplaySettings {
  readonly components: number;
  readonly zipf: number;
  readonly requests: number;
  readonly seed: number;
  readonly policy: EvictionPolicy;
  /** Capacity as a part of all components' bytes. */
  readonly capacityShare: number;
}

export interface Replay {
  /** In bytes; for bounded stores over the second half of the requests, when they are full. */
  readonly hitRatio: number;
  /** The same over time: bytes asked for and hit in each tenth of these requests. */
  readonly tenths: readonly { readonly asked: number; readonly hit: number }[];
  /** What no policy exceeds over the same requests. */
  readonly bound: number;
  readonly p: Float64Array;
  readonly sizes: Float64Array;
}

/** Sizes are log-normal about 10 MB, independent of popularity. */
export function replayRequests(settings: ReplaySettings): Replay {
  const { components, zipf, requests, seed, policy, capacityShare } = settings;
  const random = new RandomStream(seed, 1);
  const weights = zipfWeights(components, zipf);
  const weightsSum = weights.reduce((sum, weight) => sum + weight, 0);
  const sizes = Float64Array.from({ length: components }, () =>
    Math.ceil(1e7 * Math.exp(random.normal())),
  );
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const capacityBytes = policy === "unlimited" ? total : capacityShare * total;
  const store = new BoundedStore(policy, capacityBytes, sizes);
  const from = policy === "unlimited" ? 0 : requests / 2;
  const tenths = Array.from({ length: 10 }, () => ({ asked: 0, hit: 0 }));
  const draw = new WeightedDraw(weights);
  const stays: Stay[] = [];
  const last = new Map<number, number>();
  for (let request = 0; request < requests; request += 1) {
    const component = draw.draw(random);
    const sizeBytes = sizes[component] ?? 0;
    const tenth = tenths[Math.floor((10 * (request - from)) / (requests - from))];
    if (tenth !== undefined) {
      tenth.asked += sizeBytes;
      if (store.has(component)) tenth.hit += sizeBytes;
      const before = last.get(component);
      if (before !== undefined) stays.push({ sizeBytes, length_s: request - before });
    }
    last.set(component, request);
    store.touch(component);
    store.admit(component);
  }
  // A stay may have begun before the count did.
  const asked = tenths.reduce((sum, each) => sum + each.asked, 0);
  const hit = tenths.reduce((sum, each) => sum + each.hit, 0);
  const bound = clairvoyantHitBytes(stays, capacityBytes, requests) / asked;
  const p = weights.map((weight) => weight / weightsSum);
  return { hitRatio: hit / asked, tenths, bound, p, sizes };
}
