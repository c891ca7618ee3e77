/** A registry above the repository, against a real docker-registry. */
import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { CREDENTIALS, startRegistry } from "../../registry/registry.suite.ts";
import { twoClouds, type TestCloud } from "../clouds.suite.ts";
import type { Config, UpstreamConfig } from "../config.ts";
import { call, code } from "../handlers/call.suite.ts";

const NAMES = ["kernel", "os", "web"];

function features(): { fileName: string; text: string } {
  const resources = "resources: {cpus: 1, memory: 256M, data: 64M}";
  const text = `{name: app, kernel: kernel, os: os, programs: ['web@>=1'], ${resources}}`;
  return { fileName: "app.yaml", text };
}

function upstreamAt(host: string, changes: Partial<UpstreamConfig> = {}): Partial<Config> {
  const registry = { host, name: "cloud" };
  const plain = { plainHttp: false, push: false, pricePerGB: 0 };
  return { upstream: { registry, ...plain, link: 10e9, ...changes } };
}

/** What makes a cloud's registry hold all that it does. */
async function fill({ parts }: TestCloud): Promise<void> {
  const { signal } = new AbortController();
  for (const name of NAMES) await parts.upstream?.push(await parts.store.resolve(name), { signal });
}

function idsOf(list: readonly { readonly id: string }[]): string[] {
  return list.map(({ id }) => id).toSorted();
}

async function registryNobodyAnswers(t: TestContext): Promise<string> {
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => new Promise((resolve) => server.close(resolve)));
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

test("what no member holds is found above, listed, pulled, and a machine is made of it", async (t) => {
  const { host, ca = "" } = await startRegistry(t, { secure: true });
  const secrets = { caFile: "ca.pem", passwordFile: "secret", username: CREDENTIALS.username };
  const config = upstreamAt(host, secrets);
  const { clouds } = await twoClouds(t, { config, sourceConfig: config });
  const [full, empty] = clouds;
  for (const { root } of clouds) {
    await writeFile(join(root, "ca.pem"), ca);
    await writeFile(join(root, "secret"), `${CREDENTIALS.password}\n`);
  }
  await fill(full);
  const all = await full.parts.store.list();
  await full.stop();

  const listed = await call(empty, "component.list", { upstream: true });
  const filled = all.filter(({ description: { name } }) => NAMES.includes(name));
  assert.deepEqual(idsOf(listed.components), idsOf(filled));
  const programs = await call(empty, "component.list", { upstream: true, kind: "program" });
  assert.deepEqual(
    programs.components.map(({ description: { name } }) => name),
    ["web"],
  );

  const selection = await call(empty, "machine.select", { features: features() });
  assert.equal(selection.fits, true);
  assert.deepEqual(selection.features[2]?.clouds, [`oci://${host}/cloud`]);
  const machine = await call(empty, "machine.create", { name: "web-1", features: features() });
  assert.deepEqual((await empty.parts.store.verify()).findings, []);
  assert.deepEqual(idsOf(await empty.parts.store.list()), idsOf(filled));

  // A kept appliance whose components have gone meanwhile is completed as well.
  await call(empty, "appliance.add", features());
  await call(empty, "machine.remove", { machine: machine.uuid });
  await call(empty, "component.remove", { component: "web" });
  const again = await call(empty, "machine.create", { name: "web-2", appliance: "app" });
  assert.equal(again.appliance.programs[0]?.id, machine.appliance.programs[0]?.id);
  assert.equal((await empty.parts.store.list()).length, 3);
});

test("what is made goes there, and comes from there where that is cheaper and it is signed", async (t) => {
  const { host } = await startRegistry(t);
  const config = {
    ...upstreamAt(host),
    signatures: { required: { [host]: ["builds"] } },
  };
  const sourceConfig = { ...upstreamAt(host, { push: true }), egressPricePerGB: 1 };
  const [source, destination] = (await twoClouds(t, { config, sourceConfig })).clouds;
  const path = join(source.root, "repository");
  const added = await call(source, "component.add", { source: { from: "oci-layout", path } });
  assert.equal(added.remarks, undefined);
  // What is signed later is sent again.
  const { publicKey } = await call(source, "component.sign", { component: "kernel" });
  await mkdir(destination.parts.layout.signers, { recursive: true });
  await writeFile(join(destination.parts.layout.signers, "builds.pem"), publicKey);
  assert.equal((await call(source, "component.list", { upstream: true })).components.length, 4);

  const uuid = await source.machine("web-1", { stopped: true });
  const id = await source.migrate(uuid, destination.name);
  const record = await destination.settled(id);
  assert.equal(record.phase, "completed");
  const components = record.receipt?.receipt.components ?? [];
  const above = ({ sources = {} }: { readonly sources?: Readonly<Record<string, number>> }) =>
    Object.keys(sources).includes(`oci://${host}/cloud`);
  assert.deepEqual(
    components.map((one) => [one.name, above(one), one.bytes > 0]),
    [
      ["kernel", true, true],
      ["os", false, true],
      ["web", false, true],
    ],
  );
  const remarks = destination.parts.journal
    .entries(id)
    .filter(({ event }) => event === "upstream")
    .map(({ detail }) => detail ?? "");
  assert.match(remarks.join("\n"), /requires that web 1 is signed by builds/);
});

test("away, it is a remark: the source sends, and the members are asked", async (t) => {
  const host = await registryNobodyAnswers(t);
  const config = upstreamAt(host, { push: true });
  const [source, destination] = (
    await twoClouds(t, { config, sourceConfig: { egressPricePerGB: 1 } })
  ).clouds;
  const selection = await call(destination, "machine.select", { features: features() });
  assert.equal(selection.fits, true);
  assert.match(selection.remarks?.[0] ?? "", /does not say what it has: registry 127/);
  const uuid = await source.machine("web-1", { stopped: true });
  const id = await source.migrate(uuid, destination.name);
  assert.equal((await destination.settled(id)).phase, "completed");
  const entries = destination.parts.journal.entries(id);
  assert.ok(
    entries.some(({ event, detail }) => event === "upstream" && /does not come/.test(detail ?? "")),
  );
  const listed = call(destination, "component.list", { upstream: true });
  await assert.rejects(listed, code("registry.unreachable"));
  await assert.rejects(
    call(source, "component.list", { upstream: true }),
    code("agent.upstream-none"),
  );
});
