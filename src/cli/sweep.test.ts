import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { test, type TestContext } from "node:test";
import { parseSweep, sweepRuns } from "#simulator";
import { runSweep } from "./sweep.ts";

const SMALL = readFileSync(
  resolve(import.meta.dirname, "../../examples/scenarios/small.yaml"),
  "utf8",
);
const RUNS = sweepRuns(
  parseSweep("{scenario: small.yaml, vary: {duration: [1h]}, seeds: [1, 2]}", "s"),
  SMALL,
);

function directoryOf(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "tessera-sweep-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

function sweep(directory: string, threads: number, interrupted = new AbortController().signal) {
  const told: number[] = [];
  const progress = (done: number): void => void told.push(done);
  return { told, results: runSweep(RUNS, { directory, threads, interrupted, progress }) };
}

test("results do not depend on the number of threads, and each run is kept", async (t) => {
  const [one, two] = [directoryOf(t), directoryOf(t)];
  const [alone, together] = [sweep(one, 1), sweep(two, 2)];
  assert.deepEqual(await alone.results, await together.results);
  assert.deepEqual(alone.told, [0, 1, 2, 3, 4]);
  assert.deepEqual(readdirSync(join(one, "runs")), readdirSync(join(two, "runs")));
  assert.equal(readdirSync(join(one, "runs")).length, RUNS.length);
});

test("a sweep goes on where it was: what is kept is not run again, what is damaged is", async (t) => {
  const directory = directoryOf(t);
  const before = await sweep(directory, 2).results;
  const again = sweep(directory, 2);
  assert.deepEqual(await again.results, before);
  assert.deepEqual(again.told, [4]);
  const [name = ""] = readdirSync(join(directory, "runs"));
  writeFileSync(join(directory, "runs", name), '{"format":"tessera-sweep-run/1","key":');
  const repaired = sweep(directory, 2);
  assert.deepEqual(await repaired.results, before);
  assert.deepEqual(repaired.told, [3, 4]);
});

test("an interrupted sweep keeps what was finished, and nothing half-written", async (t) => {
  const directory = directoryOf(t);
  const controller = new AbortController();
  const reason = new Error("interrupted");
  const progress = (done: number): void => {
    if (done === 2) controller.abort(reason);
  };
  const options = { directory, threads: 1, interrupted: controller.signal, progress };
  await assert.rejects(runSweep(RUNS, options), reason);
  const kept = readdirSync(join(directory, "runs"));
  assert.equal(kept.length, 2);
  for (const name of kept) JSON.parse(readFileSync(join(directory, "runs", name), "utf8"));
  const rest = sweep(directory, 1);
  assert.equal((await rest.results).length, RUNS.length);
  assert.equal(rest.told[0], 2);
});
