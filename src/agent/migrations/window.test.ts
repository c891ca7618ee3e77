/** A machine that is to stop at a chosen time: all else moves before it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { realWorld } from "#system";
import { twoClouds } from "../clouds.suite.ts";
import { createHandlers } from "../handlers/index.ts";

const HOUR_MS = 3_600_000;
const context = { progress: () => undefined, signal: new AbortController().signal };

test("components travel at once, the machine stops at its time, across a restart", async (t) => {
  const { clouds, host } = await twoClouds(t, { held: ["kernel", "os"] });
  const [messina, inquadro] = clouds;
  const uuid = await messina.machine("web-1");
  const handlers = createHandlers(messina.parts);
  const at_ms = Date.now() + HOUR_MS;
  const input = { machine: uuid, to: "inquadro", at_ms };
  const { migration: id = "", plan } = await handlers["migration.start"](input, context);
  const time = new Date(at_ms).toISOString();
  assert.deepEqual(plan?.notes, [`all else moves at once; the machine stops at ${time}`]);
  await inquadro.until(id, ({ phase }) => phase === "prepared");
  const shown = await handlers["migration.show"]({ migration: id }, context);
  assert.equal(shown.state, "serving");
  assert.equal(shown.note, `the machine is not stopped before ${time}`);
  assert.equal(host.running.get(uuid), "messina");

  await messina.stop();
  const world = realWorld();
  const now = (): number => world.clock.now() + 2 * HOUR_MS;
  messina.world = { ...world, clock: { ...world.clock, now } };
  await messina.start();
  await Promise.all(clouds.map((cloud) => cloud.settled(id)));
  assert.equal(messina.record(id)?.phase, "completed");
  assert.equal(host.running.get(uuid), "inquadro");
  assert.deepEqual(host.doubled, []);
});

test("until its time a machine can be kept", async (t) => {
  const { clouds, host } = await twoClouds(t, { held: ["kernel", "os", "web"] });
  const [messina, inquadro] = clouds;
  const uuid = await messina.machine("web-1");
  const handlers = createHandlers(messina.parts);
  const input = { machine: uuid, to: "inquadro", at_ms: Date.now() + HOUR_MS };
  const { migration: id = "" } = await handlers["migration.start"](input, context);
  await inquadro.until(id, ({ phase }) => phase === "prepared");
  await messina.parts.migrations.cancel(id);
  await Promise.all(clouds.map((cloud) => cloud.settled(id)));
  assert.deepEqual(
    clouds.map((cloud) => cloud.record(id)?.phase),
    ["aborted", "aborted"],
  );
  assert.equal(host.running.get(uuid), "messina");
});
