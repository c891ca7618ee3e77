/**
 * `make bench-simulator`: how fast the simulator is, what it needs, how its cost grows with clouds and
 * with features, and how near its repositories are to theory. Writes `bench/results/simulator.json`.
 * Arguments name groups of rows; without them all are measured. Times are of the processor, all
 * threads of the process together: a run has one, beside those of the engine's collector.
 */
import { spawnSync } from "node:child_process";
import { join, resolve } from "node:path";
import {
  cheHitRatio,
  EventQueue,
  replayRequests,
  unlimitedHitRatio,
  type Replay,
} from "#simulator";
import { writePage } from "../page.ts";
import { mergeResults, rowOf, tellRow, type Row } from "../rows.ts";
import type { Took } from "./one.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const GIB = 2 ** 30;
const SECONDS_MAX = 60;
const EVENTS_PER_SECOND = 1e6;

interface Settings {
  readonly clouds: number;
  readonly machines: number;
  readonly migrations: number;
  readonly network?: string;
  readonly machine?: string;
  readonly cloud?: string;
  readonly policy?: string;
}

/** Thirty days of clouds with Debian's components, where versions are released and half of the migrations go back. */
function scenarioOf(settings: Settings): string {
  const { clouds, machines, migrations, network, machine, cloud, policy } = settings;
  // Room for twice the machines, of 1 GiB each.
  const memory = Math.ceil((2 * machines) / clouds);
  return `
name: bench
duration: 30d
memory: 8G
network: { links: skyplane${network ?? ""} }
catalogue: { profile: debian, programs: 300, appliances: 500, releaseEvery: 60d }
clouds: [{ name: cloud, region: one, count: ${clouds}, uplink: 1Gbit/s, memory: ${memory}G, egressPricePerGB: 0.09${cloud ?? ""} }]
machines: { count: ${machines}${machine ?? ""} }
migrations: { count: ${migrations}, returns: 0.5 }
policies: [{ transfer: ${policy ?? "cic-delta"} }]
`;
}

function measure(settings: Settings): Took {
  const { status, stdout } = spawnSync(process.execPath, [join(import.meta.dirname, "one.ts")], {
    cwd: ROOT,
    input: scenarioOf(settings),
    encoding: "utf8",
    stdio: ["pipe", "pipe", "inherit"],
    maxBuffer: 2 ** 20,
  });
  if (status !== 0) throw new Error(`the simulation ended with ${status}`);
  return JSON.parse(stdout) as Took;
}

const text = (value: number): string => value.toLocaleString("en");

/** A run that has a processor to itself takes no longer by the clock than processor time. */
function sharedWith({ wall_s, cpu_s }: Took): string {
  return wall_s > 1.2 * cpu_s ? " on a machine shared with other work" : "";
}

function scaleRows(clouds: number, machines: number, asked: boolean): Row[] {
  const migrations = 1_000_000;
  const took = measure({ clouds, machines, migrations });
  const size = `${text(clouds)} clouds, ${text(machines)} machines, ${text(took.migrations)} migrations in 30 days, cic-delta`;
  const how = `${size}: ${text(took.events)} events; processor time of all threads, in ${took.wall_s.toFixed(1)} s by the clock${sharedWith(took)}`;
  const memory = `${size}; peak resident set, estimated beforehand ${text(Math.round(took.estimatedBytes))}`;
  const target = asked ? "<= 1" : "none";
  return [
    rowOf(`sim-${clouds}-clouds-seconds`, {
      ours: took.cpu_s,
      peer: SECONDS_MAX,
      target,
      unit: "s",
      how,
    }),
    rowOf(`sim-${clouds}-clouds-bytes`, {
      ours: took.peakBytes,
      peer: 2 * GIB,
      target,
      unit: "bytes",
      how: memory,
    }),
  ];
}

/** The hold model: each event that comes sets the next one of its kind. */
function eventRow(): Row {
  const pending = 100_000;
  const events = 5_000_000;
  const queue = new EventQueue();
  for (let index = 0; index < pending; index += 1) queue.add(spread(index), 0, index);
  const begin = process.cpuUsage();
  for (let index = 0; index < events; index += 1) {
    queue.pop();
    queue.add(queue.now_s + spread(index), 0, queue.subject);
  }
  const { user, system } = process.cpuUsage(begin);
  const rate = events / ((user + system) / 1e6);
  const how = `event core alone: ${text(events)} events taken and set again, ${text(pending)} pending; peer: what was asked for`;
  return rowOf("sim-events-per-second", {
    ours: rate,
    peer: EVENTS_PER_SECOND,
    target: ">= 1",
    unit: "events/s",
    how,
  });
}

/** Spread over 0 to 1 without a pattern that a heap would like. */
function spread(index: number): number {
  return ((index * 2_654_435_761) % 2 ** 32) / 2 ** 32;
}

