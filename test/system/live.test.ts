/**
 * Machines that move between two clouds while they run: agents, hypervisors and guests are real. The
 * guest writes numbered records to its disk, each with fsync, and acknowledges them on its console.
 */
import assert from "node:assert/strict";
import { Scene, expectEnd } from "../support/fault-scene.ts";

const scene = new Scene();

scene.test("a machine moves while it runs, and back", async (journey, context) => {
  for (const storage of ["hybrid"] as const) {
    const boots = new Set(journey.acknowledged().map(({ boot }) => boot));
    assert.equal(boots.size, 1);
    const id = await journey.depart({ mode: "hot", storage });
    assert.ok(id !== undefined);
    await expectEnd(journey, id, "completed");
    const receipt = (await journey.show(journey.home, id))?.receipt?.receipt;
    context.diagnostic(JSON.stringify({ ...receipt, components: undefined }));
    assert.equal(receipt?.mode, "hot");
    const after = new Set(journey.acknowledged().map(({ boot }) => boot));
    assert.deepEqual(after, boots, "the guest has not been booted anew");
  }
});
