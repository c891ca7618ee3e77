import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { LINK_PROFILES, linkMatrix, quantile } from "./index.ts";

/** Evenly spread fractions. */
function even(step: number): () => number {
  let at = 0;
  return () => (at = (at + step) % 1);
}

const sorted = (values: readonly number[]): number[] => values.toSorted((a, b) => a - b);
const at = (values: readonly number[], part: number): number =>
  sorted(values)[Math.floor(part * values.length)] ?? 0;

test("the quantiles are those that were measured", () => {
  const spread = { p10: 2, median: 4, p90: 12 };
  for (const [fraction, value] of [
    [0.1, 2],
    [0.5, 4],
    [0.9, 12],
  ] as const) {
    assert.ok(Math.abs(quantile(spread, fraction) - value) < 1e-12);
  }
});

test("rates and round trips between regions have the figures of the grid", () => {
  const { pairRates, pairRoundTrips_s } = linkMatrix("skyplane", 60, even(Math.SQRT2 - 1));
  const rates = pairRates.flat();
  for (const [part, rate] of [
    [0.1, 2.57e9],
    [0.5, 4.25e9],
    [0.9, 6.92e9],
  ] as const) {
    assert.ok(Math.abs(at(rates, part) / rate - 1) < 0.02, `${part}: ${at(rates, part)}`);
  }
  const upper = pairRoundTrips_s.flatMap((row, from) => row.slice(from));
  assert.ok(Math.abs(at(upper, 0.5) / 0.1565 - 1) < 0.05);
});

test("an edge site has one uplink for all, between 0.12 and 100 Mbit/s", () => {
  const { pairRates } = linkMatrix("edge", 40, even(0.3819));
  for (const row of pairRates) assert.equal(new Set(row).size, 1);
  const uplinks = pairRates.map(([rate = 0]) => rate);
  assert.ok(Math.min(...uplinks) >= 0.12e6 && Math.max(...uplinks) < 100e6);
  assert.ok(Math.min(...uplinks) < 0.3e6 && Math.max(...uplinks) > 40e6);
});

test("every matrix is square, positive, and alike in both directions in its round trips", () => {
  const fractions = fc.infiniteStream(
    fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
  );
  fc.assert(
    fc.property(
      fc.constantFrom(...LINK_PROFILES),
      fc.integer({ min: 0, max: 12 }),
      fractions,
      (profile, regions, draws) => {
        const matrix = linkMatrix(profile, regions, () => draws.next().value ?? 0);
        for (const rows of [matrix.pairRates, matrix.pairRoundTrips_s]) {
          assert.equal(rows.length, regions);
          for (const row of rows) assert.ok(row.length === regions && row.every((v) => v > 0));
        }
        for (const [from, row] of matrix.pairRoundTrips_s.entries()) {
          for (const [to, trip] of row.entries()) {
            assert.equal(trip, matrix.pairRoundTrips_s[to]?.[from]);
          }
        }
      },
    ),
  );
});
