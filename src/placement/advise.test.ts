import assert from "node:assert/strict";
import { test } from "node:test";
import type { Appliance, Offer } from "#core";
import {
  advise,
  PLACEMENT_SETTINGS,
  startTrend,
  type CloudLoad,
  type Neighbour,
  type Resident,
  type Situation,
} from "./index.ts";

const appliance = {
  name: "web",
  digest: `sha256:${"f".repeat(64)}`,
  kernel: {
    id: `sha256:${"a".repeat(64)}`,
    kind: "kernel",
    name: "kernel",
    version: "1",
    sizeBytes: 40e6,
    manifest: { digest: `sha256:${"a".repeat(64)}`, sizeBytes: 1 },
  },
  os: {
    id: `sha256:${"b".repeat(64)}`,
    kind: "os",
    name: "os",
    version: "1",
    sizeBytes: 200e6,
    manifest: { digest: `sha256:${"b".repeat(64)}`, sizeBytes: 1 },
  },
  programs: [],
  resources: { cpus: 2, memoryBytes: 2 ** 30, dataBytes: 2 ** 30, ports: [] },
  serviceLevel: { clouds: [], regions: [], priority: 50, maySlowDown: false },
} as const satisfies Appliance;

const offer = (cloud: string, change: Partial<Offer> = {}): Offer => ({
  cloud,
  region: "",
  cpusFree: 8,
  memoryFreeBytes: 2 ** 34,
  storageFreeBytes: 2 ** 40,
  accelerators: [],
  cpuModels: [],
  formats: ["raw"],
  architectures: ["amd64"],
  egressPricePerGB: 0,
  receives: true,
  repository: { components: 0, heads: [], complete: true },
  seq: 1,
  expires_ms: 1000,
  ...change,
});

const load = (share: number): CloudLoad => ({
  capacity: 10,
  load: share,
  trend: startTrend(share),
});
const resident = (machine: string, cpus: number, slope = 0): Resident => ({
  machine,
  cpus,
  trend: { ...startTrend(cpus), slope },
  request: { appliance, allocatedBytes: 1e8, now_ms: 10 },
  downtime_s: () => 10,
});
const neighbour = (cloud: string, share: number, change: Partial<Offer> = {}): Neighbour => ({
  offer: offer(cloud, change),
  load: load(share),
});

function adviseFor(change: Partial<Situation>) {
  return advise(
    {
      policy: "least-loaded",
      here: load(0.9),
      egressPricePerGB: 0,
      residents: [resident("a", 2), resident("b", 2)],
      neighbours: [neighbour("x", 0.1), neighbour("y", 0.15)],
      linkRate: 1e9,
      ...change,
    },
    PLACEMENT_SETTINGS,
  );
}

test("each move counts as done for the next", () => {
  const { sends, machines } = adviseFor({});
  assert.equal(sends, true);
  assert.deepEqual(
    machines.map(({ machine, to }) => [machine, to]),
    [
      ["a", "x"],
      ["b", "y"],
    ],
  );
  assert.match(machines[0]?.reasons.join() ?? "", /load 90% here, 30% at x.*gain/);
});

test("a cloud that does not send tells why, and its machines stay", () => {
  const advised = adviseFor({ policy: "selective" });
  assert.equal(advised.sends, false);
  assert.match(advised.reason, /no change of load/);
  assert.ok(advised.machines.every(({ to }) => to === undefined));
});

test("a changed load sends the machine that rose", () => {
  const here = load(0.6);
  const rising = { ...here, trend: { ...here.trend, change: "rising", slope: 0.05 } as const };
  const residents = [resident("steady", 3), resident("grew", 1, 0.5)];
  const { machines } = adviseFor({ policy: "selective", here: rising, residents });
  const moved = machines.filter(({ to }) => to !== undefined);
  assert.deepEqual(
    moved.map(({ machine, to }) => [machine, to]),
    [["grew", "x"]],
  );
  assert.match(moved[0]?.reasons.join() ?? "", /100% of the rise/);
});

test("a machine without a place stays, and every cloud's reason is told", () => {
  const neighbours = [
    neighbour("small", 0.1, { cpusFree: 1 }),
    { offer: offer("silent") },
    neighbour("dear", 0.3),
  ];
  const { machines } = adviseFor({ neighbours, egressPricePerGB: 1000 });
  const [first] = machines;
  assert.equal(first?.to, undefined);
  const reasons = first?.reasons.join("\n") ?? "";
  assert.match(reasons, /small: has 1 of 2 CPUs free/);
  assert.match(reasons, /silent: does not tell its load/);
  assert.match(reasons, /dear: gain .* against cost/);
});
