import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { FairNetwork } from "./fair-network.ts";

interface Flow {
  readonly links: readonly number[];
  readonly cap: number;
}

/**
 * The slow way, from the definition: all rates rise together; a flow stops at its cap or when a
 * link on its way is full.
 */
function filled(capacities: readonly number[], flows: readonly Flow[]): number[] {
  const rates = flows.map(() => 0);
  const left = [...capacities];
  const rising = new Set(flows.keys());
  while (rising.size > 0) {
    const counts = capacities.map((_, link) => on(flows, rising, link).length);
    const steps = [...rising].map((flow) => (flows[flow]?.cap ?? 0) - (rates[flow] ?? 0));
    counts.forEach((count, link) => count > 0 && steps.push((left[link] ?? 0) / count));
    const step = Math.max(0, Math.min(...steps));
    for (const flow of rising) rates[flow] = (rates[flow] ?? 0) + step;
    counts.forEach((count, link) => (left[link] = (left[link] ?? 0) - count * step));
    for (const [flow, { links, cap }] of flows.entries()) {
      const full = links.some((link) => (left[link] ?? 0) <= 1e-9 * (capacities[link] ?? 0));
      if (full || (rates[flow] ?? 0) >= cap * (1 - 1e-12)) rising.delete(flow);
    }
  }
  return rates;
}

function on(flows: readonly Flow[], rising: ReadonlySet<number>, link: number): number[] {
  return [...rising].filter((flow) => flows[flow]?.links.includes(link));
}

function close(actual: number, expected: number): void {
  assert.ok(Math.abs(actual - expected) <= 1e-6 * expected, `${actual} is not ${expected}`);
}

test("two flows on one link have half of it each; one alone has all", () => {
  const network = new FairNetwork([10]);
  const first = network.add([0], Number.POSITIVE_INFINITY);
  network.settle();
  assert.equal(network.rateOf(first), 10);
  const second = network.add([0], Number.POSITIVE_INFINITY);
  network.settle();
  assert.deepEqual([network.rateOf(first), network.rateOf(second)], [5, 5]);
  network.remove(first);
  network.settle();
  assert.equal(network.rateOf(second), 10);
});

test("on a chain the long flow has the share of its narrowest link, the others have the rest", () => {
  const network = new FairNetwork([10, 4, 6]);
  const open = Number.POSITIVE_INFINITY;
  const long = network.add([0, 1, 2], open);
  const short = [0, 1, 2].map((link) => network.add([link], open));
  network.settle();
  assert.equal(network.rateOf(long), 2);
  assert.deepEqual(
    short.map((flow) => network.rateOf(flow)),
    [8, 2, 4],
  );
});

test("a flow with a cap leaves the rest to others", () => {
  const network = new FairNetwork([10]);
  const capped = network.add([0], 2);
  const other = network.add([0], 100);
  network.settle();
  assert.deepEqual([network.rateOf(capped), network.rateOf(other)], [2, 8]);
  network.setCap(capped, 9);
  network.settle();
  assert.deepEqual([network.rateOf(capped), network.rateOf(other)], [5, 5]);
});

const LINKS = 6;
const capacities = fc.array(fc.integer({ min: 1, max: 50 }), {
  minLength: LINKS,
  maxLength: LINKS,
});
const change = fc.record({
  links: fc.uniqueArray(fc.integer({ min: 0, max: LINKS - 1 }), { minLength: 1, maxLength: 4 }),
  cap: fc.oneof(fc.constant(Number.POSITIVE_INFINITY), fc.integer({ min: 1, max: 20 })),
  /** Which of the flows there are is removed before; none where it is beyond them. */
  removes: fc.integer({ min: 0, max: 12 }),
});

test("after any changes the rates are those of the slow reference", () => {
  fc.assert(
    fc.property(capacities, fc.array(change, { maxLength: 25 }), (sizes, changes) => {
      const network = new FairNetwork(sizes);
      const there: (Flow & { readonly id: number })[] = [];
      for (const { links, cap, removes } of changes) {
        const [gone] = there.splice(removes, 1);
        if (gone !== undefined) network.remove(gone.id);
        there.push({ links, cap, id: network.add(links, cap) });
        network.settle();
        const expected = filled(sizes, there);
        there.forEach(({ id }, index) => close(network.rateOf(id), expected[index] ?? 0));
      }
    }),
    { numRuns: 300 },
  );
});

function changedOf({ changed, changedCount }: FairNetwork): Set<number> {
  return new Set(changed.subarray(0, changedCount));
}

test("changes name every flow whose rate is another, and no other", () => {
  const network = new FairNetwork([10, 10]);
  const a = network.add([0], 100);
  const b = network.add([1], 100);
  network.settle();
  assert.deepEqual(changedOf(network), new Set([a, b]));
  network.clearChanges();
  const c = network.add([0], 100);
  network.settle();
  assert.deepEqual(changedOf(network), new Set([a, c]));
});
