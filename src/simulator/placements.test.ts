import assert from "node:assert/strict";
import { test } from "node:test";
import type { FederationView } from "./contract.ts";
import { PLACEMENTS } from "./index.ts";

const sums = (all: readonly (readonly number[])[]) =>
  Float64Array.from(all, (each) => each.reduce((sum, load) => sum + load, 0));

/** Clouds of 10 CPUs with the given loads of their machines. */
function viewOf(machines: readonly (readonly number[])[], before = machines): FederationView {
  const clouds = machines.length;
  const cloudOf = Int32Array.from(machines.flatMap((each, cloud) => each.map(() => cloud)));
  return {
    now_s: 0,
    clouds,
    machines: cloudOf.length,
    open: new Uint8Array(clouds).fill(1),
    load: sums(machines),
    loadBefore: sums(before),
    capacity: new Float64Array(clouds).fill(10),
    memoryFreeBytes: new Float64Array(clouds).fill(2 ** 34),
    egressPricePerGB: new Float64Array(clouds),
    uplink_bps: new Float64Array(clouds).fill(1e9),
    downlink_bps: new Float64Array(clouds).fill(1e9),
    cloudOf,
    machineLoad: Float64Array.from(machines.flat()),
    machineLoadBefore: Float64Array.from(before.flat()),
    machineMemoryBytes: 2 ** 30,
    machinesOf: (cloud) => [...cloudOf.keys()].filter((machine) => cloudOf[machine] === cloud),
    missingBytes: () => 1e8,
    userDataBytes: () => 1e8,
    downtime_s: () => 10,
    drawClouds: (count) => Array.from({ length: clouds }, (_none, cloud) => cloud).slice(0, count),
    random: () => 0,
  };
}

const rounds = { candidates: 5, round_s: 60 };

test("without placement nothing moves, and a machine that must go goes to the first candidate", () => {
  const policy = PLACEMENTS.none(rounds);
  const view = viewOf([[9], [1]]);
  const memory = policy.start(view);
  assert.deepEqual(policy.decide(view, memory).decisions, []);
  assert.equal(policy.choose(view, 0, [1, 0], memory), 1);
});

test("marks move the largest machine to the emptiest cloud, and not two to one that would be full", () => {
  const view = viewOf([[4, 3, 2], [1], [4, 3, 2], [6]]);
  const policy = PLACEMENTS.threshold(rounds);
  const { decisions } = policy.decide(view, policy.start(view));
  assert.deepEqual(decisions, [{ machine: 0, to: 1 }]);
});

test("the least loaded gets what the mean leaves over", () => {
  const view = viewOf([[4, 4], [1], [2]]);
  const policy = PLACEMENTS["least-loaded"](rounds);
  const { decisions } = policy.decide(view, policy.start(view));
  assert.deepEqual(decisions[0], { machine: 0, to: 1 });
});

test("a change of load moves the machine that made it, and a steady high load moves none", () => {
  const policy = PLACEMENTS.selective(rounds);
  const calm = viewOf([[4, 2, 1], [1]]);
  let memory = policy.start(calm);
  for (let round = 0; round < 30; round += 1) {
    const told = policy.decide(calm, memory);
    assert.deepEqual(told.decisions, []);
    memory = told.memory;
  }
  const risen = viewOf([[4, 2, 3], [1]], [[4, 2, 1], [1]]);
  assert.deepEqual(policy.decide(risen, memory).decisions, [{ machine: 2, to: 1 }]);
});

test("a cloud that is closed or has no memory takes nothing", () => {
  const view = viewOf([[4, 4], [1], [2]]);
  view.open[1] = 0;
  view.memoryFreeBytes[2] = 0;
  const policy = PLACEMENTS["least-loaded"](rounds);
  const memory = policy.start(view);
  assert.deepEqual(policy.decide(view, memory).decisions, []);
  assert.equal(policy.choose(view, 0, [1, 2], memory), undefined);
});
