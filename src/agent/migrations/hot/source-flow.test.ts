import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { hasCode } from "#core";
import { realWorld } from "#system";
import { SourceFlow } from "./source-flow.ts";

/** A flow whose time is told by hand, or passes with every sleep. */
async function scene(context: TestContext) {
  const directory = await mkdtemp(join(tmpdir(), "flow-"));
  context.after(() => rm(directory, { recursive: true, force: true }));
  const time = { now_ms: 0 };
  const world = realWorld();
  const clock = {
    ...world.clock,
    monotonic: () => time.now_ms,
    sleep: async (ms: number) => {
      time.now_ms += ms;
      await new Promise((resolve) => setImmediate(resolve));
    },
  };
  const socketPath = join(directory, "out.sock");
  const flow = await SourceFlow.listen(
    { ...world, clock },
    {
      socketPath,
      components: { count: 0, pages: { find: () => Promise.resolve(undefined) } },
      conditions: () => ({ cores: 1 }),
    },
  );
  context.after(() => flow.close());
  return { flow, time, socketPath };
}

test("a cut is timed until a connection carries the tunnel again", async (context) => {
  const { flow, time } = await scene(context);
  time.now_ms = 1_000;
  assert.equal(flow.cut_ms, 0, "before the first connection nothing is cut");
  flow.tunnel.carried?.(true);
  flow.tunnel.carried?.(false);
  time.now_ms = 1_700;
  assert.equal(flow.cut_ms, 700);
  flow.tunnel.carried?.(true);
  time.now_ms = 9_000;
  assert.deepEqual([flow.cut_ms, flow.cuts_ms], [0, 700]);
  flow.tunnel.carried?.(false);
  time.now_ms = 9_300;
  assert.deepEqual([flow.cut_ms, flow.cuts_ms], [300, 1_000]);
});

test("a cut that lasts ends the flow, and so tells the hypervisor", async (context) => {
  const { flow, time, socketPath } = await scene(context);
  const hypervisor = connect(socketPath);
  const told = new Promise<void>((resolve) => hypervisor.once("close", () => resolve()));
  hypervisor.resume();
  await new Promise<void>((resolve) => hypervisor.once("connect", () => resolve()));
  flow.tunnel.carried?.(true);
  const watch = flow.endAfterCut(5_000, new AbortController().signal);
  while (time.now_ms < 20_000) await new Promise((resolve) => setImmediate(resolve));
  assert.ok(!flow.ended.aborted, "one that is carried lasts");
  const from_ms = time.now_ms;
  flow.tunnel.carried?.(false);
  await watch;
  assert.ok(time.now_ms > from_ms + 5_000);
  assert.ok(hasCode(flow.ended.reason, "transfer.link-lost"));
  await told;
});

test("who has left the flow ends it no more", async (context) => {
  const { flow } = await scene(context);
  flow.tunnel.carried?.(true);
  flow.tunnel.carried?.(false);
  const over = new AbortController();
  const watch = flow.endAfterCut(5_000, over.signal);
  over.abort();
  await watch;
  assert.ok(!flow.ended.aborted);
});
