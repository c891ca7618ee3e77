/** Hot migration between two QEMUs, with a real guest under TCG whose records and memory are checked. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { HotScene, livingEnds, move } from "../support/hot-scene.ts";

test("a guest moves by pre-copy, in parallel streams, by post-copy, and back", async (t) => {
  const scene = await HotScene.boot(t);
  for (const method of [
    {},
    { parallel: 2 },
    { postcopy: "plain" },
    { postcopy: "preempt" },
  ] as const) {
    const told = await move(scene, { method });
    assert.equal(told.outcome, "moved");
    await scene.progress();
    scene.checkRecords();
    assert.deepEqual(await livingEnds(scene), ["running"]);
    t.diagnostic(JSON.stringify({ ...method, ...told }));
  }
});
