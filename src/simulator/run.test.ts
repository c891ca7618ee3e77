import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { DESTINATION, SOURCE } from "#migration";
import type { RunResult, Scenario } from "./contract.ts";
import type { RunOptions } from "./run.ts";
import { Run } from "./run.ts";
import { parseScenario } from "./scenario.ts";

const EXAMPLES = join(import.meta.dirname, "../../examples");

function runAll(scenario: Scenario, options: RunOptions = {}): RunResult[] {
  return scenario.policies.map((policy) => {
    const run = new Run(scenario, policy, options);
    while (run.advance(10_000));
    return run.result();
  });
}

function scenarioOf(text: string, seed?: number): Scenario {
  return parseScenario(text, "test.yaml", seed);
}

/** Two clouds, one machine of 1,000 kB of components and 500 kB of user data, round trips of 1 s. */
const PAIR = `
name: pair
duration: 1h
network: { roundTrip: 1s }
catalogue:
  components:
    - { name: k, kind: kernel, size: 200000, ratio: 0.5 }
    - { name: o, kind: os, size: 800000, ratio: 0.5 }
  named: [{ name: a, components: [k, o] }]
clouds:
  - { name: here, uplink: 8kbit/s, egressPricePerGB: 2 }
  - { name: there, uplink: 80kbit/s, HOLDS }
machines:
  userData: { ratio: 1 }
  stop: 10s
  compose: 2s
  start: 3s
  boot: 20s
  named: [{ name: m, cloud: here, appliance: a, userData: 500000 }]
migrations: { named: [{ machine: m, to: there, at: 100s }] }
policies: [POLICY]
`;

const pair = (policy: string, holds = "holds: []"): RunResult => {
  const text = PAIR.replace("POLICY", policy).replace("HOLDS", holds);
  const [result] = runAll(scenarioOf(text));
  assert.ok(result);
  return result;
};

const close = (actual: number | null | undefined, expected: number): void => {
  assert.ok(Math.abs((actual ?? Number.NaN) - expected) < 1e-6, `${actual} is not ${expected}`);
};

test("the time of one migration is the sum of its parts", () => {
  const { named, totals } = pair("{ transfer: cic }");
  // 1.5 round trips to propose; half ones for prepared, frozen, received, handed over.
  const messages_s = 1.5 + 4 * 0.5;
  const components_s = 6 + (500_000 * 1.005 * 8) / 8000;
  const userData_s = 1 + (500_000 * 1.005 * 8) / 8000;
  close(named[0]?.seconds, messages_s + components_s + 2 + 10 + userData_s + 3 + 20);
  close(named[0]?.downtime_s, 0.5 + userData_s + 0.5 + 0.5 + 3);
  assert.equal(named[0]?.case, "worst");
  close(totals.movedBytes, 1_005_000);
  close(totals.money, (1_005_000 / 1e9) * 2);
});

test("a monolithic block moves whole while the machine is off", () => {
  const { named, totals } = pair("{ transfer: monolithic }", "holds: [k, o]");
  close(named[0]?.downtime_s, 1.5 + 1 + (1_000_000 * 1.005 * 8) / 8000 + 3);
  close(totals.movedBytes, 1_005_000);
  assert.deepEqual(totals.cases, { worst: 1, average: 0, best: 0 });
});

test("what the destination holds does not move", () => {
  const { named, totals } = pair("{ transfer: cic }", "holds: [k, o]");
  assert.equal(named[0]?.case, "best");
  close(totals.movedBytes, 502_500);
  assert.equal(totals.hitRatio, 1);
});

test("the paper's VM1, VM2 and VM3 miss 4, 0 and 2 components", () => {
  const text = readFileSync(join(EXAMPLES, "scenarios/paper.yaml"), "utf8");
  const expected = JSON.parse(
    readFileSync(join(EXAMPLES, "scenarios/paper.expected.json"), "utf8"),
  ) as unknown;
  const results = runAll(parseScenario(text, "paper.yaml"));
  assert.deepEqual(
    JSON.parse(
      JSON.stringify(
        results.map(({ policy, named }) => {
          return { policy: policy.name, named };
        }),
      ),
    ),
    expected,
  );
  const missing = results[1]?.named.map((one) => one.missing.length);
  assert.deepEqual(missing, [4, 0, 2]);
  assert.deepEqual(
    results[1]?.named.map((one) => one.case),
    ["worst", "best", "average"],
  );
});

test("three hundred clouds give what they gave before", () => {
  const scenario = parseScenario(readFileSync(join(EXAMPLES, "hundreds.yaml"), "utf8"), "x.yaml");
  const expected = JSON.parse(readFileSync(join(EXAMPLES, "hundreds.expected.json"), "utf8")) as {
    readonly policy: string;
  };
  const policies = scenario.policies.filter(({ name }) => name === expected.policy);
  const [result] = runAll({ ...scenario, policies });
  assert.ok(result);
  const { events, totals, hitRatioBound } = result;
  assert.deepEqual({ policy: "cic", events, totals, hitRatioBound }, expected);
  assert.ok(totals.hitRatio < (hitRatioBound ?? 0));
  assert.ok(totals.movedBytes < totals.monolithicBytes);
});

