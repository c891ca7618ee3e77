/** Several machines leave two clouds' federation together: real repositories, one plan. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { twoClouds } from "../clouds.suite.ts";
import { createHandlers } from "../handlers/index.ts";

const context = { progress: () => undefined, signal: new AbortController().signal };

test("machines share one plan: what two need is counted once", async (t) => {
  const { clouds } = await twoClouds(t);
  const [messina] = clouds;
  const uuids = [await messina.machine("web-1", { stopped: true })];
  await messina.machine("web-2", { stopped: true });
  await messina.machine("data-1", { programs: ["data"], stopped: true });
  const handlers = createHandlers(messina.parts);
  const fleet = await handlers["plan.fleet"](
    { machines: ["web-1", uuids[0] ?? "", "web-2", "data-1"], to: "inquadro" },
    context,
  );
  assert.deepEqual(
    fleet.machines.map(({ machineName }) => machineName),
    ["web-1", "web-2", "data-1"],
  );
  const [first, second, third] = fleet.machines.map(({ plan }) => plan);
  assert.ok(first !== undefined && second !== undefined && third !== undefined);
  assert.ok(first.components.every(({ comesWith, bytes }) => comesWith === undefined && bytes > 0));
  assert.ok(
    second.components.every(({ comesWith, bytes }) => comesWith === uuids[0] && bytes === 0),
  );
  assert.deepEqual(
    third.components.map(({ comesWith }) => comesWith),
    [uuids[0], uuids[0], undefined],
  );
  assert.ok(fleet.sharedBytes > 0);
  assert.equal(fleet.totalBytes, first.totalBytes + second.totalBytes + third.totalBytes);
});

test("a cloud is emptied as far as there is room, and each that stays has its reason", async (t) => {
  const config = { resources: { cpus: 2, memory: 2 ** 33 } };
  const held = ["kernel", "os", "web"];
  const { clouds } = await twoClouds(t, { config, held });
  const [messina] = clouds;
  for (const name of ["a-1", "b-1", "c-1"]) await messina.machine(name, { stopped: true });
  const handlers = createHandlers(messina.parts);
  const { machines } = await handlers["plan.fleet"]({}, context);
  assert.deepEqual(
    machines.map(({ machineName, plan, error }) => [machineName, plan?.destination ?? error?.code]),
    [
      ["a-1", "inquadro"],
      ["b-1", "inquadro"],
      ["c-1", "migration.no-destination"],
    ],
  );
  // The destination would take each alone; together they are too many.
  const named = await handlers["plan.fleet"](
    { machines: ["c-1", "b-1", "a-1"], to: "inquadro" },
    context,
  );
  assert.deepEqual(
    named.machines.map(({ error }) => error?.code),
    [undefined, undefined, "migration.refused"],
  );
  await assert.rejects(handlers["plan.fleet"]({ machines: ["nobody"] }, context), /nobody/);
});
