/** What a member or a stranger can try, on real servers: doc/threat-model.md lists the same. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { hasCode, type Json } from "#core";
import { realWorld } from "#system";
import { bareOf, childOf, conditionOf, NS, stanza, xml, XmppClient, type XmlElement } from "#xmpp";
import {
  misses,
  sees,
  startClouds,
  testOffer,
  until,
  type TestCloud,
  type TestClouds,
} from "./clouds.suite.ts";
import { seal, type Envelope } from "./envelope.ts";
import { temporaryAgentKey } from "./key.ts";
import { MIGRATION_NS, OFFER_NS, requestPayload } from "./stanzas.ts";
import { approach, enter, forge, readCredentials, Wire, type Credentials } from "./wire.suite.ts";
import type { XmppTransport } from "./xmpp-transport.ts";

const world = realWorld();
let clouds: TestClouds;
let alpha: TestCloud;
let beta: TestCloud;
let gamma: TestCloud;

/** Alpha hosts the room, beta is an honest member, gamma's operator is the attacker. */
before(async () => {
  clouds = await startClouds(world, ["alpha", "beta", "gamma"]);
  [alpha, beta, gamma] = ["alpha", "beta", "gamma"].map((name) => clouds.cloud(name)) as [
    TestCloud,
    TestCloud,
    TestCloud,
  ];
});
after(() => clouds.stop());

function ownCredentials(cloud: TestCloud): Promise<Credentials> {
  return readCredentials(world, join(cloud.pki, "server.pem"), join(cloud.pki, "server-key.pem"));
}

/** A client of gamma's operator, or of whoever took over that account's server. */
async function intruder(cloud: TestCloud): Promise<XmppClient> {
  const { account, c2s: address, ca } = cloud.server;
  const client = new XmppClient(world, { account, address, ca });
  await client.start();
  return client;
}

describe("a server that pretends to be another", () => {
  const refusals: readonly [string, string, () => Promise<Credentials | undefined>, string][] = [
    ["without a certificate", "beta.example", async () => undefined, "policy-violation"],
    [
      "with a certificate of an unknown CA",
      "beta.example",
      () => forge(world, gamma.pki, "DNS:beta.example"),
      "not-authorized",
    ],
    [
      "with the certificate of another peer",
      "beta.example",
      () => ownCredentials(gamma),
      "policy-violation",
    ],
    [
      "with its name signed by another peer's CA",
      "beta.example",
      () => forge(world, gamma.pki, "DNS:beta.example", { directory: gamma.pki }),
      "not-authorized",
    ],
    [
      "with its xmppAddr signed by another peer's CA, which name constraints do not cover",
      "beta.example",
      () =>
        forge(world, gamma.pki, "otherName:1.3.6.1.5.5.7.8.5;UTF8:beta.example,DNS:gamma.example", {
          directory: gamma.pki,
        }),
      "policy-violation",
    ],
    [
      "with a sound certificate but no place on the list",
      "sub.gamma.example",
      () => forge(world, gamma.pki, "DNS:sub.gamma.example", { directory: gamma.pki }),
      "policy-violation",
    ],
  ];
  for (const [name, from, credentials, condition] of refusals) {
    it(`is refused ${name}`, async () => {
      const { s2s } = alpha.server;
      const { wire, said } = await approach(s2s.port, from, "alpha.example", await credentials());
      assert.ok(!said.includes("EXTERNAL"), said);
      assert.match(said, new RegExp(`<${condition} `));
      await wire.closes();
    });
  }

  it("is let in under its own name, so that the refusals above mean something", async () => {
    const { s2s } = alpha.server;
    const own = await ownCredentials(gamma);
    const wire = await enter(s2s.port, "gamma.example", "alpha.example", own);
    wire.hangUp();
  });
});

function message(from: string, inside: string): string {
  return `<message from="${from}" to="agent@alpha.example">${inside}</message>`;
}

