/** What QEMU is told, and what is done when it hangs: against a monitor that follows a script. */
import assert from "node:assert/strict";
import type { Socket } from "node:net";
import { dirname } from "node:path";
import { test, type TestContext } from "node:test";
import { hasCode } from "#core";
import { realWorld } from "#system";
import { layoutOf } from "../layout.ts";
import { agree, GREETING, monitor } from "../monitor.suite.ts";
import { HotSession } from "./session.ts";
import { QemuSource } from "./source.ts";

const world = realWorld();
const DESCRIPTION = {
  hypervisor: "qemu",
  version: "7.2.22",
  architecture: "amd64",
  machineType: "pc-q35-7.2",
  cpuModel: "Nehalem-v1",
  accelerator: "tcg",
  cpus: 1,
  ramBytes: 8192,
  devices: [],
  formats: ["raw"],
};

/** QEMU as far as a source sees it. */
class Script {
  status = "none";
  run = "running";
  blocked: string[] = [];
  jobs: unknown[] = [];
  /** The main loop: commands that are not out of band get no answer. */
  hanging = false;
  readonly refused: string[] = [];
  readonly commands: [name: string, args: unknown][] = [];

  answer(command: Record<string, unknown>, socket: Socket): string | undefined {
    const name = String(command["execute"] ?? command["exec-oob"]);
    const say = (value: unknown) => `${JSON.stringify({ return: value, id: command["id"] })}\n`;
    const become = (status: string): string => {
      this.status = status;
      const event = { event: "MIGRATION", data: { status } };
      return `${JSON.stringify({ ...event, timestamp: { seconds: 1, microseconds: 0 } })}\n`;
    };
    if (!name.startsWith("q")) this.commands.push([name, command["arguments"]]);
    if (this.refused.includes(name)) {
      return `${JSON.stringify({ error: { class: "GenericError", desc: "no" }, id: command["id"] })}\n`;
    }
    if (this.hanging && command["exec-oob"] === undefined) return undefined;
    if (name === "query-migrate") {
      return say({ status: this.status, "blocked-reasons": this.blocked });
    }
    if (name === "query-status") return say({ status: this.run });
    if (name === "query-block-jobs") return say(this.jobs);
    if (name === "cont") this.run = "running";
    if (name === "migrate") return become("setup") + say({});
    if (name === "migrate_cancel") return say({}) + become("cancelled");
    if (name === "yank") {
      this.hanging = false;
      return say({}) + become("failed");
    }
    return agree(command, socket);
  }
}

async function scene(t: TestContext) {
  const script = new Script();
  const answer = (command: Record<string, unknown>, socket: Socket) =>
    script.answer(command, socket);
  const layout = layoutOf(dirname(await monitor(t, GREETING, answer, "hot.sock")));
  const identity = { pid: 2 ** 22, startTicks: 1, bootId: "none" };
  const session = await HotSession.open(world, layout, identity);
  t.after(() => session.close());
  const parts = { world, layout, session, description: DESCRIPTION };
  return { script, source: new QemuSource({ ...parts, end: () => Promise.resolve() }) };
}

const fails =
  (code: string, text = "") =>
  (error: unknown) =>
    hasCode(error, code) && error.message.includes(text);

test("a migration is begun once, with the return path, without a limit of ours", async (t) => {
  const { script, source } = await scene(t);
  await source.emigrate({ socketPath: "/s" });
  await source.emigrate({ socketPath: "/s" });
  const names = script.commands.map(([name]) => name);
  assert.deepEqual(names, ["migrate-set-capabilities", "migrate-set-parameters", "migrate"]);
  const [, capabilities] = script.commands[0] ?? [];
  const on = (
    capabilities as { capabilities: { capability: string; state: boolean }[] }
  ).capabilities
    .filter(({ state }) => state)
    .map(({ capability }) => capability);
  const wanted = ["events", "return-path", "late-block-activate", "pause-before-switchover"];
  assert.deepEqual(on, wanted);
  const parameters = { "max-bandwidth": 2 ** 40, "downtime-limit": 300 };
  assert.deepEqual(script.commands[1]?.[1], parameters);
  assert.deepEqual(script.commands[2]?.[1], { uri: "unix:/s" });
});

test("a guest that has arrived here may leave again", async (t) => {
  const { script, source } = await scene(t);
  script.status = "completed";
  assert.deepEqual(await source.state(), { migration: "none", run: "running" });
  assert.equal(await source.cancel(), "cancelled");
  await source.emigrate({ socketPath: "/s" });
  assert.equal(script.status, "setup");
});

test("what cannot leave, or would write to disks that are gone, is refused before anything", async (t) => {
  const { script, source } = await scene(t);
  const options = { socketPath: "/s" };
  script.blocked = ["The vmdk format used by node 'x' does not support live migration"];
  await assert.rejects(source.emigrate(options), fails("hypervisor.hot-blocked", "vmdk"));
  script.blocked = [];
  script.jobs = [{ type: "stream" }];
  await assert.rejects(source.emigrate(options), fails("hypervisor.hot-blocked", "stream"));
  const both = { ...options, postcopy: "plain", parallel: 2 } as const;
  await assert.rejects(source.emigrate(both), fails("hypervisor.hot-method", "exclude"));
  for (const change of [{ parallel: 0 }, { parallel: 1.5 }, { downtime_ms: -1 }, { rate_Bps: 0 }]) {
    await assert.rejects(
      source.emigrate({ ...options, ...change }),
      fails("hypervisor.hot-method"),
    );
  }
  await assert.rejects(source.slowDown(100), fails("hypervisor.hot-method"));
  assert.deepEqual(script.commands, []);
});

test("a QEMU that hangs in the switch-over is freed out of band", async (t) => {
  const { script, source } = await scene(t);
  await source.emigrate({ socketPath: "/s" });
  script.status = "device";
  script.hanging = true;
  const status = source.until(["postcopy-active"], { timeout_ms: 50 });
  await assert.rejects(status, fails("hypervisor.migration-timeout"));
  assert.equal(await source.cancel(), "cancelled");
  assert.deepEqual(script.commands.at(-1), ["yank", { instances: [{ type: "migration" }] }]);
});

test("a cancelled guest runs, also where QEMU has left it paused", async (t) => {
  const { script, source } = await scene(t);
  await source.emigrate({ socketPath: "/s" });
  script.status = "pre-switchover";
  script.run = "postmigrate";
  assert.equal(await source.cancel(), "cancelled");
  assert.equal(script.run, "running");
  assert.equal(await source.cancel(), "cancelled", "again, with nothing left to do");
});

test("connections to a guest that has left are closed, once", async (t) => {
  const { script, source } = await scene(t);
  await source.hangUp();
  script.refused.push("netdev_del");
  await source.hangUp();
  const closing = ["netdev_del", { id: "network" }];
  assert.deepEqual(script.commands, [closing, closing]);
});

test("what is done, or committed, is not cancelled, and no order is skipped", async (t) => {
  const { script, source } = await scene(t);
  script.status = "completed";
  script.run = "postmigrate";
  assert.equal(await source.cancel(), "completed");
  script.status = "postcopy-paused";
  assert.equal(await source.cancel(), "committed");
  await assert.rejects(source.resume(), fails("hypervisor.hot-order"));
  script.status = "active";
  await assert.rejects(source.switchOver(), fails("hypervisor.hot-order"));
  assert.deepEqual(script.commands, []);
});
