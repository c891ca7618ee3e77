import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { observe, projected, startTrend, type LoadTrend } from "./index.ts";

function after(loads: readonly number[]): LoadTrend[] {
  const [first = 0, ...rest] = loads;
  let trend = startTrend(first);
  return [trend, ...rest.map((load) => (trend = observe(trend, load)))];
}

/** A saw of ±0.02: noise without a change. */
const noise = (count: number, around: number): number[] =>
  Array.from({ length: count }, (_none, index) => around + ((index % 5) - 2) * 0.01);

test("noise around one load is no change", () => {
  assert.ok(after(noise(500, 0.6)).every(({ change }) => change === "none"));
});

test("a step upwards is told once, within a few observations, however low the load", () => {
  for (const base of [0.1, 0.6]) {
    const told = after([...noise(50, base), ...noise(50, base + 0.15)]).map(({ change }) => change);
    const at = told.indexOf("rising");
    assert.ok(at >= 50 && at < 56, `told at ${at}`);
    assert.equal(told.filter((change) => change !== "none").length, 1);
  }
});

test("a step downwards is a fall", () => {
  const changes = after([...noise(50, 0.6), ...noise(20, 0.4)]).map(({ change }) => change);
  assert.ok(changes.includes("falling") && !changes.includes("rising"));
});

test("a load that grows steadily is told again and again, and projected further", () => {
  const loads = Array.from({ length: 200 }, (_none, index) => 0.2 + index * 0.004);
  const trends = after([...noise(30, 0.2), ...loads]);
  assert.ok(trends.filter(({ change }) => change === "rising").length > 3);
  const last = trends.at(-1);
  assert.ok(last !== undefined && projected(last, 10) > last.level);
});

test("any loads leave finite, bounded trends", () => {
  const loads = fc.array(fc.double({ min: 0, max: 4, noNaN: true }), { minLength: 1 });
  fc.assert(
    fc.property(loads, (values) => {
      const [least, most] = [Math.min(...values), Math.max(...values)];
      for (const trend of after(values)) {
        assert.ok(trend.mean >= least - 1e-9 && trend.mean <= most + 1e-9);
        assert.ok(trend.rise >= 0 && trend.fall >= 0 && trend.deviation >= 0);
        assert.ok(Number.isFinite(projected(trend, 10)) && projected(trend, 10) >= 0);
      }
    }),
  );
});
