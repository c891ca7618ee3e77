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
  const counts = { from: policy === "unlimited" ? 0 : requests / 2, asked: 0, hit: 0 };
  const draw = new WeightedDraw(weights);
  const stays: Stay[] = [];
  const last = new Map<number, number>();
  for (let request = 0; request < requests; request += 1) {
    const component = draw.draw(random);
    const sizeBytes = sizes[component] ?? 0;
    if (request >= counts.from) {
      counts.asked += sizeBytes;
      if (store.has(component)) counts.hit += sizeBytes;
      const before = last.get(component);
      if (before !== undefined) stays.push({ sizeBytes, length_s: request - before });
    }
    last.set(component, request);
    store.touch(component);
    store.admit(component);
  }
  // A stay may have begun before the count did.
  const bound = clairvoyantHitBytes(stays, capacityBytes, requests) / counts.asked;
  const p = weights.map((weight) => weight / weightsSum);
  return { hitRatio: counts.hit / counts.asked, bound, p, sizes };
}
