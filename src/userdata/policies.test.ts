import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { CopyOrder } from "./copy-order.ts";
import { CopyWindow } from "./copy-window.ts";
import { nextStep } from "./hybrid.ts";
import { ReadAhead } from "./read-ahead.ts";

const KIB = 1024;

test("hybrid ends whatever the guest writes and the link carries", () => {
  const rate = fc.double({ min: 0, max: 1e10 });
  fc.assert(
    fc.property(
      fc.nat(2 ** 45),
      rate,
      rate,
      fc.array(fc.nat(2 ** 45), { minLength: 1, maxLength: 300 }),
      (whole, dirtyBytesPerSecond, linkBytesPerSecond, dirty) => {
        let formerDirtyBytes = whole;
        for (let pass = 1; pass <= 200; pass += 1) {
          const dirtyBytes = dirty[pass % dirty.length] ?? 0;
          const { step } = nextStep({
            pass,
            dirtyBytes,
            formerDirtyBytes,
            dirtyBytesPerSecond,
            linkBytesPerSecond,
            passesMax: Infinity,
          });
          if (step === "switch") return;
          formerDirtyBytes = dirtyBytes;
        }
        assert.fail("two hundred passes and no end");
      },
    ),
  );
});

test("hybrid switches with little left, after its passes, and when it is outrun", () => {
  const facts = {
    pass: 1,
    dirtyBytes: 100e6,
    formerDirtyBytes: 1e9,
    dirtyBytesPerSecond: 1e6,
    linkBytesPerSecond: 10e6,
  };
  assert.equal(nextStep(facts).reason, "passes-over");
  assert.equal(nextStep({ ...facts, passesMax: 3 }).reason, "worth-it");
  assert.equal(nextStep({ ...facts, passesMax: 3, dirtyBytes: 9e6 }).reason, "little-left");
  assert.equal(nextStep({ ...facts, passesMax: 3, dirtyBytesPerSecond: 6e6 }).reason, "outrun");
  assert.equal(nextStep({ ...facts, passesMax: 3, dirtyBytes: 800e6 }).reason, "outrun");
  assert.equal(nextStep({ ...facts, passesMax: 3, linkBytesPerSecond: NaN }).reason, "outrun");
});

test("hints come first, then what is near a demand, then the rest, each block once", () => {
  const wanted = new Set(Array.from({ length: 200 }, (_, block) => block));
  const order = new CopyOrder(200, [
    { first: 150, count: 2 },
    { first: 90, count: 1 },
  ]);
  order.demanded(100);
  wanted.delete(100);
  const seen: number[] = [];
  for (;;) {
    const run = order.next((block) => wanted.has(block), 1);
    if (run === undefined) break;
    seen.push(run.first);
    wanted.delete(run.first);
  }
  assert.deepEqual(seen.slice(0, 5), [150, 151, 90, 101, 102]);
  assert.deepEqual(seen.slice(35, 42), [99, 98, 97, 96, 95, 94, 93]);
  assert.deepEqual(seen.slice(42, 45), [92, 0, 1]);
  assert.equal(new Set(seen).size, 199);
  assert.equal(seen.length, 199);
});

test("runs end where something is not wanted, and what was passed over comes when it is told", () => {
  const order = new CopyOrder(10);
  const wanted = new Set([0, 1, 2, 4, 5]);
  const isWanted = (block: number): boolean => wanted.has(block);
  assert.deepEqual(order.next(isWanted, 8), { first: 0, count: 3 });
  wanted.clear();
  assert.equal(order.next(isWanted, 8), undefined);
  wanted.add(1);
  assert.equal(order.next(isWanted, 8), undefined);
  order.again(1);
  assert.deepEqual(order.next(isWanted, 8), { first: 1, count: 1 });
});

test("sequential readers are read ahead of, growing to 1 MiB; random ones are not", () => {
  const ahead = new ReadAhead();
  const asked = new Set<number>();
  let largest = 0;
  for (let block = 0; block < 100; block += 1) {
    const run = ahead.onRead({ first: block, count: 1 });
    for (let step = 0; step < (run?.count ?? 0); step += 1) {
      const next = (run?.first ?? 0) + step;
      assert.ok(next > block && !asked.has(next), `block ${next} at ${block}`);
      asked.add(next);
    }
    largest = Math.max(largest, asked.size - block);
  }
  assert.ok(largest >= 14 && largest <= 17, String(largest));
  const random = new ReadAhead();
  for (let block = 0; block < 1000; block += 7) {
    assert.equal(random.onRead({ first: block, count: 1 }), undefined);
  }
  // Small reads within one block are one reader's, and ask for nothing twice.
  assert.equal(random.onRead({ first: 994, count: 1 }), undefined);
});

/** A link with a queue: what is under way beyond its capacity waits. */
function settle(window: CopyWindow, bytesPerMs: number, roundTrip_ms: number): number {
  let now_ms = 0;
  const seen: number[] = [];
  for (let step = 0; step < 400; step += 1) {
    const bytes = window.allowedBytes(0);
    const took_ms = Math.max(roundTrip_ms, bytes / bytesPerMs);
    now_ms += took_ms;
    seen.push(bytes);
    const answers = Math.max(1, Math.floor(bytes / (64 * KIB)));
    for (let sent = 0; sent < answers; sent += 1) window.answered(64 * KIB, took_ms, now_ms);
  }
  return seen.slice(-100).toSorted((a, b) => a - b)[50] ?? 0;
}

test("the window fills a link without a queue that a demand would notice", () => {
  for (const [bytesPerMs, roundTrip_ms] of [
    [12_500, 50],
    [125_000, 20],
    [12_500, 100],
  ] as const) {
    const bytes = settle(new CopyWindow(), bytesPerMs, roundTrip_ms);
    const full = bytesPerMs * roundTrip_ms;
    const most = full + bytesPerMs * (4 + roundTrip_ms / 12) + 128 * KIB;
    assert.ok(bytes >= 0.8 * full && bytes <= most, `${bytes} for ${full}`);
  }
});

test("answers that are late by themselves do not shrink the window", () => {
  const window = new CopyWindow();
  settle(window, 125_000, 20);
  const before = window.allowedBytes(0);
  for (let count = 0; count < 200; count += 1) {
    window.answered(64 * KIB, count % 5 === 0 ? 20 : 90, 1_000_000);
  }
  assert.ok(window.allowedBytes(0) >= 0.9 * before, `${window.allowedBytes(0)} of ${before}`);
});

test("while the guest waits the queue runs empty, and the copy goes on", () => {
  const window = new CopyWindow();
  assert.equal(window.requestBytes, 16 * KIB);
  settle(window, 125_000, 20);
  assert.ok(window.requestBytes === 256 * KIB);
  // 2.5 MB fill the link.
  assert.ok(window.allowedBytes(1) < 2.5e6 && window.allowedBytes(1) > 1e6);
});
