/** Warm migrations between two clouds in one process. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { openFileDevice, userDataDigest } from "#block";
import type { Receipt } from "#core";
import { realWorld } from "#system";
import { twoClouds, type TestCloud, type TestFederation } from "../../clouds.suite.ts";
import { NO_FAULTS } from "../../faults.ts";
import { createHandlers } from "../../handlers/index.ts";
import type { MigrationRecord } from "../record.ts";

const HELD = ["kernel", "os", "web"];
const LATE_OFFSET = 50 * 2 ** 20;
const context = { progress: () => undefined, signal: new AbortController().signal };

async function depart(cloud: TestCloud, machine: string, to: string, at_ms?: number) {
  const input = { machine, to, mode: "warm" as const, ...(at_ms === undefined ? {} : { at_ms }) };
  const { migration = "" } = await createHandlers(cloud.parts)["migration.start"](input, context);
  return migration;
}

async function ended(federation: TestFederation, id: string): Promise<string[]> {
  const records = await Promise.all(federation.clouds.map((cloud) => cloud.settled(id)));
  assert.deepEqual(federation.host.doubled, [], "no machine ran twice");
  return records.map(({ phase }) => phase);
}

function receiptOf(cloud: TestCloud, id: string): Receipt {
  const receipt = cloud.record(id)?.receipt?.receipt;
  assert.ok(receipt !== undefined);
  assert.equal(receipt.mode, "warm");
  return receipt;
}

const dataOf = ({ root }: TestCloud, uuid: string): string =>
  join(root, "machines", uuid, "data.raw");

/** What a guest writes when all has been replicated. */
async function writeLate(cloud: TestCloud, uuid: string, text: string): Promise<void> {
  const file = await open(dataOf(cloud, uuid), "r+");
  await file.write(Buffer.from(text), 0, text.length, LATE_OFFSET);
  await file.close();
}

/** The block as it arrived, under the overlay. */
async function arrived(cloud: TestCloud, uuid: string) {
  const device = await openFileDevice(realWorld(), dataOf(cloud, uuid), { readOnly: true });
  const bytes = Buffer.alloc(4);
  await device.read(bytes, LATE_OFFSET);
  const { digest } = await userDataDigest(device);
  await device.close();
  return { late: bytes.toString(), digest };
}

const holding = (phase: string) => ({
  ...NO_FAULTS,
  holds: (record: MigrationRecord) => record.phase === phase,
});

test("a machine is replicated while it runs; what it writes last arrives, and it comes back as changes", async (t) => {
  const federation = await twoClouds(t, { held: HELD });
  const [messina, inquadro] = federation.clouds;
  const uuid = await messina.machine("web-1");
  messina.hooks = holding("serving");
  const there = await depart(messina, uuid, "inquadro");
  const prepared = await inquadro.until(there, ({ phase }) => phase === "prepared");
  assert.ok(prepared.role === "destination" && prepared.mode === "warm");
  assert.ok((prepared.replica?.passes ?? 0) >= 1);
  assert.ok((prepared.replica?.bytes ?? 0) > 0);
  assert.equal(federation.host.running.get(uuid), "messina");
  await writeLate(messina, uuid, "late");
  messina.hooks = NO_FAULTS;
  assert.deepEqual(await ended(federation, there), ["completed", "completed"]);
  assert.deepEqual(await inquadro.lines(uuid), ["ran at messina", "ran at inquadro"]);
  const receipt = receiptOf(messina, there);
  const { late, digest } = await arrived(inquadro, uuid);
  assert.deepEqual([late, digest], ["late", receipt.userData.digest]);
  assert.equal(receipt.userData.lineage, undefined);
  assert.ok(!existsSync(join(inquadro.root, "incoming", there)));

  const back = await depart(inquadro, uuid, "messina");
  assert.deepEqual(await ended(federation, back), ["completed", "completed"]);
  assert.equal((await messina.lines(uuid)).length, 3);
  const { userData } = receiptOf(messina, back);
  assert.equal(userData.lineage, true);
  const record = messina.record(back);
  assert.ok(record?.role === "destination" && record.mode === "warm");
  assert.equal(record.replica?.bytes, 65_536, "the block with the line that it has written there");
});

for (const [role, phase] of [
  ["source", "serving"],
  ["source", "frozen"],
  ["destination", "replicating"],
  ["destination", "prepared"],
  ["destination", "receiving"],
  ["destination", "received"],
] as const) {
  test(`the ${role} of a warm migration restarts in ${phase} and goes on`, async (t) => {
    const federation = await twoClouds(t, { held: HELD });
    const [messina, inquadro] = federation.clouds;
    const cloud = role === "source" ? messina : inquadro;
    cloud.hooks = holding(phase);
    const uuid = await messina.machine();
    const id = await depart(messina, uuid, "inquadro");
    await cloud.until(id, (record) => record.phase === phase);
    await cloud.stop();
    cloud.hooks = NO_FAULTS;
    await cloud.start();
    assert.deepEqual(await ended(federation, id), ["completed", "completed"]);
    assert.deepEqual(await inquadro.lines(uuid), ["ran at messina", "ran at inquadro"]);
    const { digest } = await arrived(inquadro, uuid);
    assert.equal(digest, receiptOf(messina, id).userData.digest);
  });
}

test("before its time it is replicated again and again, and can be kept", async (t) => {
  const federation = await twoClouds(t, { held: HELD });
  const [messina, inquadro] = federation.clouds;
  const uuid = await messina.machine();
  const kept = await depart(messina, uuid, "inquadro", Date.now() + 3_600_000);
  await inquadro.until(kept, ({ phase }) => phase === "replicating");
  await messina.parts.migrations.cancel(kept);
  assert.deepEqual(await ended(federation, kept), ["aborted", "aborted"]);
  assert.equal(federation.host.running.get(uuid), "messina");
  const at_ms = Date.now() + 300;
  const id = await depart(messina, uuid, "inquadro", at_ms);
  assert.deepEqual(await ended(federation, id), ["completed", "completed"]);
  const record = messina.record(id);
  assert.ok(record?.role === "source" && record.mode === "warm");
  assert.ok((record.stop?.off_ms ?? 0) >= at_ms);
});

test("a machine that does not run, and choices that only hot migration has, are refused", async (t) => {
  const { clouds } = await twoClouds(t, { held: HELD });
  const [messina] = clouds;
  const machine = await messina.machine("web-1", { stopped: true });
  const handlers = createHandlers(messina.parts);
  const input = { machine, to: "inquadro", mode: "warm" } as const;
  await assert.rejects(handlers["plan.make"](input, context), {
    code: "migration.machine-stopped",
  });
  await assert.rejects(handlers["plan.make"]({ ...input, storage: "push" }, context), {
    code: "migration.mode-conflict",
  });
});
