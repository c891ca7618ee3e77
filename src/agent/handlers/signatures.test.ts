import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { rmSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { CREDENTIALS, startRegistry } from "../../registry/registry.suite.ts";
import { NO_FAULTS } from "../faults.ts";
import { twoClouds, type TestCloud, type TestFederation } from "../clouds.suite.ts";
import { layoutOf } from "../layout.ts";
import { call, code } from "./call.suite.ts";

const required = (signers: readonly string[], from = "any") => ({
  signatures: { required: { [from]: [...signers] } },
});

async function trust(cloud: TestCloud, name: string, publicKey: string): Promise<void> {
  const { signers } = layoutOf(cloud.root);
  await mkdir(signers, { recursive: true });
  await writeFile(join(signers, `${name}.pem`), publicKey);
}

async function signAll(cloud: TestCloud): Promise<string> {
  let publicKey = "";
  for (const component of ["kernel", "os", "web"]) {
    ({ publicKey } = await call(cloud, "component.sign", { component }));
  }
  return publicKey;
}

async function strict(t: TestContext, from?: string): Promise<TestFederation> {
  return await twoClouds(t, { config: required(["messina-builds"], from) });
}

test("signed here, verified where the key is known, refused where another is wanted", async (t) => {
  const [here] = (await twoClouds(t)).clouds;
  const { publicKey, key } = await call(here, "component.sign", { component: "web" });
  const verify = (more: object) => call(here, "component.verify", { component: "web", ...more });
  const before = (await verify({})).signatures ?? [];
  assert.deepEqual(
    before.map((one) => [one.key, one.signer, one.valid]),
    [[key, undefined, undefined]],
  );
  await assert.rejects(verify({ signedBy: "builds" }), code("agent.signature-refused"));
  await trust(here, "builds", publicKey);
  const after = await verify({ signedBy: "builds" });
  assert.deepEqual(
    after.signatures?.map((one) => [one.signer, one.valid]),
    [["builds", true]],
  );
  const pair = generateKeyPairSync("ed25519");
  const pem = pair.privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  const other = await call(here, "component.sign", { component: "web", key: pem });
  assert.notEqual(other.key, key);
  assert.equal((await verify({})).signatures?.length, 2);
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey;
  const wrong = rsa.export({ type: "pkcs8", format: "pem" }).toString();
  for (const bad of ["no key", wrong]) {
    const signed = call(here, "component.sign", { component: "web", key: bad });
    await assert.rejects(signed, code("agent.key-invalid"));
  }
});

test("a machine whose components are not signed is refused before a byte of them is fetched", async (t) => {
  const [source, destination] = (await strict(t)).clouds;
  const uuid = await source.machine("web-1", { stopped: true });
  const { plan } = await call(source, "plan.make", { machine: "web-1", to: destination.name });
  const wanted = /requires that kernel 1 is signed by messina-builds/;
  assert.match(plan.notes.join("\n"), wanted);
  await assert.rejects(source.migrate(uuid, destination.name), (error: Error) => {
    assert.match(error.message, wanted);
    return true;
  });
  assert.deepEqual(await destination.parts.store.list(), []);
});

test("a signed machine is taken, and its signatures go on from there", async (t) => {
  const [source, destination] = (await strict(t)).clouds;
  await trust(destination, "messina-builds", await signAll(source));
  const uuid = await source.machine("web-1", { stopped: true });
  const record = await destination.settled(await source.migrate(uuid, destination.name));
  assert.equal(record.phase, "completed");
  for (const component of ["kernel", "os", "web"]) {
    await call(destination, "component.verify", { component, signedBy: "messina-builds" });
  }
});

test("a signature by a key that was exchanged, or of another component, does not count", async (t) => {
  const [source, destination] = (await strict(t)).clouds;
  const publicKey = await signAll(source);
  const pair = generateKeyPairSync("ed25519");
  const other = pair.publicKey.export({ type: "spki", format: "pem" }).toString();
  await trust(destination, "messina-builds", other);
  const uuid = await source.machine("web-1", { stopped: true });
  await assert.rejects(source.migrate(uuid, destination.name), code("migration.refused"));
  await trust(destination, "messina-builds", publicKey);
  // The kernel gets the signature of the web server.
  const { store } = source.parts;
  const [web, kernel] = [await store.resolve("web"), await store.resolve("kernel")];
  await store.addSignatures(kernel.id, { signatures: await store.signatures(web.id), own: true });
  const wrong = source.migrate(uuid, destination.name);
  await assert.rejects(wrong, /the signature of messina-builds is not of it/);
  assert.deepEqual(await destination.parts.store.list(), []);
});

const HOT = {
  description: {
    hypervisor: "qemu",
    version: "9.1.0",
    architecture: "amd64",
    machineType: "pc-q35-7.2",
    cpuModel: "Westmere",
    accelerator: "tcg",
    cpus: 1,
    ramBytes: 2 ** 28,
    devices: [],
    formats: ["raw"],
  },
  there: {
    hypervisor: "qemu",
    version: "9.1.0",
    architecture: "amd64",
    machineTypes: ["pc-q35-7.2"],
    cpuModels: { tcg: ["Westmere"] },
    features: ["events", "return-path", "late-block-activate", "pause-before-switchover"],
    postcopy: false,
  },
} as const;

test("an unsigned component of a machine that is to move while it runs is refused before a byte of it is fetched", async (t) => {
  const [source, destination] = (await strict(t)).clouds;
  for (const { hypervisor } of [source, destination]) hypervisor.hot = HOT;
  await source.machine("web-1");
  const live = { machine: "web-1", to: destination.name, mode: "hot" } as const;
  const wanted = /requires that kernel 1 is signed by messina-builds/;
  const { plan } = await call(source, "plan.make", live);
  assert.match(plan.notes.join("\n"), wanted);
  await assert.rejects(call(source, "migration.start", live), wanted);
  assert.deepEqual(destination.parts.migrations.list(), []);

  /* A proposal is judged by itself, whatever was said of the plan. */
  await trust(destination, "messina-builds", await signAll(source));
  const { signers } = layoutOf(destination.root);
  source.hooks = {
    ...NO_FAULTS,
    beforeSave: () => rmSync(signers, { recursive: true, force: true }),
  };
  const { migration = "" } = await call(source, "migration.start", live);
  source.hooks = NO_FAULTS;
  const { error } = await source.until(migration, (record) => record.error !== undefined);
  assert.equal(error?.code, "migration.refused");
  assert.match(error?.message ?? "", wanted);
  assert.deepEqual(destination.parts.migrations.list(), []);
  assert.deepEqual(await destination.parts.store.list(), []);
});

test("signed components of a machine that moves while it runs are taken, with their signatures", async (t) => {
  const [source, destination] = (await strict(t)).clouds;
  for (const { hypervisor } of [source, destination]) hypervisor.hot = HOT;
  await trust(destination, "messina-builds", await signAll(source));
  await source.machine("web-1");
  const live = { machine: "web-1", to: destination.name, mode: "hot" } as const;
  const { migration = "" } = await call(source, "migration.start", live);
  /* These hypervisors have no memory to move: what comes after the components fails. */
  const early = ["accepted", "composing"];
  await destination.until(migration, ({ phase }) => !early.includes(phase));
  const { journal } = await call(destination, "migration.show", { migration });
  assert.ok(
    journal.some(({ state }) => state === "copying"),
    "it was taken",
  );
  for (const component of ["kernel", "os", "web"]) {
    await call(destination, "component.verify", { component, signedBy: "messina-builds" });
  }
});

test("the rule of a cloud goes before that for any; what is held is not asked again", async (t) => {
  const config = { signatures: { required: { any: ["nobody"], messina: [] } } };
  const [source, destination] = (await twoClouds(t, { config })).clouds;
  const uuid = await source.machine("web-1", { stopped: true });
  const record = await destination.settled(await source.migrate(uuid, destination.name));
  assert.equal(record.phase, "completed");
  const [from, to] = (
    await twoClouds(t, { config: required(["nobody"]), held: ["kernel", "os", "web"] })
  ).clouds;
  const second = await from.machine("web-2", { stopped: true });
  assert.equal((await to.settled(await from.migrate(second, to.name))).phase, "completed");
});

test("signatures travel through a registry, and what lacks them is not pulled", async (t) => {
  const [source, destination] = (await strict(t)).clouds;
  const { host, ca = "" } = await startRegistry(t, { secure: true });
  const access = { ca, ...CREDENTIALS };
  const to = `oci://${host}/web:1`;
  await call(source, "component.push", { component: "web", to, access });
  const pull = () => call(destination, "component.pull", { from: to, access });
  await assert.rejects(pull(), code("agent.signature-refused"));
  const { id } = await source.parts.store.resolve("web");
  assert.equal(await destination.parts.store.hasBlob(id), false);
  await trust(destination, "messina-builds", await signAll(source));
  await call(source, "component.push", { component: "web", to, access });
  await call(source, "component.push", { component: "web", to, access });
  await pull();
  const input = { component: "web", signedBy: "messina-builds" };
  const { findings } = await call(destination, "component.verify", input);
  assert.deepEqual(findings, []);
  await rm(layoutOf(destination.root).signers, { recursive: true });
  await assert.rejects(
    call(destination, "component.verify", input),
    code("agent.signature-refused"),
  );
});
