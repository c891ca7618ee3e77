import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { TesseraError } from "#core";
import { estimateMemory } from "./memory.ts";
import { Run } from "./run.ts";
import { parseScenario } from "./scenario.ts";

const GOOD = `name: good
duration: 1d
network:
  regions: [east, west]
  rates: [[1Gbit/s, 100Mbit/s], [50Mbit/s, 1Gbit/s]]
  roundTrips: [[1ms, 80ms], [80ms, 1ms]]
catalogue: { profile: debian, programs: 10, appliances: 5 }
clouds:
  - { name: a, region: east, uplink: 100Mbit/s, memory: 64G }
  - { name: b, region: west, count: 2, uplink: 50Mbit/s, memory: 64G }
machines: { count: 20 }
migrations: { count: 10 }
policies: [{ transfer: cic }]
`;

/** The message with `from` of the good scenario replaced by `to`. */
function fault(from: string, to: string): string {
  assert.ok(GOOD.includes(from), `the scenario has no "${from}"`);
  try {
    parseScenario(GOOD.replace(from, to), "x.yaml");
  } catch (error) {
    assert.ok(error instanceof TesseraError);
    assert.equal(error.code, "simulator.scenario-invalid");
    assert.ok(error.remedy);
    return error.message;
  }
  return "no fault";
}

const FAULTS: readonly (readonly [string, string, RegExp])[] = [
  ["duration: 1d", "duration: soon", /^x\.yaml:2:1: duration: must be a duration such as/],
  ["duration: 1d", "durations: 1d", /^x\.yaml:1:1: duration: is missing.*\(and 1 more\)$/],
  ["count: 20", "count: 0", /^x\.yaml:11:1: machines: must have either named machines or a count/],
  ["count: 20", "count: 20, memory: -1G", /^x\.yaml:11:24: machines\.memory: must be a size/],
  [
    "count: 20",
    "count: 1000000000",
    /^x\.yaml:11:13: machines\.count: must be a whole number from/,
  ],
  ["count: 20", "count: 5000", /^the clouds have memory for 192 machines, and there are 5000$/],
  ["cic }", "magic }", /^x\.yaml:13:14: policies\[0\]\.transfer: must be one of monolithic, cic/],
  ["cic }", "cic, placement: luck }", /placement: must be one of none, least-loaded, threshold/],
  [
    "50Mbit/s, 1Gbit/s]",
    "0Mbit/s, 1Gbit/s]",
    /^x\.yaml:5:34: network\.rates\[1\]\[0\]: must be a rate/,
  ],
  ["50Mbit/s, 1Gbit/s]", "50Mbit/s]", /network\.rates\[1\]: has 1 columns; it must have 2/],
  [", [50Mbit/s, 1Gbit/s]]", "]", /network\.rates: must have a row for each of the 2 regions/],
  ["[[1ms, 80ms]", "[[1ms, -80ms]", /network\.roundTrips\[0\]\[1\]: must be a duration/],
  ["[east, west]\n", "[east, west]\n  links: edge\n", /is given already by links: edge/],
  ["region: east", "region: north", /^x\.yaml:9:16: clouds\[0\]\.region: north is not among/],
  ["name: b", "name: a", /clouds\[1\]\.name: a is given twice/],
  [
    "profile: debian",
    "profile: debian, colour: red",
    /^x\.yaml:7:31: catalogue\.colour: unknown field/,
  ],
  ["uplink: 100Mbit/s", "uplink: fast", /clouds\[0\]\.uplink: must be a rate such as/],
  ["memory: 64G }", "repository: { policy: lru } }", /repository: needs a capacity, unless/],
  ["memory: 64G }", "holds: *all }", /x\.yaml:9:56: \*all: YAML aliases are not allowed/],
  [
    "transfer: cic",
    "transfer: monolithic, hot: auto",
    /policies\[0\]\.hot: a monolithic block moves while the machine is off/,
  ],
  ["name: good", "name: [", /^x\.yaml:\d+:\d+: \(syntax\): /],
];

test("a scenario without faults is taken", () => {
  const scenario = parseScenario(GOOD, "x.yaml");
  assert.deepEqual(scenario.network.pairRates, [
    [1e9, 1e8],
    [5e7, 1e9],
  ]);
  assert.deepEqual(scenario.network.pairRoundTrips_s, [
    [0.001, 0.08],
    [0.08, 0.001],
  ]);
  assert.equal(scenario.clouds[1]?.downlink_bps, 5e7);
  assert.equal(parseScenario(GOOD, "x.yaml", 42).seed, 42);
});

test("each fault is told with its line, its field and what is allowed", () => {
  for (const [from, to, expected] of FAULTS) assert.match(fault(from, to), expected);
});

test("names that nothing has are refused at their place", () => {
  const named = readFileSync(
    join(import.meta.dirname, "../../examples/scenarios/paper.yaml"),
    "utf8",
  );
  const cases = [
    ["appliance: vm3", "appliance: vm9", /appliance: vm9 is not among catalogue\.named/],
    ["machine: VM3, to: cloud-b", "machine: VM3, to: cloud-z", /to: cloud-z is no cloud/],
    ["machine: VM3, to", "machine: VM9, to", /machine: VM9 is not among machines\.named/],
    ["[A, B, G, F]", "[B, A, G, F]", /components\[0\]: B must be a component of kind kernel/],
    ["H, I, L]", "H, I, N]", /holds\[6\]: N is not in catalogue\.components/],
  ] as const;
  for (const [from, to, expected] of cases) {
    assert.ok(named.includes(from), from);
    assert.throws(() => parseScenario(named.replace(from, to), "x.yaml"), expected);
  }
});

test("a population that would exceed the memory is refused before anything is made of it", () => {
  const large = GOOD.replace("count: 20", "count: 9000000, memory: 4K").replace(
    "duration: 1d",
    "duration: 1d\nmemory: 500M",
  );
  assert.throws(() => parseScenario(large, "x.yaml"), {
    code: "simulator.memory-exceeded",
    message: /^the run would take about .* of memory, and .* are allowed$/,
  });
  const scenario = parseScenario(GOOD, "x.yaml");
  const tight = { ...scenario, memoryMaxBytes: 1e8 };
  const [policy] = tight.policies;
  assert.ok(policy);
  assert.ok(estimateMemory(tight, policy) > 1e8);
  assert.throws(() => new Run(tight, policy), { code: "simulator.memory-exceeded" });
});

test("the examples are valid", () => {
  for (const name of ["hundreds.yaml", "scenarios/paper.yaml"]) {
    const text = readFileSync(join(import.meta.dirname, "../../examples", name), "utf8");
    assert.ok(parseScenario(text, name).policies.length > 0);
  }
});
