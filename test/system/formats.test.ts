/** A real machine whose disk becomes VMDK by migrating: it boots from it, and goes on. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { startFederation } from "../support/federation.ts";
import { startJourney } from "../support/journey.ts";

test("a guest boots from a VMDK after its migration, with all that it had written", async (t) => {
  const federation = await startFederation();
  t.after(() => federation.close());
  const journey = await startJourney(federation);
  try {
    const id = await journey.depart({ format: "vmdk" });
    assert.ok(id !== undefined);
    assert.equal(await journey.settle(id), "completed");
    await journey.assertWhole(id, "completed");
    const directory = join(journey.home.root, "machines", journey.uuid);
    assert.ok(existsSync(join(directory, "disk.vmdk")) && !existsSync(join(directory, "data.raw")));
    const { format } = await journey.home.call("machine.show", { machine: journey.uuid });
    assert.equal(format, "vmdk");
  } catch (error) {
    for (const cloud of [federation.a, federation.b]) t.diagnostic(`${cloud.name}\n${cloud.log()}`);
    throw error;
  }
});
