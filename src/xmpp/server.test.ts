import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { hasCode, type ProcessIdentity } from "#core";
import { realWorld } from "#system";
import { createCertificates } from "./certificates.ts";
import { XmppClient } from "./client.ts";
import { xml } from "./element.ts";
import { NS } from "./namespaces.ts";
import { freePort } from "./ports.ts";
import { startServer } from "./server.ts";

const world = realWorld();
const anyPort = { host: "127.0.0.1", port: 0 };

test("an embedded server starts, logs its agent in and keeps its ports", async (context) => {
  const directory = await mkdtemp(join(tmpdir(), "tessera-xmpp-"));
  context.after(() => rm(directory, { recursive: true, force: true }));
  const certificates = await createCertificates(world, join(directory, "pki"), "alpha.example");
  const options = {
    directory: join(directory, "xmpp"),
    certificates,
    hostsRooms: true,
    c2s: anyPort,
    s2s: anyPort,
    peers: [],
  };
  const began = performance.now();
  const server = await startServer(world, options);
  context.diagnostic(`started in ${Math.round(performance.now() - began)} ms`);
  const client = new XmppClient(world, {
    account: server.account,
    address: server.c2s,
    ca: server.ca,
  });
  try {
    await client.start();
    assert.match(client.jid ?? "", /^agent@alpha\.example\/.+/);
    const reply = await client.ask({ type: "get", payload: xml(NS.ping, "ping") });
    assert.equal(reply.attributes["type"], "result");
  } finally {
    await client.stop();
    await server.stop();
  }
  const again = await startServer(world, options);
  await again.stop();
  assert.deepEqual([again.c2s, again.s2s], [server.c2s, server.s2s]);
});

test("a port that is taken is reported when it was configured", async (context) => {
  const directory = await mkdtemp(join(tmpdir(), "tessera-xmpp-"));
  context.after(() => rm(directory, { recursive: true, force: true }));
  const certificates = await createCertificates(world, join(directory, "pki"), "alpha.example");
  const holder = createServer();
  holder.listen(0, "127.0.0.1");
  await once(holder, "listening");
  context.after(() => holder.close());
  const { port } = holder.address() as AddressInfo;
  const started = startServer(world, {
    directory: join(directory, "xmpp"),
    certificates,
    hostsRooms: false,
    c2s: { host: "127.0.0.1", port: await freePort(world, "127.0.0.1") },
    s2s: { host: "127.0.0.1", port },
    peers: [],
  });
  await assert.rejects(started, (error) => hasCode(error, "xmpp.port-taken"));
});

test("domains that one authority could both speak for are refused", async (context) => {
  const directory = await mkdtemp(join(tmpdir(), "tessera-xmpp-"));
  context.after(() => rm(directory, { recursive: true, force: true }));
  const certificates = await createCertificates(world, join(directory, "pki"), "alpha.example");
  const common = { directory: join(directory, "xmpp"), certificates, hostsRooms: false };
  for (const domain of ["sub.alpha.example", "alpha.example", "rooms.alpha.example"]) {
    const options = { ...common, c2s: anyPort, s2s: anyPort, peers: [{ domain }] };
    await assert.rejects(startServer(world, options), (error) =>
      hasCode(error, "xmpp.domains-overlap"),
    );
  }
});

test("the server ends when the process that started it is killed", async (context) => {
  const directory = await mkdtemp(join(tmpdir(), "tessera-xmpp-"));
  context.after(() => rm(directory, { recursive: true, force: true }));
  const program = `
    import { realWorld } from "#system";
    import { createCertificates, startServer } from "#xmpp";
    const world = realWorld();
    const anyPort = { host: "127.0.0.1", port: 0 };
    const [directory] = process.argv.slice(-1);
    const certificates = await createCertificates(world, directory + "/pki", "alpha.example");
    const options = { certificates, hostsRooms: false, c2s: anyPort, s2s: anyPort, peers: [] };
    const server = await startServer(world, { directory: directory + "/xmpp", ...options });
    console.log(JSON.stringify(server.identity));
    await new Promise((resolve) => setTimeout(resolve, 60_000));
  `;
  const args = ["--input-type=module-typescript", "-e", program, "--", directory];
  const child = spawn(process.execPath, args, {
    cwd: join(import.meta.dirname, "../.."),
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = (await once(child.stdout, "data")) as [Buffer];
  const identity = JSON.parse(line.toString()) as ProcessIdentity;
  assert.ok(world.processes.alive(identity));
  child.kill("SIGKILL");
  await once(child, "exit");
  const deadline = performance.now() + 10_000;
  while (world.processes.alive(identity) && performance.now() < deadline) {
    await world.clock.sleep(20);
  }
  assert.ok(!world.processes.alive(identity), "the server survived");
});
