import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import {
  fetchSeconds,
  type Holder,
  prefersWhole,
  rankHolders,
  togetherSeconds,
  worthwhileHolders,
} from "#delta";

function holder(
  cloud: string,
  bitsPerSecond?: number,
  roundTrip_ms?: number,
  pricePerGB = 0,
): Holder {
  return {
    cloud,
    pricePerGB,
    ...(bitsPerSecond === undefined ? {} : { bitsPerSecond }),
    ...(roundTrip_ms === undefined ? {} : { roundTrip_ms }),
  };
}

function names(holders: readonly Holder[]): string {
  return holders.map((each) => each.cloud).join("");
}

test("a short way counts for few bytes, a wide one for many", () => {
  const holders = [holder("f", 1e9, 300), holder("n", 50e6, 5)];
  assert.equal(names(rankHolders(holders, 10_000)), "nf");
  assert.equal(names(rankHolders(holders, 1e9)), "fn");
});

test("of similarly fast holders the cheapest comes first, then by name", () => {
  assert.equal(names(rankHolders([holder("d", 1e8, 5, 2), holder("c", 1e8, 5, 1)], 1e8)), "cd");
  assert.equal(names(rankHolders([holder("b", 1e8, 5), holder("a", 1e8, 5)], 1e8)), "ab");
  assert.equal(names(rankHolders([holder("u"), holder("k", 1e9, 5, 9)], 1e8)), "ku");
});

test("a further holder is asked only where that is faster", () => {
  const [wide, other, slow] = [holder("w", 1e8, 5), holder("o", 8e7, 5), holder("s", 1e6, 5)];
  assert.equal(names(worthwhileHolders([wide, other, slow], 1e9)), "wo");
  assert.equal(names(worthwhileHolders([wide, slow], 1e9)), "w");
  assert.equal(names(worthwhileHolders([wide, other], 1e9, 1e8)), "w");
  assert.equal(names(worthwhileHolders([wide, holder("x", 1e8, 500)], 10_000)), "w");
  assert.deepEqual(worthwhileHolders([], 1), []);
});

test("the ranking is a permutation that does not depend on the order", () => {
  const any = fc.uniqueArray(
    fc.record({
      cloud: fc.stringMatching(/^[a-z]{1,6}$/),
      bitsPerSecond: fc.double({ min: 1e3, max: 1e11, noNaN: true }),
      roundTrip_ms: fc.double({ min: 0, max: 1e4, noNaN: true }),
      pricePerGB: fc.nat(3),
    }),
    { selector: (each) => each.cloud, maxLength: 12 },
  );
  fc.assert(
    fc.property(any, fc.nat(2 ** 31 - 1), (holders, rawBytes) => {
      const ranked = rankHolders(holders, rawBytes);
      assert.deepEqual(rankHolders(holders.toReversed(), rawBytes), ranked);
      assert.deepEqual(new Set(ranked), new Set(holders));
      const chosen = worthwhileHolders(ranked, rawBytes);
      const first = ranked[0];
      if (first === undefined) return;
      assert.ok(togetherSeconds(chosen, rawBytes) <= fetchSeconds(first, rawBytes));
    }),
  );
});

test("a whole image is taken where it is clearly sooner, or as soon and cheaper, or alone", () => {
  const image = { sizeBytes: 100e6, otherBytes: 40e6 };
  const prefers = (whole: Holder, ...others: Holder[]) => prefersWhole({ whole, others, ...image });
  assert.equal(prefers(holder("r", 1e6)), true);
  assert.equal(prefers(holder("r", 1e9, 1), holder("m", 20e6, 20, 0)), true);
  assert.equal(prefers(holder("r", 20e6, 20), holder("m", 20e6, 20, 9)), false);
  const [near, far] = [holder("r", 250e6, 0, 1), holder("m", 100e6, 0, 1)];
  assert.equal(prefers(near, far), false);
  assert.equal(prefers({ ...near, pricePerGB: 0 }, far), true);
  assert.equal(prefers(near, { ...far, pricePerGB: 0 }), false);
});
