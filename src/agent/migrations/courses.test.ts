import assert from "node:assert/strict";
import { test } from "node:test";
import { twoClouds } from "../clouds.suite.ts";

test("worst, average and best case", async (t) => {
  const { clouds, host } = await twoClouds(t);
  const [messina, inquadro] = clouds;
  const uuid = await messina.machine();
  const id = await messina.migrate(uuid, "inquadro");
  const a = await messina.settled(id);
  const b = await inquadro.settled(id);
  assert.equal(a.phase, "completed");
  assert.equal(b.phase, "completed");
  assert.deepEqual(host.doubled, []);
});
