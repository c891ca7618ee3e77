/**
 * What theory says of hit ratios in bytes, under the independent reference model: each request is
 * for component `i` with probability `p[i]`, whatever came before.
 */

/**
 * Of an LRU cache in the long run, by Che's approximation: a component is held when it was asked for
 * within the last T requests, with T such that what is held fills the cache.
 */
export function cheHitRatio(
  p: ArrayLike<number>,
  sizes: ArrayLike<number>,
  capacityBytes: number,
): number {
  const held = (component: number, window: number): number =>
    1 - Math.exp(-(p[component] ?? 0) * window);
  const heldBytes = (window: number): number =>
    sum(p.length, (component) => (sizes[component] ?? 0) * held(component, window));
  if (sum(sizes.length, (component) => sizes[component] ?? 0) <= capacityBytes) return 1;
  let [low, high] = [0, 1];
  while (heldBytes(high) < capacityBytes) high *= 2;
  for (let round = 0; round < 100; round += 1) {
    const middle = (low + high) / 2;
    if (heldBytes(middle) < capacityBytes) low = middle;
    else high = middle;
  }
  const asked = (component: number): number => (p[component] ?? 0) * (sizes[component] ?? 0);
  const hits = sum(p.length, (component) => asked(component) * held(component, high));
  return hits / sum(p.length, asked);
}

/** Expected over the first `requests` of a store that is empty before them and never evicts. */
export function unlimitedHitRatio(
  p: ArrayLike<number>,
  sizes: ArrayLike<number>,
  requests: number,
): number {
  const asked = sum(p.length, (component) => (p[component] ?? 0) * (sizes[component] ?? 0));
  // A component misses once if it is asked for at all.
  const missed = sum(
    p.length,
    (component) => (sizes[component] ?? 0) * (1 - (1 - (p[component] ?? 0)) ** requests),
  );
  return 1 - missed / (asked * requests);
}

/** A stay of a component in a store between two requests that would make the second one a hit. */
export interface Stay {
  readonly sizeBytes: number;
  readonly length_s: number;
}

/**
 * Most bytes of hits that any policy, one that knows the future included, can make of stays: a stay
 * takes its size for its length, and the store has its capacity for the whole time. The shortest
 * stays give most hits for what they take; a part of the last one fills the rest. (The upper bound
 * PFOO-U of Berger, Beckmann and Harchol-Balter, for hits in bytes.)
 */
export function clairvoyantHitBytes(
  stays: readonly Stay[],
  capacityBytes: number,
  duration_s: number,
): number {
  let left = capacityBytes * duration_s;
  let hits = 0;
  for (const { sizeBytes, length_s } of stays.toSorted((a, b) => a.length_s - b.length_s)) {
    if (sizeBytes > capacityBytes) continue;
    const taken = sizeBytes * length_s;
    if (taken > left) return hits + (sizeBytes * left) / taken;
    left -= taken;
    hits += sizeBytes;
  }
  return hits;
}

function sum(count: number, term: (index: number) => number): number {
  let total = 0;
  for (let index = 0; index < count; index += 1) total += term(index);
  return total;
}
