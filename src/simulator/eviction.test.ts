import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { BoundedStore } from "./eviction.ts";
import { replayRequests } from "./irm.ts";
import { cheHitRatio, clairvoyantHitBytes, unlimitedHitRatio } from "./theory.ts";

test("LRU evicts what was asked for longest ago, LFU what was asked for least", () => {
  const kept = { lru: [1, 2], lfu: [0, 2] };
  for (const policy of ["lru", "lfu"] as const) {
    const store = new BoundedStore(policy, 2, [1, 1, 1]);
    store.admit(0);
    store.touch(0);
    store.touch(0);
    store.admit(1);
    store.touch(1);
    store.admit(2);
    const held = [0, 1, 2].filter((component) => store.has(component));
    assert.deepEqual(held, kept[policy]);
  }
});

test("GreedyDual-Size lets a large one go before small ones", () => {
  const store = new BoundedStore("greedy-dual-size", 10_000, [8000, 1000, 1000, 1000]);
  for (const component of [1, 2, 0, 3]) store.admit(component);
  assert.deepEqual(
    [0, 1, 2, 3].filter((component) => store.has(component)),
    [1, 2, 3],
  );
});

test("what is in use is never evicted and takes none of the capacity", () => {
  const store = new BoundedStore("lru", 1, [5, 1, 1]);
  store.pin(0);
  store.admit(1);
  store.admit(2);
  assert.deepEqual(
    [0, 1, 2].map((component) => store.has(component)),
    [true, false, true],
  );
  store.unpin(0);
  assert.deepEqual(
    [0, 1, 2].map((component) => store.has(component)),
    [false, false, true],
  );
});

const acts = fc.array(
  fc.tuple(fc.constantFrom("touch", "admit", "pin", "unpin"), fc.integer({ min: 0, max: 9 })),
  { maxLength: 200 },
);

test("the idle components fit the capacity after any acts, and say so of themselves", () => {
  const sizes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
  fc.assert(
    fc.property(acts, fc.constantFrom("lru", "lfu", "greedy-dual-size"), (list, policy) => {
      const gone: number[] = [];
      const store = new BoundedStore(policy, 15, sizes, (one) => gone.push(one));
      const pinned = new Set<number>();
      for (const [act, component] of list) {
        store[act](component);
        if (act === "pin") pinned.add(component);
        if (act === "unpin") pinned.delete(component);
        const idle = sizes.keys().filter((index) => store.has(index) && !pinned.has(index));
        const bytes = idle.reduce((total, index) => total + (sizes[index] ?? 0), 0);
        assert.equal(bytes, store.idleBytes);
        assert.ok(bytes <= 15);
        for (const index of pinned) assert.ok(store.has(index));
      }
      assert.ok(gone.every((index) => index < sizes.length));
    }),
  );
});

const IRM = { components: 400, zipf: 0.8, requests: 150_000, seed: 7 };

test("LRU keeps within 2 % of Che's approximation, for hits in bytes", () => {
  const settings = { ...IRM, policy: "lru", capacityShare: 0.1 } as const;
  const { hitRatio, p, sizes } = replayRequests(settings);
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const expected = cheHitRatio(p, sizes, 0.1 * total);
  assert.ok(Math.abs(hitRatio / expected - 1) < 0.02, `${hitRatio} against ${expected}`);
});

test("an unlimited store keeps within 2 % of the closed form as its requests grow", () => {
  const requests = 20_000;
  const settings = { ...IRM, requests, policy: "unlimited", capacityShare: 1 } as const;
  const { tenths, p, sizes } = replayRequests(settings);
  let [asked, hit] = [0, 0];
  for (const [index, tenth] of tenths.entries()) {
    asked += tenth.asked;
    hit += tenth.hit;
    const expected = unlimitedHitRatio(p, sizes, (requests * (index + 1)) / 10);
    assert.ok(Math.abs(hit / asked / expected - 1) < 0.02, `${hit / asked} against ${expected}`);
  }
});

test("no policy beats the clairvoyant bound, which has limits that can be told", () => {
  for (const policy of ["lru", "lfu", "greedy-dual-size"] as const) {
    const { hitRatio, bound } = replayRequests({
      ...IRM,
      requests: 20_000,
      policy,
      capacityShare: 0.1,
    });
    assert.ok(hitRatio < bound && bound < 1, `${policy}: ${hitRatio} against ${bound}`);
  }
  const stays = [
    { sizeBytes: 4, length_s: 10 },
    { sizeBytes: 2, length_s: 5 },
  ];
  assert.equal(clairvoyantHitBytes(stays, 100, 10), 6);
  assert.equal(clairvoyantHitBytes(stays, 5, 10), 6);
  assert.equal(clairvoyantHitBytes(stays, 4, 5), 2 + (4 * 10) / 40);
});
