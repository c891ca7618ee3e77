/** Whole migrations between two clouds in one process: cases, refusals, cancels. */
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { hasCode, type SignedReceipt } from "#core";
import { verifySignature } from "#federation";
import { userDataUuid } from "#compose";
import { NO_FAULTS } from "../faults.ts";
import { twoClouds, type TestCloud, type TestFederation } from "../clouds.suite.ts";
import { receiptBytes } from "./receipt.ts";

const code = (text: string) => (error: unknown) => hasCode(error, text);

/** Both have the same receipt, signed by both. */
function sameReceipts(clouds: readonly TestCloud[], id: string): SignedReceipt {
  const [first, second] = clouds.map((cloud) => cloud.record(id)?.receipt);
  assert.ok(first !== undefined && second !== undefined);
  assert.deepEqual(first.receipt, second.receipt);
  assert.deepEqual({ ...first.signatures }, { ...second.signatures });
  for (const cloud of clouds) {
    const signature = first.signatures[cloud.name] ?? "";
    assert.ok(verifySignature(cloud.key.publicKey, receiptBytes(first.receipt), signature));
  }
  return first;
}

/** Nothing of a migration is left at a cloud: no data, no pin. */
async function nothingLeft(cloud: TestCloud, id: string, uuid?: string): Promise<void> {
  const incoming = join(cloud.root, "incoming", id);
  assert.ok(!existsSync(incoming), `${incoming} is left`);
  const pins = [...(await cloud.parts.store.pins()).keys()];
  assert.ok(!pins.includes(`migration:${id}`), "the migration's pin is left");
  if (uuid === undefined) return;
  assert.ok(!pins.includes(`machine:${uuid}`), "the machine's pin is left");
  assert.ok(!existsSync(join(cloud.root, "machines", uuid)), "the machine's directory is left");
}

async function ended(federation: TestFederation, id: string): Promise<string[]> {
  const records = await Promise.all(federation.clouds.map((cloud) => cloud.settled(id)));
  assert.deepEqual(federation.host.doubled, [], "no machine ran twice");
  return records.map(({ phase }) => phase);
}

test("worst, average and best case; the machine and its data move whole, and back", async (t) => {
  const federation = await twoClouds(t);
  const [messina, inquadro] = federation.clouds;
  const uuid = await messina.machine("web-1");
  const worst = await messina.migrate(uuid, "inquadro");
  assert.deepEqual(await ended(federation, worst), ["completed", "completed"]);
  assert.equal(federation.host.running.get(uuid), "inquadro");
  assert.deepEqual(await inquadro.lines(uuid), ["ran at messina", "ran at inquadro"]);
  const { receipt } = sameReceipts(federation.clouds, worst);
  assert.equal(receipt.case, "worst");
  assert.equal(receipt.stop, "graceful");
  assert.ok(receipt.components.every(({ held, bytes }) => !held && bytes > 0));
  assert.ok(receipt.downtime_ms > 0);
  const moved = receipt.components.reduce((sum, { bytes }) => sum + bytes, 0);
  assert.ok(receipt.wireBytes >= moved + receipt.userData.bytes);
  const here = (await messina.parts.machines.store.find(uuid))?.machine;
  assert.deepEqual([here?.state, here?.cloud, here?.migration], ["gone", "inquadro", undefined]);
  const there = (await inquadro.parts.machines.store.find(uuid))?.machine;
  assert.deepEqual([there?.state, there?.migration], ["running", undefined]);
  for (const cloud of federation.clouds) await nothingLeft(cloud, worst);

  const second = await messina.machine("data-1", { programs: ["data"] });
  const average = await messina.migrate(second, "inquadro");
  assert.deepEqual(await ended(federation, average), ["completed", "completed"]);
  const middle = sameReceipts(federation.clouds, average).receipt;
  assert.equal(middle.case, "average");
  assert.deepEqual(
    middle.components.filter(({ held }) => !held).map(({ name }) => name),
    ["data"],
  );

  const best = await inquadro.migrate(uuid);
  assert.deepEqual(await ended(federation, best), ["completed", "completed"]);
  const back = sameReceipts(federation.clouds, best).receipt;
  assert.equal(back.case, "best");
  assert.ok(back.components.every(({ held, bytes }) => held && bytes === 0));
  assert.equal(federation.host.running.get(uuid), "messina");
  assert.equal((await messina.lines(uuid)).length, 3);
  // It went back to the copy that it had left, as what it has written since.
  assert.equal(back.userData.lineage, true);
  assert.ok(back.userData.bytes < 8192, `${back.userData.bytes} bytes for one line`);
  assert.equal(receipt.userData.lineage, undefined);
  const source = inquadro.record(best);
  assert.ok(source?.role === "source" && source.plan.userData.lineage === true);
  assert.ok(source.plan.userData.bytes < 8192, `${source.plan.userData.bytes} bytes planned`);

  // And away again, to the copy that the other cloud kept.
  const again = await messina.migrate(uuid, "inquadro");
  assert.deepEqual(await ended(federation, again), ["completed", "completed"]);
  const third = sameReceipts(federation.clouds, again).receipt;
  assert.equal(third.userData.lineage, true);
  assert.ok(third.userData.bytes < 8192);
  assert.equal((await inquadro.lines(uuid)).length, 4);
});