/** The least and the most that hit ratios so far are of theory's, after each tenth of the requests. */
function overTime({ tenths }: Replay, theory: (part: number) => number): string {
  let [asked, hit] = [0, 0];
  const ratios = tenths.map((tenth, index) => {
    asked += tenth.asked;
    hit += tenth.hit;
    return hit / asked / theory((index + 1) / tenths.length);
  });
  return `after each tenth ${Math.min(...ratios).toFixed(3)} to ${Math.max(...ratios).toFixed(3)} of it`;
}

function theoryRows(): Row[] {
  const settings = { components: 1000, zipf: 0.8, seed: 11 };
  const lru = replayRequests({
    ...settings,
    requests: 1_000_000,
    policy: "lru",
    capacityShare: 0.1,
  });
  const total = lru.sizes.reduce((sum, size) => sum + size, 0);
  const che = cheHitRatio(lru.p, lru.sizes, 0.1 * total);
  const requests = 20_000;
  const all = replayRequests({ ...settings, requests, policy: "unlimited", capacityShare: 1 });
  const closed = unlimitedHitRatio(all.p, all.sizes, requests);
  const common = { target: "0.98 to 1.02", unit: "hit ratio in bytes" };
  const model = "independent requests, 1,000 components of log-normal size, Zipf 0.8";
  return [
    rowOf("lru-vs-che", {
      ours: lru.hitRatio,
      peer: che,
      ...common,
      how: `LRU with a tenth of all bytes, ${model}, 500,000 requests once full; peer: Che's approximation; ${overTime(lru, () => che)}`,
    }),
    rowOf("unlimited-vs-closed-form", {
      ours: all.hitRatio,
      peer: closed,
      ...common,
      how: `unlimited, ${model}, the first ${text(requests)} requests; peer: the closed form; ${overTime(all, (part) => unlimitedHitRatio(all.p, all.sizes, requests * part))}`,
    }),
  ];
}

/** Processor time for each event, with as many machines and migrations for each cloud, or in all. */
function curveRows(): Row[] {
  const common = { machines: 100_000, migrations: 100_000 };
  const costs = [10, 100, 1000, 10_000].map((clouds) => {
    const took = measure({ ...common, clouds });
    return { clouds, cost: (took.cpu_s / took.events) * 1e6 };
  });
  const [first] = costs;
  return costs.map(({ clouds, cost }) =>
    rowOf(`sim-event-cost-${clouds}-clouds`, {
      ours: cost,
      peer: first?.cost ?? Number.NaN,
      target: clouds === 10 ? "none" : `<= ${Math.log10(clouds).toFixed(0)}`,
      unit: "us",
      how: `${text(clouds)} clouds, 100,000 machines, 100,000 migrations: processor time for each event, with what is made before the first; peer: 10 clouds; target: as log10 of the clouds`,
    }),
  );
}

const FEATURES: readonly (readonly [string, Partial<Settings>])[] = [
  ["ramp-up", { network: ", rampUp: true" }],
  ["load-changes", { machine: ", load: { changeEvery: 12h, daily: 0.5 }" }],
  ["lifetimes", { machine: ", lifetime: 15d" }],
  ["failures", { cloud: ", failEvery: 10d" }],
  ["lru", { cloud: ", repository: { policy: lru, capacity: 10G }" }],
  ["nearest", { policy: "cic-nearest" }],
  ["prefetch", { policy: "cic-prefetch" }],
  ["hot", { policy: "cic-delta, hot: auto" }],
  [
    "selective-placement",
    {
      policy: "cic-delta, placement: selective, round: 1h",
      machine: ", load: { changeEvery: 12h }",
    },
  ],
];

function featureRows(): Row[] {
  const common = { clouds: 300, machines: 10_000, migrations: 50_000 };
  const plain = measure(common);
  return FEATURES.map(([name, change]) => {
    const took = measure({ ...common, ...change });
    const how = `300 clouds, 10,000 machines, 50,000 migrations: processor time with the feature, ${text(took.events)} events; peer: without, ${text(plain.events)} events`;
    return rowOf(`sim-cost-${name}`, {
      ours: took.cpu_s,
      peer: plain.cpu_s,
      target: "none",
      unit: "s",
      how,
    });
  });
}

const GROUPS: Readonly<Record<string, () => Row[]>> = {
  events: () => [eventRow()],
  theory: theoryRows,
  thousand: () => scaleRows(1000, 100_000, true),
  "ten-thousand": () => scaleRows(10_000, 1_000_000, false),
  curve: curveRows,
  features: featureRows,
};

const asked = process.argv.slice(2);
for (const name of asked.length > 0 ? asked : Object.keys(GROUPS)) {
  const rows = GROUPS[name]?.();
  if (rows === undefined) throw new Error(`groups are ${Object.keys(GROUPS).join(", ")}`);
  for (const row of rows) tellRow(row);
  mergeResults("simulator", rows);
}
writePage();
