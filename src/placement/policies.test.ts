import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import {
  chooseReceiver,
  guestsToSend,
  PLACEMENT_POLICIES,
  PLACEMENT_SETTINGS as SETTINGS,
  sampleOf,
  sends,
  startTrend,
  takes,
  weigh,
  type CloudLoad,
  type GuestLoad,
  type MoveCost,
} from "./index.ts";

const cloud = (load: number, change: Partial<CloudLoad["trend"]> = {}): CloudLoad => ({
  capacity: 10,
  load,
  trend: { ...startTrend(load), ...change },
});
const guest = (cpus: number, slope = 0): GuestLoad => ({
  cpus,
  trend: { ...startTrend(cpus), slope },
});
const FREE: MoveCost = {
  missingBytes: 0,
  userDataBytes: 1e9,
  bitsPerSecond: 1e9,
  egressPricePerGB: 0,
  downtime_s: 0,
};

const told = (load: CloudLoad) => PLACEMENT_POLICIES.filter((p) => sends(p, load, 0.5, SETTINGS));
const sum = (list: readonly GuestLoad[]) => list.reduce((total, { cpus }) => total + cpus, 0);

test("each policy has its own reason to send", () => {
  const rising = cloud(0.5, { change: "rising" });
  assert.deepEqual(told(cloud(0.55)), []);
  assert.deepEqual(told(cloud(0.7)), ["least-loaded"]);
  assert.deepEqual(told(cloud(0.9)), ["least-loaded", "threshold"]);
  assert.deepEqual(told(rising), ["selective"]);
});

test("marks are met with the largest machines and no more of them than needed", () => {
  const guests = [guest(1), guest(0.5), guest(2), guest(0)];
  const cpus = (policy: "threshold" | "least-loaded", load: number) =>
    guestsToSend(policy, cloud(load), guests, 0.5, SETTINGS).map((each) => each.cpus);
  assert.deepEqual(cpus("threshold", 0.85), [2]);
  assert.deepEqual(cpus("threshold", 0.95), [2, 1]);
  assert.deepEqual(cpus("least-loaded", 0.65), [2]);
});

test("without marks those go that made the load rise, not those that are large", () => {
  const guests = [guest(4), guest(1, 0.2), guest(0.5, 0.4), guest(2, -0.1)];
  const here = cloud(0.5, { change: "rising", slope: 0.06 });
  const going = guestsToSend("selective", here, guests, 0.5, SETTINGS);
  assert.deepEqual(going, [guests[2]]);
});

test("a receiver has the lowest projected trend, not the lowest load", () => {
  const receivers = [
    { name: "idle but rising", cloud: cloud(0.1, { slope: 0.05 }), cost: FREE },
    { name: "steady", cloud: cloud(0.3), cost: FREE },
  ];
  const here = cloud(0.9, { change: "rising" });
  const to = (policy: "selective" | "least-loaded") =>
    chooseReceiver(policy, here, guest(1), receivers, SETTINGS)?.to;
  assert.equal(to("selective"), "steady");
  assert.equal(to("least-loaded"), "idle but rising");
});

test("a machine that would cost more than it gains stays", () => {
  const dear = { ...FREE, missingBytes: 50e9, egressPricePerGB: 0.09 };
  const to = { name: "there", cloud: cloud(0.1), cost: dear };
  assert.equal(chooseReceiver("least-loaded", cloud(0.9), guest(1), [to], SETTINGS), undefined);
  const held = { ...to, cost: { ...dear, missingBytes: 0, userDataBytes: 1e8 } };
  assert.equal(
    chooseReceiver("least-loaded", cloud(0.9), guest(1), [to, held], SETTINGS)?.to,
    "there",
  );
});

test("of equal receivers the one that holds more is taken", () => {
  const receivers = [
    { name: "misses", cloud: cloud(0.2), cost: { ...FREE, missingBytes: 1e9 } },
    { name: "holds", cloud: cloud(0.2), cost: FREE },
  ].map((each) => ({ ...each, cost: { ...each.cost, egressPricePerGB: 0.001 } }));
  assert.equal(
    chooseReceiver("least-loaded", cloud(0.9), guest(1), receivers, SETTINGS)?.to,
    "holds",
  );
});

