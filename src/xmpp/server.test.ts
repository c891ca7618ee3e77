import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { realWorld } from "#system";
import { createCertificates } from "./certificates.ts";
import { XmppClient } from "./client.ts";
import { xml } from "./element.ts";
import { NS } from "./namespaces.ts";
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
