import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { test } from "node:test";
import { hasCode } from "#core";
import { parseSweep, sweepCsv, sweepRuns } from "./index.ts";
import { sampleResult } from "./results.suite.ts";

const EXAMPLES = resolve(import.meta.dirname, "../../examples/scenarios");
const small = readFileSync(resolve(EXAMPLES, "small.yaml"), "utf8");

const invalid = (error: unknown): boolean => hasCode(error, "simulator.sweep-invalid");

test("every combination is run under every policy and seed, each with a key of its own", () => {
  const text = readFileSync(resolve(EXAMPLES, "zipf.sweep.yaml"), "utf8");
  const runs = sweepRuns(parseSweep(text, "zipf.sweep.yaml"), small);
  assert.equal(runs.length, 3 * 2 * 2 * 2);
  assert.equal(new Set(runs.map(({ key }) => key)).size, runs.length);
  const [first] = runs;
  assert.deepEqual(first?.values, { "catalogue.zipf": 0.6, "clouds.0.repository.capacity": "2G" });
  assert.match(first?.text ?? "", /zipf: 0\.6/);
  assert.match(first?.text ?? "", /capacity: 2G/);
});

const of = (fileName: string) =>
  sweepRuns(parseSweep("{scenario: small.yaml, vary: {duration: [1h]}}", fileName), small);

test("equal runs have equal keys, whatever file they are from", () => {
  assert.deepEqual(of("one"), of("other"));
});

test("a sweep that cannot be is refused by name, before anything runs", () => {
  for (const text of [
    "scenario: [",
    "{scenario: small.yaml}",
    "{scenario: small.yaml, vary: {duration: []}}",
    "{scenario: small.yaml, vary: {'a b': [1]}}",
    "{scenario: small.yaml, vary: {}, seeds: [-1]}",
    "{scenario: small.yaml, vary: {}, other: 1}",
  ]) {
    assert.throws(() => parseSweep(text, "s.yaml"), invalid, text);
  }
  const many = { scenario: "small.yaml", vary: {}, seeds: [] as number[] };
  const vary = Object.fromEntries(
    ["a", "b", "c"].map((name) => [name, Array.from({ length: 100 }, (_none, each) => each)]),
  );
  assert.throws(() => sweepRuns({ ...many, vary, seeds: [1] }, small), invalid);
  const scalar = parseSweep("{scenario: small.yaml, vary: {name.first: [1]}}", "s.yaml");
  assert.throws(() => sweepRuns(scalar, small), invalid);
  const negative = parseSweep("{scenario: small.yaml, vary: {machines.count: [-1]}}", "s.yaml");
  assert.throws(
    () => sweepRuns(negative, small),
    (error) => hasCode(error, "simulator.scenario-invalid"),
  );
});

test("the table has what was varied beside what came out", () => {
  const [run] = sweepRuns(parseSweep("{scenario: small.yaml, vary: {duration: [2h]}}", "s"), small);
  assert.ok(run !== undefined);
  const [head, line] = sweepCsv([{ run, result: sampleResult("monolithic", 4e8) }]).split("\r\n");
  assert.equal(
    head,
    "duration,seed,policy,migrations,moved_bytes,monolithic_bytes,hit_ratio,money,median_s",
  );
  assert.equal(line, "2h,1,monolithic,240,96000000000,96000000000,0.9,12.5,36");
  assert.equal(sweepCsv([]).split("\r\n").length, 2);
});