const share = fc.double({ min: 0, max: 1.2, noNaN: true });
const clouds = fc.record({ load: share, slope: fc.double({ min: -0.1, max: 0.1, noNaN: true }) });
const policies = fc.constantFrom(...PLACEMENT_POLICIES);

test("more bytes, money or downtime never make a move better", () => {
  const costs = fc.record({
    missingBytes: fc.integer({ min: 0, max: 1e11 }),
    egressPricePerGB: fc.double({ min: 0, max: 1, noNaN: true }),
    downtime_s: fc.integer({ min: 0, max: 1e5 }),
  });
  fc.assert(
    fc.property(share, share, costs, costs, (here, there, one, more) => {
      // Where nothing is to be gained a delay loses less, and the move is refused either way.
      const judge = (cost: Partial<MoveCost>) =>
        weigh(
          "least-loaded",
          cloud(Math.max(here, there + 0.2)),
          cloud(there),
          guest(1),
          { ...FREE, ...cost },
          SETTINGS,
        );
      const dearer = {
        missingBytes: one.missingBytes + more.missingBytes,
        egressPricePerGB: one.egressPricePerGB + more.egressPricePerGB,
        downtime_s: one.downtime_s + more.downtime_s,
      };
      const [cheap, dear] = [judge(one), judge(dearer)];
      assert.ok(cheap.gain - cheap.cost >= dear.gain - dear.cost - 1e-9);
      assert.equal(cheap.passes, cheap.gain > cheap.cost);
    }),
  );
});

test("what is chosen passes the gate, may be taken, and is the least loaded of those", () => {
  fc.assert(
    fc.property(policies, share, fc.array(clouds), (policy, load, list) => {
      const candidates = list.map((each, name) => ({
        name,
        cloud: cloud(each.load, { slope: each.slope }),
        cost: FREE,
      }));
      const here = cloud(load);
      const able = candidates.filter(
        (each) =>
          takes(policy, each.cloud, 1, SETTINGS) &&
          weigh(policy, here, each.cloud, guest(1), FREE, SETTINGS).passes,
      );
      const choice = chooseReceiver(policy, here, guest(1), candidates, SETTINGS);
      assert.equal(choice === undefined, able.length === 0);
      const least = Math.min(
        ...able.map((each) => weigh(policy, here, each.cloud, guest(1), FREE, SETTINGS).loadThere),
      );
      if (choice !== undefined) assert.equal(choice.verdict.loadThere, least);
      if (choice !== undefined) assert.ok(choice.verdict.loadThere < choice.verdict.loadHere);
    }),
  );
});

test("guests that are sent are enough, and one less would not be", () => {
  const guests = fc.array(fc.double({ min: 0, max: 4, noNaN: true }));
  fc.assert(
    fc.property(share, guests, (load, cpus) => {
      const all = cpus.map((each) => guest(each));
      const going = guestsToSend("threshold", cloud(load), all, 0, SETTINGS);
      const excess = (load - SETTINGS.low) * 10;
      assert.ok(sum(going) >= excess || going.length === all.filter((g) => g.cpus > 0).length);
      assert.ok(going.length === 0 || sum(going.slice(0, -1)) < excess);
    }),
  );
});

test("a sample has as many different members as are asked for, all alike likely", () => {
  const fractions = fc.infiniteStream(
    fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
  );
  const sizes = fc.integer({ min: 0, max: 50 });
  fc.assert(
    fc.property(sizes, sizes, fractions, (count, choices, draws) => {
      const sample = sampleOf(count, choices, () => draws.next().value ?? 0);
      assert.equal(new Set(sample).size, Math.min(count, choices));
      assert.ok(sample.every((each) => each >= 0 && each < count && Number.isInteger(each)));
    }),
  );
  const seen = new Map<number, number>();
  for (let one = 0; one < 60; one += 1) {
    for (let two = 0; two < 60; two += 1) {
      const draws = [(one + 0.5) / 60, (two + 0.5) / 60];
      for (const each of sampleOf(6, 2, () => draws.shift() ?? 0)) {
        seen.set(each, (seen.get(each) ?? 0) + 1);
      }
    }
  }
  assert.deepEqual(
    [...seen.values()],
    Array.from({ length: 6 }, () => 1200),
  );
});