const STORMY = `
name: stormy
duration: 2d
network: { links: edge, rampUp: true }
catalogue: { profile: debian, programs: 40, appliances: 20, releaseEvery: 3d }
clouds:
  - name: a
    count: 6
    uplink: 100Mbit/s
    memory: 40G
    failEvery: 6h
    repair: 20min
    repository: { policy: lru, capacity: 2G }
  - { name: b, count: 3, uplink: 50Mbit/s, memory: 40G, egressPricePerGB: 0.1 }
  - { name: late, uplink: 50Mbit/s, memory: 40G, joins: 6h }
  - { name: brief, uplink: 50Mbit/s, memory: 40G, leaves: 1d }
machines:
  count: 100
  userData: { median: 50M }
  lifetime: 2d
  load: { changeEvery: 3h, daily: 0.5 }
migrations: { count: 1500, returns: 0.4 }
policies:
  - { transfer: monolithic }
  - { transfer: cic }
  - { transfer: cic-nearest, placement: agent }
  - { transfer: cic-prefetch, placement: selective }
`;

test("every transition of every simulated migration is one of the real tables", () => {
  const last = new Map<object, { source: string; destination: string | undefined }>();
  const seen = new Set<string>();
  const results = runAll(scenarioOf(STORMY), {
    onPhase: (course) => {
      const before = last.get(course) ?? { source: "proposed", destination: undefined };
      const { source, destination } = course;
      if (source !== before.source) {
        const next = Object.values(SOURCE[before.source as keyof typeof SOURCE]);
        assert.ok(next.includes(source), `source: ${before.source} -> ${source}`);
        seen.add(source);
      }
      if (destination !== undefined && destination !== before.destination) {
        const from = before.destination as keyof typeof DESTINATION | undefined;
        const next = from === undefined ? ["accepted"] : Object.values(DESTINATION[from]);
        assert.ok(next.includes(destination), `destination: ${from} -> ${destination}`);
        seen.add(destination);
      }
      last.set(course, { source, destination });
    },
  });
  // Failures take both ways, so nothing of the tables but operators' acts is left out.
  const operators = ["proposed", "fencing", "fenced"];
  const all = [...Object.keys(SOURCE), ...Object.keys(DESTINATION)];
  assert.deepEqual(new Set([...seen, ...operators]), new Set(all));
  for (const { totals, policy } of results) {
    assert.ok(totals.migrations > 500, `${policy.name}: ${totals.migrations}`);
    assert.ok(totals.aborted > 0, policy.name);
  }
});

test("a seed replays a run bit for bit; another seed gives another run", () => {
  const first = runAll(scenarioOf(STORMY));
  assert.deepEqual(runAll(scenarioOf(STORMY)), first);
  assert.notDeepEqual(runAll(scenarioOf(STORMY, 2))[0]?.totals, first[0]?.totals);
});

test("machines are never lost or doubled, and no room of a cloud leaks", () => {
  const scenario = scenarioOf(STORMY.replace(/ +failEvery.*\n/, "").replace("lifetime: 2d", ""));
  const [, result] = runAll(scenario);
  assert.equal(result?.machines, 100);
  const { totals, series, hitRatioBound } = result;
  const cases = totals.cases.worst + totals.cases.average + totals.cases.best;
  assert.equal(cases, totals.migrations);
  assert.equal(series.migrations.reduce((sum, count) => sum + count, 0) <= totals.migrations, true);
  assert.ok(totals.hitRatio <= (hitRatioBound ?? 0));
  assert.ok(totals.componentBytes + totals.userDataBytes < totals.monolithicBytes);
});

test("deltas move fewer bytes than whole components when versions are released", () => {
  const text = STORMY.slice(0, STORMY.indexOf("policies:"));
  const [cic, delta] = runAll(
    scenarioOf(`${text}policies: [{ transfer: cic }, { transfer: cic-delta }]`),
  );
  assert.ok((delta?.totals.componentBytes ?? 0) < 0.9 * (cic?.totals.componentBytes ?? 0));
});

test("a machine that comes back moves what it has written since", () => {
  const back = PAIR.replace("POLICY", "{ transfer: cic }")
    .replace("HOLDS", "holds: []")
    .replace("to: there, at: 100s }", "to: there, at: 100s }, { machine: m, to: here, at: 1500s }")
    .replace("machines:", "machines:\n  writes: 100");
  const [result] = runAll(scenarioOf(back));
  const [, home] = result?.named ?? [];
  assert.equal(home?.case, "best");
  // It left when it was handed over, about 1,020 s after the first request.
  const bytes = home?.movedBytes ?? 0;
  assert.ok(bytes > 100 * 300 && bytes < 100 * 500, `${bytes}`);
});