describe("a listed server that breaks the rules", () => {
  const breaches: readonly [string, string, RegExp][] = [
    ["forges another domain", message("agent@beta.example/x", "<body/>"), /<stream:error>/],
    ["sends a document type", '<!DOCTYPE x [<!ENTITY a "b">]>', /<stream:error>/],
    ["sends an unknown entity", message("agent@gamma.example/x", "&xxe;"), /<stream:error>/],
    ["sends a comment", "<!-- hidden -->", /<stream:error>/],
    [
      "sends a stanza of 600 kB",
      message("agent@gamma.example/x", `<body>${"x".repeat(600_000)}</body>`),
      /policy-violation/,
    ],
  ];
  for (const [name, text, expected] of breaches) {
    it(`is cut off when it ${name}`, async () => {
      const own = await ownCredentials(gamma);
      const wire = await enter(alpha.server.s2s.port, "gamma.example", "alpha.example", own);
      wire.says(text);
      await wire.hears(expected);
      await wire.closes();
    });
  }

  it("cannot disturb an agent with 20,000 nested elements", async () => {
    const agent = await intruder(alpha);
    const heard = Promise.withResolvers<XmlElement>();
    agent.onStanza((element) => {
      if (element.name === "message") heard.resolve(element);
    });
    let interrupted = false;
    agent.onOffline(() => {
      interrupted = true;
    });
    agent.send(stanza("presence", {}));
    const own = await ownCredentials(gamma);
    const wire = await enter(alpha.server.s2s.port, "gamma.example", "alpha.example", own);
    const to = agent.jid ?? "";
    const deep = `${"<a>".repeat(20_000)}${"</a>".repeat(20_000)}`;
    wire.says(`<message from="agent@gamma.example/x" to="${to}">${deep}</message>`);
    wire.says(`<message from="agent@gamma.example/x" to="${to}"><body>after</body></message>`);
    const body = childOf(await heard.promise, NS.client, "body");
    assert.ok(body, "the deep message was delivered");
    assert.equal(interrupted, false);
    wire.hangUp();
    await agent.stop();
  });
});

describe("a client that breaks the rules", () => {
  for (const [name, text] of [
    ["a document type", '<!DOCTYPE x [<!ENTITY a "b">]>'],
    ["a stanza of 300 kB before it has logged in", `<iq><a>${"x".repeat(300_000)}</a></iq>`],
  ] as const) {
    it(`is cut off for ${name}`, async () => {
      const wire = await Wire.toClientPort(alpha.server.c2s.port, "alpha.example");
      wire.opens("x@alpha.example", "alpha.example", "jabber:client");
      await wire.hears(/<\/stream:features>/);
      wire.says(text);
      await wire.hears(/<stream:error>/);
      await wire.closes();
    });
  }

  it("is offered nothing weaker than SCRAM-SHA-256", async () => {
    const wire = await Wire.toClientPort(alpha.server.c2s.port, "alpha.example");
    wire.opens("x@alpha.example", "alpha.example", "jabber:client");
    const features = await wire.hears(/<stream:features>.*<\/stream:features>/s);
    const offered = [...features.matchAll(/<mechanism>([^<]*)</g)].map((match) => match[1]);
    assert.ok(offered.includes("SCRAM-SHA-256"), features);
    assert.deepEqual(
      offered.filter((mechanism) => !mechanism?.startsWith("SCRAM-SHA-256")),
      [],
    );
    wire.hangUp();
  });
});

async function refusedAs(code: string, asked: Promise<XmlElement>): Promise<void> {
  await assert.rejects(asked, (error: Error) => {
    assert.ok(conditionOf(error) !== undefined, String(error));
    const element = (error.cause as { element: XmlElement }).element;
    assert.equal(childOf(element, MIGRATION_NS, "reason")?.attributes["code"], code);
    return true;
  });
}

