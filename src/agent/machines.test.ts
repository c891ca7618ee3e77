import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { hasCode, TesseraError } from "#core";
import { twoClouds } from "./clouds.suite.ts";

const code = (text: string) => (error: unknown) => hasCode(error, text);

async function pinsOf(cloud: Awaited<ReturnType<typeof twoClouds>>["clouds"][0]) {
  return [...(await cloud.parts.store.pins()).keys()];
}

test("a name that no host can have is refused, and a taken one", async (t) => {
  const [cloud] = (await twoClouds(t)).clouds;
  const appliance = await cloud.appliance();
  const { machines } = cloud.parts;
  for (const name of ["", "-", "a-", "A", "a.b", "../x", "a b", "x".repeat(64)]) {
    await assert.rejects(machines.create(name, appliance, []), code("agent.name-invalid"), name);
  }
  await machines.create("x".repeat(63), appliance, []);
  const both = await Promise.allSettled([
    machines.create("one", appliance, []),
    machines.create("one", appliance, []),
  ]);
  assert.deepEqual(both.map(({ status }) => status).toSorted(), ["fulfilled", "rejected"]);
});

test("a machine that cannot be made leaves nothing", async (t) => {
  const [cloud] = (await twoClouds(t)).clouds;
  const { machines } = cloud.parts;
  const appliance = await cloud.appliance();
  const small = { ...appliance, resources: { ...appliance.resources, dataBytes: 4096 } };
  await assert.rejects(machines.create("small", small, []), code("compose.data-size-invalid"));
  const file = { path: "relative", content: Buffer.from("") };
  await assert.rejects(machines.create("bad", appliance, [file]), TesseraError);
  assert.deepEqual(readdirSync(join(cloud.root, "machines")), []);
  assert.deepEqual(await pinsOf(cloud), []);
});

test("start and stop are idempotent; a guest that ends by itself is seen", async (t) => {
  const [cloud] = (await twoClouds(t)).clouds;
  const { machines } = cloud.parts;
  const uuid = await cloud.machine("web-1");
  await machines.start(uuid);
  assert.deepEqual(
    (await machines.list()).map(({ hostPorts }) => hostPorts),
    [{ http: 8080 }],
  );
  await assert.rejects(machines.remove(uuid), code("agent.machine-in-use"));
  assert.equal(await machines.stop(uuid), "graceful");
  assert.equal(await machines.stop(uuid), "was-stopped");
  await machines.start(uuid);
  const { exited } = machines.running(uuid) ?? {};
  cloud.hypervisor.powerOff(uuid);
  await exited;
  assert.equal(await machines.stop(uuid), "was-stopped");
  const [machine] = await machines.list();
  assert.deepEqual([machine?.state, machine?.hostPorts], ["stopped", {}]);
  await machines.remove(uuid);
  assert.deepEqual(await pinsOf(cloud), []);
  await assert.rejects(machines.start(uuid), code("agent.machine-unknown"));
});

test("a hypervisor that has died does not count as running before its end is told", async (t) => {
  const [cloud] = (await twoClouds(t)).clouds;
  const { machines } = cloud.parts;
  const uuid = await cloud.machine("web-1", { stopped: true });
  const { identity } = cloud.hypervisor;
  cloud.hypervisor.identity = { ...identity, startTicks: identity.startTicks + 1 };
  await machines.start(uuid);
  cloud.hypervisor.die(uuid);
  assert.equal(machines.running(uuid), undefined);
  cloud.hypervisor.identity = identity;
  await machines.start(uuid);
  assert.ok(machines.running(uuid) !== undefined);
});

test("a start that fails leaves the machine stopped", async (t) => {
  const [cloud] = (await twoClouds(t)).clouds;
  const uuid = await cloud.machine("web-1", { stopped: true });
  cloud.hypervisor.failing = 1;
  await assert.rejects(cloud.parts.machines.start(uuid), code("hypervisor.start-failed"));
  assert.equal((await cloud.parts.machines.list())[0]?.state, "stopped");
  await cloud.parts.machines.start(uuid);
});

test("a machine that runs counts as running also where the disk is full", async (t) => {
  const [cloud] = (await twoClouds(t)).clouds;
  const uuid = await cloud.machine("web-1", { stopped: true });
  const { files } = cloud.world;
  let full = true;
  await cloud.stop();
  cloud.world = {
    ...cloud.world,
    files: {
      ...files,
      writeFileAtomic: (path, ...rest) =>
        full && path.endsWith("machine.json")
          ? Promise.reject(new TesseraError("environment", "system.disk-full", "full"))
          : files.writeFileAtomic(path, ...rest),
    },
  };
  await cloud.start();
  await cloud.parts.machines.start(uuid);
  assert.ok(cloud.parts.machines.running(uuid) !== undefined);
  full = false;
  await cloud.restart();
  const [machine] = await cloud.parts.machines.list();
  assert.deepEqual([machine?.state, machine?.hostPorts], ["running", { http: 8080 }]);
});

test("a machine that takes part in a migration is its migration's to start", async (t) => {
  const [cloud] = (await twoClouds(t)).clouds;
  const { machines } = cloud.parts;
  const uuid = await cloud.machine("web-1", { stopped: true });
  await machines.update(uuid, ({ machine }) => ({ machine: { ...machine, migration: "m" } }));
  await assert.rejects(machines.start(uuid), code("agent.machine-migrating"));
  await assert.rejects(machines.remove(uuid), code("agent.machine-in-use"));
  const { signal } = new AbortController();
  await assert.rejects(
    machines.start(uuid, { migration: "other", signal }),
    code("agent.machine-migrating"),
  );
  const late = { migration: "m", signal: AbortSignal.abort(new Error("too late")) };
  await assert.rejects(machines.start(uuid, late), /too late/);
  assert.equal(machines.running(uuid), undefined);
  await machines.start(uuid, { migration: "m", signal });
});

test("an agent that starts removes what a killed one left, and keeps the rest", async (t) => {
  const [cloud] = (await twoClouds(t)).clouds;
  const uuid = await cloud.machine("web-1");
  const [leftover, outsider] = [crypto.randomUUID(), "notes"];
  const [component] = await cloud.parts.store.list();
  for (const owner of [`machine:${leftover}`, `migration:${leftover}`, "operator"]) {
    await cloud.parts.store.pin(owner, component === undefined ? [] : [component.id]);
  }
  await cloud.stop();
  for (const name of [leftover, outsider]) {
    mkdirSync(join(cloud.root, "machines", name), { recursive: true });
  }
  mkdirSync(join(cloud.root, "incoming", leftover), { recursive: true });
  writeFileSync(join(cloud.root, "incoming", leftover, "data.raw.part"), "half");
  await cloud.start();
  const left = readdirSync(join(cloud.root, "machines")).toSorted();
  assert.deepEqual(left, [uuid, outsider].toSorted());
  assert.ok(!existsSync(join(cloud.root, "incoming", leftover)));
  assert.deepEqual((await pinsOf(cloud)).toSorted(), [`machine:${uuid}`, "operator"].toSorted());
  assert.equal((await cloud.parts.machines.list())[0]?.state, "running");
});
