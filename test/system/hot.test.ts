/** Hot migration between two QEMUs, with a real guest under TCG whose records and memory are checked. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import { test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { hasCode } from "#core";
import { compatible, type DataExport, type HotMethod, type RunningMachine } from "#hypervisor";
import { realWorld } from "#system";
import { Qmp } from "../../src/hypervisor/qemu/qmp.ts";
import { HotScene, livingEnds, move } from "../support/hot-scene.ts";
import { writeDisk } from "../support/tiny-guest.ts";

const METHODS: readonly HotMethod[] = [
  {},
  { parallel: 2 },
  { postcopy: "plain" },
  { postcopy: "preempt" },
];
const WAIT = { timeout_ms: 20_000 };

test("a guest moves by pre-copy, in parallel streams, by post-copy, and on again", async (t) => {
  const scene = await HotScene.boot(t);
  for (const method of METHODS) {
    // With so short a pause, pre-copy alone would not end.
    const downtime_ms = method.postcopy === undefined ? 300 : 1;
    const told = await move(scene, { method, downtime_ms });
    t.diagnostic(JSON.stringify({ ...method, ...told }));
    assert.equal(told.outcome, "moved");
    assert.equal(told.statuses.includes("postcopy-active"), method.postcopy !== undefined);
    await scene.machine.ready(1000);
    assert.ok(await accepts(scene.machine), "its port leads to it here");
    await scene.progress();
    scene.checkRecords();
    assert.deepEqual(await livingEnds(scene), ["running"]);
  }
});

/** Does the host take connections for the guest? */
async function accepts({ hostPorts }: RunningMachine): Promise<boolean> {
  const socket = connect({ host: "127.0.0.1", port: hostPorts["echo"] ?? 0 });
  const taken = await once(socket, "connect").then(
    () => true,
    () => false,
  );
  socket.destroy();
  return taken;
}

/** Serves a raw file for writing; without locks, as a program that is about to be taken out must. */
async function serveFile(t: TestContext, path: string) {
  const socketPath = `${path}.sock`;
  const file = `driver=raw,discard=unmap,file.driver=file,file.locking=off,file.filename=${path}`;
  const args = ["--persistent", "--socket", socketPath, "--export-name", "data"];
  const server = spawn("qemu-nbd", [...args, "--image-opts", file], { stdio: "inherit" });
  const ended = once(server, "exit");
  const end = async (): Promise<void> => {
    server.kill("SIGKILL");
    await ended;
  };
  t.after(end);
  while (!existsSync(socketPath)) await sleep(10);
  return { server: { socketPath, exportName: "data" }, end };
}

function copyExport({ socketPath, exportName }: DataExport, path: string): void {
  const uri = `nbd+unix:///${exportName}?socket=${socketPath}`;
  execFileSync("qemu-img", ["convert", "-n", "-f", "raw", "-O", "raw", uri, path]);
}

const mapOf = ({ socketPath, exportName }: DataExport, context: string): string =>
  execFileSync("nbdinfo", [
    `--map=${context}`,
    `nbd+unix:///${exportName}?socket=${socketPath}`,
  ]).toString();

test("the data go along: a live export, a frozen bitmap, a server in between, and the file", async (t) => {
  const scene = await HotScene.boot(t, "tessera.records");
  const path = join(scene.directory, "arrived");
  writeDisk(path, 32 * 2 ** 20, "");
  const { server, end } = await serveFile(t, path);
  const first = await scene.machine.hot();
  await first.trackWrites("pass-1");
  await first.trackWrites("pass-1");
  const live = await first.exportData();
  copyExport(live, path);
  await assert.rejects(first.exportData({ bitmap: "pass-1" }), (error) =>
    hasCode(error, "hypervisor.bitmap"),
  );
  await first.freezeWrites("pass-1", "pass-2");
  await scene.progress();
  assert.ok(((await first.writtenBytes("pass-1")) ?? 0) > 0);
  await first.forgetWrites("pass-1");
  assert.equal(await first.writtenBytes("pass-1"), undefined);
  await first.close();
  let frozen: DataExport | undefined;
  const told = await move(scene, {
    data: { path, server },
    atSwitch: async (source) => {
      await source.freezeWrites("pass-2");
      assert.ok(((await source.writtenBytes("pass-2")) ?? 0) > 0);
      frozen = await source.exportData({ bitmap: "pass-2" });
      assert.match(mapOf(frozen, frozen.metaContext ?? ""), /dirty/);
      copyExport(frozen, path);
    },
  });
  t.diagnostic(JSON.stringify(told));
  await scene.progress();
  const incoming = await scene.hypervisor.adoptIncoming(dirname(scene.machine.consolePath));
  assert.ok(incoming !== undefined);
  const before_ms = performance.now();
  await incoming.pivotData();
  t.diagnostic(`the server was out after ${(performance.now() - before_ms).toFixed(1)} ms`);
  await incoming.pivotData();
  await incoming.close();
  await end();
  await scene.progress();
  assert.equal(await scene.machine.state(), "running");
  scene.checkRecords(path);
});