function signRaw(text: string): { text: string; signature: string } {
  const signature = gamma.key.sign(Buffer.from(`tessera-federation-1\n${text}`));
  return { text, signature };
}

describe("a member that lies", () => {
  let atAlpha: XmppTransport;
  let atBeta: XmppTransport;
  let evil: XmppClient;
  const handled: string[] = [];

  before(async () => {
    atAlpha = alpha.transport();
    atBeta = beta.transport();
    await Promise.all([
      atAlpha.start(async (from): Promise<Json> => {
        handled.push(from);
        return null;
      }),
      atBeta.start(async () => null),
    ]);
    await Promise.all([sees(atAlpha, "beta"), sees(atBeta, "alpha")]);
    evil = await intruder(gamma);
  });
  after(async () => {
    await evil.stop();
    await Promise.all([atAlpha.stop(), atBeta.stop()]);
  });

  const alphaJid = (): string => atBeta.peers().find(({ cloud }) => cloud === "alpha")?.jid ?? "";

  function envelope(change: Partial<Envelope> = {}): Envelope {
    return {
      v: 1,
      kind: "request",
      from: evil.jid ?? "",
      to: alphaJid(),
      session: "s",
      action: "session-info",
      nonce: world.random.uuid(),
      expires_ms: Date.now() + 30_000,
      body: null,
      ...change,
    };
  }

  function sendSealed(sealed: { text: string; signature: string }): Promise<XmlElement> {
    const to = alphaJid();
    const parcel = { to, session: "s", action: "session-info", sealed } as const;
    return evil.ask({ to, type: "set", payload: requestPayload(parcel, evil.jid ?? "") });
  }

  it("has its honest request handled once, and the same one never again", async () => {
    const sealed = seal(gamma.key, envelope());
    const before = handled.length;
    await sendSealed(sealed);
    await refusedAs("federation.replayed", sendSealed(sealed));
    assert.deepEqual(handled.slice(before), ["gamma"]);
  });

  const lies: readonly [string, () => Promise<XmlElement>, string][] = [
    [
      "signs with a key that is not pinned, as its server could for it",
      () => sendSealed(seal(temporaryAgentKey(), envelope())),
      "federation.forged",
    ],
    [
      "names another sender in its envelope",
      () => sendSealed(seal(gamma.key, envelope({ from: "agent@beta.example/x" }))),
      "federation.forged",
    ],
    [
      "sends on what was meant for another",
      () => sendSealed(seal(gamma.key, envelope({ to: "agent@beta.example/x" }))),
      "federation.forged",
    ],
    [
      "sends an answer as a request",
      () => sendSealed(seal(gamma.key, envelope({ kind: "answer" }))),
      "federation.forged",
    ],
    [
      "sends what has long expired",
      () => sendSealed(seal(gamma.key, envelope({ expires_ms: Date.now() - 120_000 }))),
      "federation.stale",
    ],
    [
      "sends what is good for ever",
      () => sendSealed(seal(gamma.key, envelope({ expires_ms: Date.now() + 86_400_000 }))),
      "federation.stale",
    ],
    [
      "sends 1,000 nested lists",
      () => sendSealed(signRaw(`{"body":${"[".repeat(1000)}${"]".repeat(1000)}}`)),
      "federation.malformed",
    ],
    ["sends no JSON", () => sendSealed(signRaw("hello")), "federation.malformed"],
  ];
  for (const [name, lie, code] of lies) {
    it(`is refused when it ${name}`, async () => {
      const before = handled.length;
      await refusedAs(code, lie());
      assert.equal(handled.length, before);
    });
  }

  it("cannot speak under another address: its server writes the true one", async () => {
    const sealed = seal(gamma.key, envelope({ from: "agent@beta.example/x" }));
    const parcel = { to: alphaJid(), session: "s", action: "session-info", sealed } as const;
    const before = handled.length;
    evil.send(
      stanza(
        "iq",
        { to: alphaJid(), from: "agent@beta.example/x", type: "set", id: "spoof" },
        requestPayload(parcel, "agent@beta.example/x"),
      ),
    );
    // The next honest question is answered after the spoofed one was judged.
    await sendSealed(seal(gamma.key, envelope()));
    assert.deepEqual(handled.slice(before), ["gamma"]);
  });

  it("is nobody once it is off the list, and is told so", async () => {
    const listed = alpha.peers;
    alpha.peers = listed.filter(({ cloud }) => cloud !== "gamma");
    await refusedAs("federation.not-a-peer", sendSealed(seal(gamma.key, envelope())));
    alpha.peers = listed;
  });

  it("cannot put another's address into its presence, nor take a nick", async () => {
    const nicks = Promise.withResolvers<string>();
    const conflict = Promise.withResolvers<XmlElement>();
    evil.onStanza((element) => {
      const item = childOf(childOf(element, NS.mucUser, "x"), NS.mucUser, "item");
      const from = element.attributes["from"] ?? "";
      if (bareOf(item?.attributes["jid"] ?? "") === "agent@beta.example") nicks.resolve(from);
      if (element.attributes["type"] === "error") conflict.resolve(element);
    });
    const claim = xml(
      NS.mucUser,
      "x",
      {},
      xml(NS.mucUser, "item", { jid: "agent@beta.example/y" }),
    );
    const offer = xml(OFFER_NS, "offer", {}, JSON.stringify(testOffer("beta", 99)));
    const join = (to: string): void =>
      evil.send(stanza("presence", { to }, xml(NS.muc, "x"), claim, offer));
    join(`${clouds.room}/wolf`);
    await sees(atAlpha, "gamma");
    const betas = atAlpha.peers().filter(({ cloud }) => cloud === "beta");
    assert.deepEqual([betas.length, betas[0]?.offer], [1, undefined]);
    assert.notEqual(betas[0]?.jid, "agent@beta.example/y");
    const gammas = atAlpha.peers().find(({ cloud }) => cloud === "gamma");
    assert.equal(gammas?.offer, undefined, "an offer in another cloud's name counts for nothing");
    join(await nicks.promise);
    const error = childOf(await conflict.promise, NS.client, "error");
    assert.ok(childOf(error, NS.stanzas, "conflict"));
  });

  it("is put out of the room when it is no longer a peer", async () => {
    const listed = alpha.peers;
    alpha.peers = listed.filter(({ cloud }) => cloud !== "gamma");
    const put = Promise.withResolvers<void>();
    evil.onStanza((element) => {
      if (element.attributes["type"] === "unavailable") put.resolve();
    });
    await atAlpha.refreshPeers();
    await put.promise;
    await misses(atBeta, "gamma");
    alpha.peers = listed;
    await atAlpha.refreshPeers();
  });
});

describe("the host of the room", () => {
  it("can forge a presence, but not its confirmation", async () => {
    const atBeta = beta.transport();
    await atBeta.start(async () => null);
    const ghost = "agent@gamma.example/ghost";
    const own = await ownCredentials(alpha);
    const from = "rooms.alpha.example";
    const wire = await enter(beta.server.s2s.port, from, "beta.example", own);
    const jid = atBeta.address();
    wire.says(
      `<presence from="${clouds.room}/ghost" to="${jid}"><x xmlns="${NS.mucUser}">` +
        `<item jid="${ghost}" affiliation="member" role="participant"/></x>` +
        `<offer xmlns="${OFFER_NS}">${JSON.stringify(testOffer("gamma", 1))}</offer></presence>`,
    );
    const forgedOffer = (): boolean => atBeta.peers().some(({ offer }) => offer?.seq === 1);
    await until(atBeta, "the forged presence is believed as a hint", forgedOffer);
    await assert.rejects(atBeta.confirmOffer("gamma"), (error) =>
      hasCode(error, "federation.unreachable"),
    );
    wire.hangUp();
    await atBeta.stop();
  });
});
