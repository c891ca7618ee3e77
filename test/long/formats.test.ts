/** A real machine that goes through all formats, one after the other, and back to raw. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { DISK_FORMATS } from "#core";
import { startFederation } from "../support/federation.ts";
import { startJourney } from "../support/journey.ts";

test("a guest boots from each format, with all that it had written before", async (t) => {
  const federation = await startFederation();
  t.after(() => federation.close());
  const journey = await startJourney(federation);
  try {
    for (const format of [...DISK_FORMATS.toReversed(), "vmdk"] as const) {
      const mode = format === "vdi" || format === "raw" ? "warm" : "cold";
      const id = await journey.depart({ format, mode });
      assert.ok(id !== undefined);
      assert.equal(await journey.settle(id), "completed", format);
      await journey.assertWhole(id, "completed");
      const directory = join(journey.home.root, "machines", journey.uuid);
      const file = format === "raw" ? "data.raw" : `disk.${format}`;
      assert.ok(existsSync(join(directory, file)), file);
      const kept = join(journey.away.root, "machines", journey.uuid, "data.raw");
      assert.ok(existsSync(kept), "the copy that stays is raw");
    }
    /* Raw again, it can move while it runs. */
    const id = await journey.depart({ format: "raw" });
    assert.ok(id !== undefined);
    assert.equal(await journey.settle(id), "completed");
    const hot = await journey.depart({ mode: "hot" });
    assert.ok(hot !== undefined);
    assert.equal(await journey.settle(hot), "completed");
    await journey.assertWhole(hot, "completed");
  } catch (error) {
    for (const cloud of [federation.a, federation.b]) t.diagnostic(`${cloud.name}\n${cloud.log()}`);
    throw error;
  }
});
