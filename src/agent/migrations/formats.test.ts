/** Machines that change the format of their disk by migrating, between two clouds in one process. */
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Input } from "#api";
import { hasCode, type DiskFormat } from "#core";
import { twoClouds, type TestCloud, type TestFederation } from "../clouds.suite.ts";
import { NO_FAULTS } from "../faults.ts";
import { createHandlers } from "../handlers/index.ts";
import type { MigrationRecord } from "./record.ts";

const HELD = ["kernel", "os", "web"];
const context = { progress: () => undefined, signal: new AbortController().signal };
const code = (text: string) => (error: unknown) => hasCode(error, text);

type How = Omit<Input<"migration.start">, "machine" | "to">;

async function depart(cloud: TestCloud, machine: string, to: string, how: How = {}) {
  const input = { machine, to, ...how };
  const { migration = "" } = await createHandlers(cloud.parts)["migration.start"](input, context);
  return migration;
}

async function travel(
  federation: TestFederation,
  uuid: string,
  [from, to]: readonly [TestCloud, TestCloud],
  how: How = {},
): Promise<MigrationRecord> {
  const id = await depart(from, uuid, to.name, how);
  const records = await Promise.all([from.settled(id), to.settled(id)]);
  assert.deepEqual(federation.host.doubled, [], "no machine ran twice");
  assert.deepEqual(
    records.map(({ phase, error }) => [phase, error]),
    [
      ["completed", undefined],
      ["completed", undefined],
    ],
  );
  return records[1];
}

const filesOf = ({ root }: TestCloud, uuid: string): string[] =>
  readdirSync(join(root, "machines", uuid)).filter((name) => /^(data|disk)\./.test(name));

async function formatOf({ parts }: TestCloud, uuid: string): Promise<DiskFormat | undefined> {
  return (await parts.machines.store.resolve(uuid)).machine.format;
}

test("a disk changes its format with each migration, cold or warm, and back to raw", async (t) => {
  const federation = await twoClouds(t, { held: HELD });
  const [messina, inquadro] = federation.clouds;
  const [there, back] = [[messina, inquadro] as const, [inquadro, messina] as const];
  const uuid = await messina.machine("web-1");

  const first = await travel(federation, uuid, there, { format: "vmdk" });
  assert.deepEqual(filesOf(inquadro, uuid), ["disk.vmdk"]);
  assert.equal(await formatOf(inquadro, uuid), "vmdk");
  assert.ok(first.role === "destination" && first.mode === "cold");
  assert.notEqual(first.userData?.lineage, true);

  await travel(federation, uuid, back, { format: "qcow2", mode: "warm" });
  assert.deepEqual(filesOf(messina, uuid), ["disk.qcow2"]);
  assert.ok(filesOf(inquadro, uuid).includes("data.raw"), "the copy that stays is raw");
  assert.ok(!filesOf(inquadro, uuid).includes("disk.vmdk"));

  await travel(federation, uuid, there);
  assert.ok(filesOf(inquadro, uuid).includes("data.qcow2"), "raw again, with its overlay");
  assert.ok(!filesOf(inquadro, uuid).some((name) => name.startsWith("disk.")));
  assert.equal(await formatOf(inquadro, uuid), undefined);

  /* What it arrived as is what the other side has kept, as a raw file. */
  const last = await travel(federation, uuid, back, { format: "vhdx" });
  assert.ok(last.role === "destination" && last.mode === "cold");
  assert.equal(last.userData?.lineage, true);
  assert.deepEqual(await messina.lines(uuid), [
    "ran at messina",
    "ran at inquadro",
    "ran at messina",
    "ran at inquadro",
    "ran at messina",
  ]);

  await assert.rejects(depart(messina, uuid, "inquadro", { mode: "hot" }), (error: Error) => {
    assert.ok(code("migration.hot-unsuitable")(error));
    assert.match(error.message, /kept as vhdx/);
    return true;
  });
});

test("a cloud has a format of its own for what arrives, and another can be asked for", async (t) => {
  const config = { storage: { format: "vpc" } } as const;
  const federation = await twoClouds(t, { held: HELD, config });
  const [messina, inquadro] = federation.clouds;
  const uuid = await messina.machine("web-1", { stopped: true });
  const planned = async (how: How = {}) => {
    const input = { machine: uuid, to: "inquadro", ...how };
    return (await createHandlers(messina.parts)["plan.make"](input, context)).plan;
  };
  assert.equal((await planned({ format: "raw" })).format, undefined);
  assert.equal((await planned({ format: "vdi" })).format, "vdi");
  const plan = await planned();
  assert.equal(plan.format, "vpc");
  assert.match(plan.notes.join("\n"), /as vpc/);
  await travel(federation, uuid, [messina, inquadro]);
  assert.deepEqual(filesOf(inquadro, uuid), ["disk.vpc"]);
});

test("a landing in another format goes on after a restart", async (t) => {
  const federation = await twoClouds(t, { held: HELD });
  const [messina, inquadro] = federation.clouds;
  const uuid = await messina.machine("web-1");
  inquadro.hooks = { ...NO_FAULTS, holds: ({ phase }) => phase === "starting" };
  const id = await depart(messina, uuid, "inquadro", { format: "vmdk" });
  await inquadro.until(id, ({ phase }) => phase === "starting");
  await inquadro.stop();
  inquadro.hooks = NO_FAULTS;
  await inquadro.start();
  assert.equal((await inquadro.settled(id)).phase, "completed");
  assert.deepEqual(filesOf(inquadro, uuid), ["disk.vmdk"]);
  assert.deepEqual(await inquadro.lines(uuid), ["ran at messina", "ran at inquadro"]);
});

test("what cannot be is refused by name before anything is copied", async (t) => {
  const federation = await twoClouds(t);
  const [messina, inquadro] = federation.clouds;
  await inquadro.stop();
  inquadro.hypervisor.formats = ["raw", "qcow2"];
  await inquadro.start();
  const uuid = await messina.machine("web-1");
  const refused = depart(messina, uuid, "inquadro", { format: "vmdk" });
  await assert.rejects(refused, (error: Error) => {
    assert.ok(code("migration.refused")(error));
    assert.match(error.message, /attaches no disks of format vmdk/);
    return true;
  });
  assert.deepEqual(await inquadro.parts.store.list(), [], "nothing was copied");
  assert.deepEqual(inquadro.parts.migrations.list(), []);
  assert.ok(!existsSync(join(inquadro.root, "machines", uuid)));
  const nowhere = createHandlers(messina.parts)["migration.start"](
    { machine: uuid, format: "vmdk" },
    context,
  );
  await assert.rejects(nowhere, code("migration.no-destination"));
  const hot = depart(messina, uuid, "inquadro", { format: "qcow2", mode: "hot" });
  await assert.rejects(hot, code("migration.mode-conflict"));
});
