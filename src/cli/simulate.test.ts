import assert from "node:assert/strict";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { TesseraError } from "#core";
import type { RunResult } from "#simulator";
import { run, withDirectory } from "./fixture.suite.ts";

const PAPER = resolve(import.meta.dirname, "../../examples/scenarios/paper.yaml");

test("simulate prints a row for each policy, and tells its progress apart", async () => {
  const { code, out, err } = await run(["simulate", PAPER]);
  assert.equal(code, 0, err);
  assert.match(out, /^monolithic .*\bcic /ms);
  assert.match(err, /^\{"progress":\{"policy":"monolithic","part":1,"events":\d+\}\}$/m);
});

test("simulate --json --policy gives the results of one policy, the same each time", async () => {
  const argv = ["simulate", PAPER, "--json", "--policy", "cic", "--seed", "5"];
  const { out } = await run(argv);
  const [result, ...rest] = JSON.parse(out) as RunResult[];
  assert.equal(rest.length, 0);
  assert.equal(result?.seed, 5);
  assert.deepEqual(
    result?.named.map(({ missing }) => missing.length),
    [4, 0, 2],
  );
  assert.equal((await run(argv)).out, out);
});

test("simulate --out writes results, series and a report", async () => {
  await withDirectory(async (directory) => {
    const { code } = await run(["simulate", PAPER, "--out", "out"], { directory });
    assert.equal(code, 0);
    const names = await readdir(join(directory, "out"));
    assert.deepEqual(names.toSorted(), ["report.html", "results.json", "series.csv"]);
    const results = JSON.parse(await readFile(join(directory, "out/results.json"), "utf8"));
    assert.equal((results as RunResult[]).length, 2);
  });
});

test("simulate refuses faults of the scenario and of its flags, and stops when interrupted", async () => {
  await withDirectory(async (directory) => {
    await writeFile(join(directory, "bad.yaml"), "name: bad\n");
    const bad = await run(["simulate", "bad.yaml"], { directory });
    assert.equal(bad.code, 2);
    assert.match(bad.err, /simulator\.scenario-invalid: bad\.yaml:1:1: /);
    assert.equal((await run(["simulate", "none.yaml"], { directory })).code, 4);
  });
  const unknown = await run(["simulate", PAPER, "--policy", "magic"]);
  assert.equal(unknown.code, 2);
  assert.match(unknown.err, /name one of monolithic, cic/);
  assert.equal((await run(["simulate", PAPER, "--seed", "-1"])).code, 2);
});

test("an interruption ends a simulation that goes on", async () => {
  const controller = new AbortController();
  const hundreds = resolve(import.meta.dirname, "../../examples/hundreds.yaml");
  const { code } = await run(["simulate", hundreds], {
    interrupted: controller.signal,
    // The first pause: the run is not over by then.
    sleep: () => {
      controller.abort(new TesseraError("environment", "cli.interrupted", "interrupted"));
      return Promise.reject(controller.signal.reason as Error);
    },
  });
  assert.equal(code, 130);
});
