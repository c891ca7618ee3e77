import assert from "node:assert/strict";
import { test } from "node:test";
import { twoClouds } from "./clouds.suite.ts";
import { Announcer, OFFER_LIFE_MS } from "./offers.ts";
import { silentLog } from "#system";
import { NO_FAULTS } from "./faults.ts";

test("an offer counts what runs and what is coming, each once; seq grows", async (t) => {
  const federation = await twoClouds(t);
  const [messina, inquadro] = federation.clouds;
  const free = await inquadro.parts.offer();
  assert.equal(free.cpusFree, 8);
  inquadro.hooks = { ...NO_FAULTS, holds: ({ phase }) => phase === "accepted" };
  const uuid = await messina.machine();
  const id = await messina.migrate(uuid, "inquadro");
  await inquadro.until(id, ({ phase }) => phase === "accepted");
  const promised = await inquadro.parts.offer();
  assert.equal(promised.cpusFree, 7);
  assert.equal(free.memoryFreeBytes - promised.memoryFreeBytes, 256 * 2 ** 20);
  assert.ok(promised.seq > free.seq && promised.expires_ms >= free.expires_ms);
  inquadro.hooks = NO_FAULTS;
  await messina.settled(id);
  await inquadro.settled(id);
  assert.equal((await inquadro.parts.offer()).cpusFree, 7);
  assert.equal((await messina.parts.offer()).cpusFree, 8);
});

test("others hear of a start within a moment", async (t) => {
  const [messina, inquadro] = (await twoClouds(t)).clouds;
  const heard = Promise.withResolvers<void>();
  const { transport } = inquadro.parts;
  transport.onPeers(() => {
    if (transport.peers()[0]?.offer?.cpusFree === 7) heard.resolve();
  });
  await messina.machine();
  await heard.promise;
});

test("changes are gathered, failures survived, and the offer repeated before it expires", async () => {
  const timers: { wait_ms: number; run: () => void }[] = [];
  const clock = {
    now: () => 0,
    monotonic: () => 0,
    sleep: () => Promise.resolve(),
    after: (wait_ms: number, run: () => void) => {
      const timer = { wait_ms, run };
      timers.push(timer);
      return () => void timers.splice(timers.indexOf(timer), 1);
    },
  };
  let announced = 0;
  const announcer = new Announcer({ clock, log: silentLog() });
  announcer.serve(() => {
    announced += 1;
    return announced === 2 ? Promise.reject(new Error("offline")) : Promise.resolve();
  });
  announcer.changed();
  assert.equal(timers.length, 0, "nothing before the start");
  announcer.start();
  await Promise.resolve();
  await Promise.resolve();
  assert.equal(announced, 1);
  for (let change = 0; change < 5; change += 1) announcer.changed();
  assert.equal(timers.length, 1);
  assert.ok((timers[0]?.wait_ms ?? 0) <= 1000);
  timers[0]?.run();
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(announced, 2);
  const repeat = timers.at(-1);
  assert.ok(repeat !== undefined && repeat.wait_ms < OFFER_LIFE_MS / 2);
  repeat.run();
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(announced, 3);
  announcer.stop();
  announcer.changed();
});