test("a machine is started on its own user data block only", async (t) => {
  const { clouds } = await twoClouds(t);
  const [messina] = clouds;
  const uuid = await messina.machine();
  const { disks } = messina.hypervisor.specification(uuid) ?? {};
  const id = userDataUuid(uuid).replaceAll("-", "");
  assert.ok(disks?.commandLine.endsWith(` tessera.data=${id}`), disks?.commandLine);
});

test("a stopped machine moves and stays stopped; the guest that is mute is told of", async (t) => {
  const federation = await twoClouds(t, { held: ["kernel", "os", "web"] });
  const [messina, inquadro] = federation.clouds;
  const stopped = await messina.machine("web-1", { stopped: true });
  const id = await messina.migrate(stopped, "inquadro");
  assert.deepEqual(await ended(federation, id), ["completed", "completed"]);
  assert.deepEqual(federation.host.starts, []);
  const { receipt } = sameReceipts(federation.clouds, id);
  assert.deepEqual([receipt.stop, receipt.downtime_ms], ["was-stopped", 0]);
  assert.equal((await inquadro.parts.machines.store.find(stopped))?.machine.state, "stopped");
  await inquadro.parts.machines.start(stopped);

  inquadro.hypervisor.mute = true;
  const uuid = await messina.machine("web-2");
  const muted = await messina.migrate(uuid, "inquadro");
  assert.deepEqual(await ended(federation, muted), ["completed", "completed"]);
  assert.equal(inquadro.record(muted)?.error?.code, "hypervisor.boot-timeout");
});

test("a destination refuses: too big, a name that is taken, a machine that is coming", async (t) => {
  const federation = await twoClouds(t, { config: { resources: { cpus: 1, memory: 2 ** 30 } } });
  const [messina, inquadro] = federation.clouds;
  const first = await messina.machine("web-1");
  inquadro.hooks = { ...NO_FAULTS, holds: ({ phase }) => phase === "accepted" };
  const id = await messina.migrate(first, "inquadro");
  await inquadro.until(id, ({ phase }) => phase === "accepted");
  // The one processor is promised to the first machine before it is there.
  const second = await messina.machine("web-2");
  await assert.rejects(messina.migrate(second, "inquadro"), code("migration.refused"));
  await inquadro.parts.offerChanged();
  await assert.rejects(messina.migrate(second), code("migration.no-destination"));
  await assert.rejects(messina.migrate(second, "messina"), code("migration.same-cloud"));
  await assert.rejects(messina.migrate(second, "nowhere"), code("federation.unreachable"));
  await assert.rejects(messina.migrate(first, "inquadro"), code("migration.already-migrating"));
  inquadro.hooks = NO_FAULTS;
  assert.deepEqual(await ended(federation, id), ["completed", "completed"]);
  await assert.rejects(messina.migrate(first, "inquadro"), code("migration.machine-gone"));
  await assert.rejects(messina.parts.machines.start(first), code("agent.machine-gone"));
  const same = await messina.machine("web-1");
  await messina.parts.machines.stop(same);
  const plan = await messina.parts.migrations.planner.plan({
    machine: (await messina.parts.machines.store.resolve(same)).machine,
    to: "inquadro",
  });
  assert.match(plan.plan.notes.join(), /another machine named "web-1"/);
});

