import assert from "node:assert/strict";
import { test } from "node:test";
import { Patience } from "./patience.ts";

const START = { now_ms: 1000, bytes: 500 };

/** The clock readings at which patience was over, looking each second for so long. */
function overAt(bytesPerSecond: number, seconds: number): number[] {
  const patience = new Patience(60_000, START);
  const over: number[] = [];
  for (let second = 1; second <= seconds; second += 1) {
    const bytes = START.bytes + second * bytesPerSecond;
    if (patience.isOver(START.now_ms + second * 1000, bytes)) over.push(second);
  }
  return over;
}

test("signs of life alone are not waited for, each time twice as long", () => {
  assert.deepEqual(overAt(100, 900), [60, 180, 420, 900]);
  assert.deepEqual(overAt(0, 59), []);
});

test("whoever sends something, however slowly, is not given up", () => {
  assert.deepEqual(overAt(1000, 10_000), []);
});

test("what came makes patience as short as at first, a new attempt lets it begin anew", () => {
  const patience = new Patience(60_000, { now_ms: 0, bytes: 0 });
  assert.ok(patience.isOver(60_000, 0));
  assert.ok(!patience.isOver(179_999, 0));
  patience.begin(179_999, 0);
  assert.ok(!patience.isOver(299_998, 0));
  assert.ok(!patience.isOver(300_000, 10_000_000));
  assert.ok(!patience.isOver(359_999, 10_000_000));
  assert.ok(patience.isOver(360_000, 10_000_000));
});
