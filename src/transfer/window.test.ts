/** The credit of a stream, against a simulated path and disk. */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import {
  FRAME_COST_BYTES,
  RAW_BYTES_MAX,
  WANT_BYTES_MAX,
  WINDOW_BYTES,
  WINDOW_BYTES_MAX,
} from "./protocol.ts";
import { CreditWindow, WindowBudget } from "./window.ts";

const FRAME = 2 ** 20;

/** Sends frames as the credit allows over a path; returns the rate of the last half. */
function drive(
  window: CreditWindow,
  path: { readonly bytesPerSecond: number; readonly roundTrip_ms: number; readonly disk?: number },
  seconds: number,
): number {
  const { bytesPerSecond, roundTrip_ms, disk = Infinity } = path;
  const arrivals: number[] = [];
  const grants: { readonly at_ms: number; readonly bytes: number }[] = [];
  let credit = WINDOW_BYTES;
  let free_ms = 0;
  let disk_ms = 0;
  let done = 0;
  let spent = 0;
  for (let now_ms = 0; now_ms < seconds * 1000; now_ms += 1) {
    while ((grants[0]?.at_ms ?? Infinity) <= now_ms) credit += grants.shift()?.bytes ?? 0;
    while (credit >= FRAME && free_ms <= now_ms) {
      credit -= FRAME;
      free_ms = Math.max(free_ms, now_ms) + (FRAME * 1000) / bytesPerSecond;
      arrivals.push(free_ms + roundTrip_ms / 2);
    }
    for (; (arrivals[spent] ?? Infinity) <= now_ms; spent += 1) assert.ok(window.spend(FRAME));
    while (Math.max(arrivals[0] ?? Infinity, disk_ms) <= now_ms) {
      arrivals.shift();
      spent -= 1;
      disk_ms = now_ms + (FRAME * 1000) / disk;
      if (now_ms > seconds * 500) done += FRAME;
      const bytes = window.release(FRAME, now_ms, roundTrip_ms);
      if (bytes > 0) grants.push({ at_ms: now_ms + roundTrip_ms / 2, bytes });
    }
  }
  return done / (seconds / 2);
}

test("a long fat path is filled by one stream", () => {
  for (const bytesPerSecond of [25e6, 100e6]) {
    const window = new CreditWindow(new WindowBudget());
    const rate = drive(window, { bytesPerSecond, roundTrip_ms: 150 }, 20);
    assert.ok(rate > 0.9 * bytesPerSecond, `${rate} of ${bytesPerSecond}`);
    assert.ok(window.sizeBytes <= WINDOW_BYTES_MAX);
  }
});

test("the window stays small on short paths and while the disk is the slower one", () => {
  const short = new CreditWindow(new WindowBudget());
  drive(short, { bytesPerSecond: 100e6, roundTrip_ms: 2 }, 5);
  assert.equal(short.sizeBytes, WINDOW_BYTES);
  const slowDisk = new CreditWindow(new WindowBudget());
  drive(slowDisk, { bytesPerSecond: 100e6, roundTrip_ms: 150, disk: 5e6 }, 20);
  assert.ok(slowDisk.sizeBytes <= 2 * WINDOW_BYTES);
});

test("windows share a budget and give it back", () => {
  const budget = new WindowBudget(6 * FRAME);
  const path = { bytesPerSecond: 100e6, roundTrip_ms: 150 };
  const first = new CreditWindow(budget);
  drive(first, path, 10);
  assert.equal(first.sizeBytes, 10 * FRAME);
  const second = new CreditWindow(budget);
  drive(second, path, 10);
  assert.equal(second.sizeBytes, WINDOW_BYTES);
  first.close();
  first.close();
  const third = new CreditWindow(budget);
  drive(third, path, 10);
  assert.equal(third.sizeBytes, 10 * FRAME);
});

test("more than the credit is noticed", () => {
  const window = new CreditWindow(new WindowBudget());
  for (let sent = 0; sent < WINDOW_BYTES; sent += FRAME) assert.ok(window.spend(FRAME));
  assert.equal(window.spend(1), false);
});

/** The longest frame of data there is: of CHANGES. */
const LONGEST = WANT_BYTES_MAX + RAW_BYTES_MAX + FRAME_COST_BYTES;

test("when everything has been dealt with, the longest frame may come, whatever came before", () => {
  const frames = fc.array(
    fc.record({
      bytes: fc.integer({ min: FRAME_COST_BYTES, max: LONGEST }),
      waits_ms: fc.constantFrom(0, 1, 50, 1000),
      roundTrip_ms: fc.constantFrom(undefined, 0.1, 20, 300),
      dealtWith: fc.boolean(),
    }),
    { maxLength: 100 },
  );
  fc.assert(
    fc.property(frames, fc.integer({ min: 0, max: 2 * WINDOW_BYTES_MAX }), (list, budgetBytes) => {
      const window = new CreditWindow(new WindowBudget(budgetBytes));
      const held: number[] = [];
      let [creditBytes, now_ms] = [WINDOW_BYTES, 0];
      const release = (roundTrip_ms: number | undefined): void => {
        for (const bytes of held.splice(0))
          creditBytes += window.release(bytes, now_ms, roundTrip_ms);
      };
      for (const { bytes, waits_ms, roundTrip_ms, dealtWith } of list) {
        now_ms += waits_ms;
        if (creditBytes < bytes) release(roundTrip_ms);
        assert.ok(creditBytes >= bytes, `${creditBytes} left for ${bytes}`);
        creditBytes -= bytes;
        assert.ok(window.spend(bytes));
        held.push(bytes);
        if (dealtWith) release(roundTrip_ms);
      }
      release(undefined);
      assert.ok(creditBytes >= LONGEST, `${creditBytes} left`);
    }),
  );
});
