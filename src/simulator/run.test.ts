import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Plan } from "#core";
import { DESTINATION, HOT_DESTINATION, HOT_SOURCE, SOURCE } from "#migration";
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

/** The pair, where 1,000,000 bytes of memory move while the machine runs. */
function hotPair(hot: string, machines: string): { result: RunResult; plan: Plan } {
  const text = PAIR.replace("POLICY", `{ hot: ${hot} }`)
    .replace("HOLDS", "holds: []")
    .replace("machines:", `machines:\n  memory: 1000000\n  writes: 100\n  ${machines}`);
  let plan: Plan | undefined;
  const [result] = runAll(scenarioOf(text), { onPhase: (course) => (plan = course.plan) });
  assert.ok(result !== undefined && plan !== undefined);
  return { result, plan };
}

const CALM = "dirty: { median: 0, sigma: 0 }";
const BUSY = "dirty: { median: 1000000, sigma: 0, within: 200000 }";

/** Over the pair's link. */
const bytes_s = (bytes: number): number => (bytes * 1.005 * 8) / 8000;

test("the time of one hot migration is the sum of its parts", () => {
  const { result, plan } = hotPair("auto", CALM);
  const { named, totals } = result;
  const components_s = 6 + bytes_s(500_000);
  const ahead_s = 1 + bytes_s(500_000) + 3;
  // A tenth of the memory's size, by the real outlook.
  const memory_s = bytes_s(100_000);
  const written = Math.ceil(100 * (ahead_s + 0.5 + memory_s));
  const fill_s = 1 + bytes_s(written);
  const before_s = 1.5 + components_s + 2 + ahead_s + 0.5 + memory_s;
  close(named[0]?.seconds, before_s + 1.5 + fill_s);
  // Nothing but the messages: switching, armed, handed over.
  close(named[0]?.downtime_s, 1.5);
  close(totals.memoryBytes, 100_500);
  close(totals.userDataBytes, 1.005 * (500_000 + written));
  assert.equal(plan.mode, "hot");
  assert.equal(plan.hot?.forecast?.wireBytes, 100_000);
});

test("the memory of a guest that writes takes what the real strategy forecasts", () => {
  const { result, plan } = hotPair("auto", "dirty: { median: 1000, sigma: 0, within: 20000 }");
  const { wireBytes = 0, pause_ms = 0, passes } = plan.hot?.forecast ?? {};
  assert.ok(wireBytes > 104_000 && (passes ?? 0) > 1, `${wireBytes} in ${passes}`);
  const { totals, named } = result;
  assert.ok(Math.abs(totals.memoryBytes / 1.005 / wireBytes - 1) < 0.02, `${totals.memoryBytes}`);
  const [migration] = named;
  // The forecast knows no round trips, of which there are one and a half here.
  const besides_s = (migration?.downtime_s ?? 0) - pause_ms / 1000;
  assert.ok(besides_s > 0 && besides_s < 1.5, `${besides_s}`);
});

test("memory that outruns the link is given up, or follows the machine", () => {
  const bound = `${BUSY}\n  downtimeMax: 1s`;
  const { result: given, plan } = hotPair("auto", bound);
  assert.deepEqual([given.totals.givenUp, given.totals.aborted], [1, 1]);
  assert.equal(plan.hot?.forecast?.method, "none");
  const { result: follows } = hotPair("postcopy", bound);
  assert.deepEqual([follows.totals.givenUp, follows.totals.migrations], [0, 1]);
  close(follows.named[0]?.downtime_s, 1.5);
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

for (const name of ["small", "hot"]) {
  test(`${name}.yaml gives what it gave before`, () => {
    const read = (ending: string): string =>
      readFileSync(join(EXAMPLES, `scenarios/${name}.${ending}`), "utf8");
    const results = runAll(parseScenario(read("yaml"), `${name}.yaml`));
    const told = results.map(({ policy, events, totals }) => {
      return { policy: policy.name, events, totals };
    });
    assert.deepEqual(told, JSON.parse(read("expected.json")));
  });
}

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

/** Which phases follow one another, by the tables of a mode. */
type Graph = Readonly<Record<string, Readonly<Record<string, string>>>>;

/** Runs it, holds every step against the tables, and tells which phases were visited. */
function walk(scenario: Scenario, source: Graph, destination: Graph) {
  const last = new Map<object, { source: string; destination: string | undefined }>();
  const seen = new Set<string>();
  const results = runAll(scenario, {
    onPhase: (course) => {
      const before = last.get(course) ?? { source: "proposed", destination: undefined };
      const now = { source: course.source, destination: course.destination };
      if (now.source !== before.source) {
        const next = Object.values(source[before.source] ?? {});
        assert.ok(next.includes(now.source), `source: ${before.source} -> ${now.source}`);
        seen.add(now.source);
      }
      if (now.destination !== undefined && now.destination !== before.destination) {
        const from = before.destination;
        const next = from === undefined ? ["accepted"] : Object.values(destination[from] ?? {});
        assert.ok(next.includes(now.destination), `destination: ${from} -> ${now.destination}`);
        seen.add(now.destination);
      }
      last.set(course, now);
    },
  });
  return { results, seen };
}

/** Operators' acts; the machine is put back where a destination is fenced. */
const OPERATORS = ["proposed", "fencing", "fenced"];
/** No simulated migration is warm. */
const WARM = "replicating";

test("every transition of every simulated migration is one of the real tables", () => {
  const { results, seen } = walk(scenarioOf(STORMY), SOURCE, DESTINATION);
  // Failures take both ways, so nothing of the tables but operators' acts is left out.
  const all = [...Object.keys(SOURCE), ...Object.keys(DESTINATION)];
  assert.deepEqual(new Set([...seen, ...OPERATORS, WARM]), new Set(all));
  for (const { totals, policy } of results) {
    assert.ok(totals.migrations > 500, `${policy.name}: ${totals.migrations}`);
    assert.ok(totals.aborted > 0, policy.name);
  }
});

test("hot migrations go by the real tables of hot ones, whatever fails", () => {
  const text = STORMY.slice(0, STORMY.indexOf("policies:"))
    .replace("failEvery: 6h", "failEvery: 90min")
    .replace("count: 1500", "count: 900")
    .replace("machines:", "machines:\n  dirty: { median: 2M, sigma: 2 }\n  downtimeMax: 2s");
  const policies = "policies: [{ hot: auto }, { hot: postcopy, transfer: cic-nearest }]";
  const scenario = scenarioOf(text + policies);
  const { results, seen } = walk(scenario, HOT_SOURCE, HOT_DESTINATION);
  const all = [...Object.keys(HOT_SOURCE), ...Object.keys(HOT_DESTINATION)];
  assert.deepEqual(new Set([...seen, ...OPERATORS]), new Set(all));
  const [auto, post] = results.map(({ totals }) => totals);
  for (const totals of [auto, post]) assert.ok((totals?.migrations ?? 0) > 300);
  assert.ok((auto?.givenUp ?? 0) > 0 && (auto?.aborted ?? 0) > (auto?.givenUp ?? 0));
  // Memory that follows needs no bound of the pause.
  assert.equal(post?.givenUp, 0);
  assert.ok((post?.memoryBytes ?? 0) > 0);
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
