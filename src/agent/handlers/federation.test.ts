import assert from "node:assert/strict";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { OPERATIONS } from "#api";
import { cardFingerprint, temporaryAgentKey, type PeerCard } from "#federation";
import { createCertificates } from "#xmpp";
import { twoClouds, type TestCloud, type TestFederation } from "../clouds.suite.ts";
import { openPeers, type Peers } from "../peers.ts";
import { call, code } from "./call.suite.ts";

interface Allowing extends TestFederation {
  readonly cloud: TestCloud;
  readonly other: TestCloud;
  /** The real allow-list of `cloud`; what is in force there is what the federation trusts. */
  readonly peers: Peers;
}

async function allowing(t: TestContext): Promise<Allowing> {
  const federation = await twoClouds(t);
  const [cloud, other] = federation.clouds;
  const { cards } = federation;
  cards.splice(0, cards.length, cloud.card());
  const peers = await openPeers({
    world: cloud.world,
    directory: join(cloud.root, "peers"),
    own: cloud.card(),
    changed: (next) => {
      cards.splice(0, cards.length, cloud.card(), ...next);
      return Promise.resolve();
    },
  });
  return { ...federation, cloud, other, peers };
}

test("the agent tells who it is, as its schema says", async (t) => {
  const [cloud] = (await twoClouds(t)).clouds;
  const info = await call(cloud, "agent.info", {});
  assert.deepEqual(OPERATIONS["agent.info"].result.parse(info), info);
  const { candidates } = cloud.parts.dataServer.endpoint;
  assert.deepEqual(info, {
    cloud: "messina",
    domain: "messina.example",
    version: "test",
    directory: cloud.root,
    card: cloud.card(),
    fingerprint: cardFingerprint(cloud.card()),
    transport: { state: "online" },
    dataPort: candidates[0]?.port,
    accelerator: "tcg",
    started_ms: cloud.parts.started_ms,
  });
});

test("shutting down ends the agent and nothing else", async (t) => {
  const [cloud] = (await twoClouds(t)).clouds;
  let ended = 0;
  await call(cloud, "agent.shutdown", {}, { shutdown: () => void (ended += 1) });
  assert.equal(ended, 1);
});

test("a cloud is there once its card is added, and away once it is removed", async (t) => {
  const { cloud, other, peers } = await allowing(t);
  const changes = { peers };
  await cloud.restart();
  assert.deepEqual(await call(cloud, "cloud.list", {}, changes), { clouds: [] });
  const absent = call(cloud, "cloud.show", { cloud: "inquadro" }, changes);
  await assert.rejects(absent, code("federation.not-present"));
  const card = other.card();
  const status = { card, fingerprint: cardFingerprint(card), present: false };
  assert.deepEqual(await call(cloud, "peer.add", { card }, changes), status);
  await other.restart();
  const present = { ...status, present: true };
  assert.deepEqual(await call(cloud, "peer.list", {}, changes), { peers: [present] });
  assert.deepEqual(await call(cloud, "peer.add", { card }, changes), present);
  const { clouds } = await call(cloud, "cloud.list", {}, changes);
  assert.deepEqual(
    clouds.map((seen) => seen.cloud),
    ["inquadro"],
  );
  const shown = await call(cloud, "cloud.show", { cloud: "inquadro" }, changes);
  assert.deepEqual([shown.offer.cloud, shown.cloud.cloud], ["inquadro", "inquadro"]);
  assert.deepEqual(OPERATIONS["cloud.show"].result.parse(shown), shown);
  const removed = await call(cloud, "peer.remove", { cloud: "inquadro" }, changes);
  assert.deepEqual(removed, { removed: "inquadro" });
  assert.deepEqual(await call(cloud, "peer.list", {}, changes), { peers: [] });
  assert.deepEqual(await call(cloud, "cloud.list", {}, changes), { clouds: [] });
  const gone = call(cloud, "cloud.show", { cloud: "inquadro" }, changes);
  await assert.rejects(gone, code("federation.not-present"));
  await assert.rejects(
    cloud.parts.transport.confirmOffer("inquadro"),
    code("federation.unreachable"),
  );
  const again = call(cloud, "peer.remove", { cloud: "inquadro" }, changes);
  await assert.rejects(again, code("agent.peer-unknown"));
});

test("a cloud that was removed is not heard either", async (t) => {
  const { cloud, other, peers, cards } = await allowing(t);
  const card = other.card();
  await call(cloud, "peer.add", { card }, { peers });
  await other.restart();
  assert.equal((await other.parts.transport.confirmOffer("messina")).cloud, "messina");
  await call(cloud, "peer.remove", { cloud: "inquadro" }, { peers });
  assert.deepEqual(cards, [cloud.card()]);
  await assert.rejects(other.parts.transport.confirmOffer("messina"), /is not a peer/);
});

test("a card that clashes, is malformed or has a bad authority is not trusted", async (t) => {
  const { cloud, other, peers } = await allowing(t);
  const { ca } = await createCertificates(cloud.world, join(cloud.root, "pki"), "evil.example");
  const agentKey = temporaryAgentKey().publicKey;
  await call(cloud, "peer.add", { card: other.card() }, { peers });
  const evil = { cloud: "evil", domain: "evil.example", jid: "agent@evil.example", agentKey };
  const bad: readonly [string, PeerCard][] = [
    ["agent.peer-clash", { ...other.card(), agentKey }],
    ["agent.peer-clash", { ...evil, cloud: "messina" }],
    ["agent.peer-clash", { ...other.card(), cloud: "evil" }],
    ["federation.card-invalid", { ...evil, jid: "agent@inquadro.example" }],
    ["federation.card-invalid", { ...evil, agentKey: "no key" }],
    ["federation.card-invalid", { ...evil, xmppAddress: { host: "evil example", port: 1 } }],
    ["xmpp.ca-unconstrained", { ...evil, xmppCa: "no certificate" }],
    ["xmpp.ca-unconstrained", { ...evil, domain: "a.example", jid: "agent@a.example", xmppCa: ca }],
  ];
  for (const [expected, card] of bad) {
    const added = call(cloud, "peer.add", { card }, { peers });
    await assert.rejects(added, code(expected), JSON.stringify(card));
  }
  assert.deepEqual(peers.list(), [other.card()]);
  await call(cloud, "peer.add", { card: { ...evil, xmppCa: ca } }, { peers });
  assert.equal(peers.list().length, 2);
});
