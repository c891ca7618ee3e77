import assert from "node:assert/strict";
import { test } from "node:test";
import type { Offer, World } from "#core";
import { realWorld } from "#system";
import { twoClouds } from "./clouds.suite.ts";
import { call } from "./handlers/call.suite.ts";
import { LoadWatch, usedSeconds } from "./loads.ts";

/** A process's statistics with a name that tries to confuse. */
const stat = (user: number, system: number): string =>
  `7 (a) b) R 1 2 3 4 5 6 7 8 9 10 ${user} ${system} 0 0 20 0`;

const identity = { pid: 7, startTicks: 1, bootId: "boot" };

/** A world whose clock and process statistics are set by hand. */
function handMade() {
  const state = { now_ms: 0, stat: stat(0, 0) as string | undefined };
  const { clock, files, ...rest } = realWorld();
  const world: World = {
    ...rest,
    clock: { ...clock, monotonic: () => state.now_ms },
    files: {
      ...files,
      readFile: () =>
        state.stat === undefined
          ? Promise.reject(new Error("gone"))
          : Promise.resolve(Buffer.from(state.stat)),
    },
  };
  return { state, world };
}

test("user and system time are told, whatever the program is called", () => {
  assert.equal(usedSeconds(stat(150, 50)), 2);
  assert.equal(usedSeconds("7 (qemu"), undefined);
});

test("load is what machines used between two observations", async () => {
  const { state, world } = handMade();
  const running = [{ uuid: "m", identity }];
  const watch = new LoadWatch({ world, cpus: 4, running: () => running, offers: () => [] });
  await watch.sample();
  assert.deepEqual([watch.guest("m"), watch.load], [undefined, 0]);
  state.now_ms = 10_000;
  state.stat = stat(900, 600);
  await watch.sample();
  assert.equal(watch.guest("m")?.cpus, 1.5);
  assert.equal(watch.load, 1.5 / 4);
  state.stat = undefined;
  await watch.sample();
  assert.deepEqual([watch.guest("m"), watch.load], [undefined, 0]);
});

test("another cloud's trend is told from its offers, and only where it tells its load", async () => {
  const { world } = handMade();
  const offer = { cloud: "x", cpus: 8, load: 0.5 } as Offer;
  const silent = { cloud: "y" } as Offer;
  const offers = [offer, silent];
  const watch = new LoadWatch({ world, cpus: 4, running: () => [], offers: () => offers });
  for (let round = 0; round < 3; round += 1) await watch.sample();
  assert.deepEqual([watch.other(offer)?.capacity, watch.other(offer)?.trend.samples], [8, 3]);
  assert.equal(watch.other(silent), undefined);
});

test("advice names every running machine, and says why those that are too new stay", async (t) => {
  const [messina] = (await twoClouds(t)).clouds;
  const uuid = await messina.machine();
  for (const policy of ["selective", "threshold", "least-loaded", "none"] as const) {
    const advice = await call(messina, "advice.make", { policy });
    assert.equal(advice.policy, policy);
    assert.equal(advice.sends, false);
    assert.deepEqual(
      advice.machines.map(({ machine, to }) => [machine, to]),
      [[uuid, undefined]],
    );
  }
});

test("a machine that fills its cloud is advised to leave, with what it would take", async (t) => {
  const [messina] = (await twoClouds(t)).clouds;
  const uuid = await messina.machine();
  const { loads } = messina.parts;
  const busy = {
    here: () => ({ ...loads.here(), load: 0.95 }),
    guest: () => ({ cpus: 4, trend: loads.here().trend }),
    other: (offer: Offer) => loads.other(offer),
  };
  const advice = await call(messina, "advice.make", { policy: "threshold" }, { loads: busy });
  assert.deepEqual([advice.sends, advice.load], [true, 0.95]);
  const [first] = advice.machines;
  assert.deepEqual([first?.machine, first?.to], [uuid, "inquadro"]);
  assert.ok((first?.verdict?.bytes ?? 0) > 0 && first?.verdict?.passes === true);
  assert.match(first?.reasons.join() ?? "", /to move in/);
});
