/** Results as a run gives them, made by arithmetic, for tests of what is made of results. */
import type { RunResult } from "./contract.ts";

const POINTS = 24;

const column = (valueOf: (index: number) => number): number[] =>
  Array.from({ length: POINTS }, (_none, index) => valueOf(index + 1));

/** @param bytes on the wire for each migration */
export function sampleResult(name: string, bytes: number): RunResult {
  const migrations = 10 * POINTS;
  const share = (part: number): number[] => column(() => part);
  return {
    scenario: "sample",
    seed: 1,
    policy: { name, transfer: "cic", placement: "none", candidates: 2, round_s: 60 },
    clouds: 3,
    machines: 30,
    simulated_s: POINTS * 3600,
    events: 1000,
    totals: {
      migrations,
      aborted: 0,
      refused: 0,
      cases: { worst: 24, average: 96, best: 120 },
      movedBytes: migrations * bytes,
      componentBytes: (migrations * bytes) / 4,
      userDataBytes: (migrations * bytes * 3) / 4,
      prefetchBytes: 0,
      memoryBytes: 0,
      givenUp: 0,
      monolithicBytes: migrations * 4e8,
      requestedBytes: 1e10,
      hitBytes: 9e9,
      hitRatio: 0.9,
      money: 12.5,
    },
    hitRatioBound: null,
    series: {
      time_s: column((at) => at * 3600),
      migrations: share(10),
      cases: { worst: share(1), average: share(4), best: share(5) },
      movedBytes: column(() => 10 * bytes),
      hitRatio: Array.from({ length: POINTS }, (_none, at) => (at === 3 ? null : 0.5 + at / 100)),
      repositoryBytes: column((at) => at * 1e9),
      templateBytes: column((at) => at * 4e9),
      money: column((at) => at / 2),
      balance: share(0.875),
      active: share(3),
    },
    migrationTime: {
      count: migrations,
      mean: 40,
      values: column((at) => at * 3),
      fractions: column((at) => at / POINTS),
    },
    downtime: {
      count: migrations,
      mean: 4,
      values: column((at) => at / 3),
      fractions: column((at) => at / POINTS),
    },
    named: [],
  };
}