test("a migration that is blocked, cancelled or bereft of its destination leaves the guest running", async (t) => {
  const scene = await HotScene.boot(t);
  const source = await scene.machine.hot();
  t.after(() => source.close());
  const { description } = source;
  const capabilities = await scene.hypervisor.hotCapabilities();
  assert.ok(capabilities !== undefined);
  assert.ok(compatible(description, capabilities).possible);
  const receive = async () => {
    const specification = scene.nextSpecification();
    const incoming = await scene.hypervisor.startIncoming(specification, { description });
    const socketPath = join(specification.directory, "in.sock");
    await incoming.listen(socketPath);
    return { incoming, specification, socketPath };
  };

  await t.test("a disk that cannot leave", async () => {
    const path = join(scene.directory, "other.vmdk");
    execFileSync("qemu-img", ["create", "-q", "-f", "vmdk", path, "1M"]);
    const qmp = await Qmp.open(
      join(dirname(scene.machine.consolePath), "qmp.sock"),
      realWorld().clock,
    );
    const file = { driver: "file", filename: path };
    await qmp.execute("blockdev-add", { driver: "vmdk", "node-name": "other", file });
    await assert.rejects(
      source.emigrate({ socketPath: "/nowhere" }),
      (error) => hasCode(error, "hypervisor.hot-blocked") && /vmdk/.test(error.message),
    );
    await qmp.execute("blockdev-del", { "node-name": "other" });
    await qmp.close();
  });

  await t.test("cancelled while active, and at the switch", async () => {
    for (const status of ["active", "pre-switchover"] as const) {
      const { incoming, socketPath } = await receive();
      assert.ok(!(await accepts(incoming.machine)), "nobody is let in before the guest has come");
      const rate_Bps = status === "active" ? 1e6 : 1e9;
      await source.emigrate({ socketPath, rate_Bps, maySlowDown: true });
      await source.slowDown(40);
      await source.allowDowntime(200);
      assert.equal(await source.until([status], WAIT), status);
      assert.equal(await source.cancel(), "cancelled");
      assert.equal((await source.state()).run, "running");
      await incoming.abort();
      await scene.progress();
    }
  });

  await t.test("the destination is killed in pre-copy, or before it resumes", async () => {
    const early = await receive();
    await source.emigrate({ socketPath: early.socketPath, rate_Bps: 1e6 });
    await source.until(["active"], WAIT);
    process.kill(early.incoming.machine.identity.pid, "SIGKILL");
    assert.equal(await source.until([], WAIT), "failed");
    assert.equal(await source.cancel(), "cancelled");
    await assert.rejects(early.incoming.until(["completed"], WAIT), /QEMU/);
    const late = await receive();
    await source.emigrate({ socketPath: late.socketPath });
    await source.until(["pre-switchover"], WAIT);
    await assert.rejects(late.incoming.resume(), (error) =>
      hasCode(error, "hypervisor.not-arrived"),
    );
    await source.switchOver();
    assert.equal(await source.until([], WAIT), "completed");
    assert.ok(
      ((await source.statistics()).downtime_ms ?? 0) > 0,
      "not the 0 that QEMU says at first",
    );
    await late.incoming.abort();
    await source.resume();
    await scene.progress();
  });

  await t.test("a machine that differs, or a destination of an adopted directory", async () => {
    const specification = scene.nextSpecification({ memoryBytes: 256 * 2 ** 20 });
    await assert.rejects(
      scene.hypervisor.startIncoming(specification, { description }),
      (error) => hasCode(error, "hypervisor.hot-incompatible") && /RAM/.test(error.message),
    );
    const { incoming, specification: same } = await receive();
    await incoming.close();
    assert.equal(
      (await scene.hypervisor.adopt(same.directory))?.identity.pid,
      incoming.machine.identity.pid,
    );
    await assert.rejects(scene.hypervisor.start(same), (error) =>
      hasCode(error, "hypervisor.incoming"),
    );
    const adopted = await scene.hypervisor.startIncoming(same, { description });
    assert.equal(adopted.machine.identity.pid, incoming.machine.identity.pid);
    await adopted.abort();
    assert.equal(await scene.hypervisor.adoptIncoming(same.directory), undefined);
  });
  assert.deepEqual(await livingEnds(scene), ["running"]);
  scene.checkRecords();
});