for (const [phase, role] of [
  ["proposed", "source"],
  ["serving", "source"],
  ["stopping", "source"],
  ["frozen", "source"],
  ["accepted", "destination"],
  ["composing", "destination"],
  ["prepared", "destination"],
  ["receiving", "destination"],
  ["received", "destination"],
] as const) {
  test(`cancel in ${phase} at the ${role} leaves everything as it was`, async (t) => {
    const federation = await twoClouds(t);
    const [messina, inquadro] = federation.clouds;
    const cloud = role === "source" ? messina : inquadro;
    cloud.hooks = { ...NO_FAULTS, holds: (record) => record.phase === phase };
    const uuid = await messina.machine();
    const id = await messina.migrate(uuid, "inquadro");
    await cloud.until(id, (record) => record.phase === phase);
    await inquadro.until(id, () => true);
    await cloud.parts.migrations.cancel(id);
    cloud.hooks = NO_FAULTS;
    const source = await messina.settled(id);
    assert.equal(source.phase, "aborted");
    assert.equal(source.error?.code, "migration.cancelled");
    await inquadro.settled(id);
    assert.deepEqual(federation.host.doubled, []);
    assert.equal(federation.host.running.get(uuid), "messina");
    const { machine } = await messina.parts.machines.store.resolve(uuid);
    assert.deepEqual([machine.state, machine.migration], ["running", undefined]);
    await nothingLeft(messina, id);
    await nothingLeft(inquadro, id, uuid);
    await assert.rejects(cloud.parts.migrations.cancel(id), code("migration.too-late"));
  });
}

test("after the hand-over nobody can cancel; a start that fails hands the machine back", async (t) => {
  const federation = await twoClouds(t);
  const [messina, inquadro] = federation.clouds;
  messina.hooks = { ...NO_FAULTS, holds: ({ phase }) => phase === "handed-over" };
  inquadro.hypervisor.failing = 1;
  const uuid = await messina.machine();
  const id = await messina.migrate(uuid, "inquadro");
  await messina.until(id, ({ phase }) => phase === "handed-over");
  await assert.rejects(messina.parts.migrations.cancel(id), code("migration.too-late"));
  await inquadro.until(id, ({ phase }) => phase === "aborted");
  assert.equal(federation.host.running.size, 0, "nobody runs it until both know");
  messina.hooks = NO_FAULTS;
  assert.deepEqual(await ended(federation, id), ["aborted", "aborted"]);
  assert.equal(messina.record(id)?.error?.code, "hypervisor.start-failed");
  assert.equal(federation.host.running.get(uuid), "messina");
  await nothingLeft(inquadro, id, uuid);
});

test("an operator fences a destination: its copy is stopped and kept, never started", async (t) => {
  const federation = await twoClouds(t);
  const [messina, inquadro] = federation.clouds;
  messina.hooks = { ...NO_FAULTS, holds: ({ phase }) => phase === "handed-over" };
  const uuid = await messina.machine();
  const id = await messina.migrate(uuid, "inquadro");
  await inquadro.until(id, ({ phase }) => phase === "ready");
  // Fencing is the operator's: the guest there is off before the machine is taken back.
  await assert.rejects(inquadro.parts.migrations.cancel(id), code("migration.too-late"));
  inquadro.hypervisor.powerOff(uuid);
  await messina.parts.migrations.resolve(id, "keep-here");
  messina.hooks = NO_FAULTS;
  assert.deepEqual(await ended(federation, id), ["aborted", "fenced"]);
  assert.equal(federation.host.running.get(uuid), "messina");
  const { machine } = await inquadro.parts.machines.store.resolve(uuid);
  assert.deepEqual(
    [machine.state, machine.cloud, machine.migration],
    ["gone", "messina", undefined],
  );
  await assert.rejects(inquadro.parts.machines.start(uuid), code("agent.machine-gone"));
  await inquadro.parts.machines.remove(uuid);
  assert.deepEqual(readdirSync(join(inquadro.root, "machines")), []);
  await assert.rejects(
    messina.parts.migrations.resolve(id, "keep-here"),
    code("migration.not-waiting"),
  );
  await assert.rejects(messina.parts.migrations.cancel("nothing"), code("migration.unknown"));
});
