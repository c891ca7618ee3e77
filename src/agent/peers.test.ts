import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, writeFile, mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { hasCode, TesseraError, type Log, type World } from "#core";
import { encodeCard, parseCard, temporaryAgentKey, type PeerCard } from "#federation";
import { realWorld } from "#system";
import { createCertificates } from "#xmpp";
import { openPeers, type Peers, type PeersOptions } from "./peers.ts";

const code = (text: string) => (error: unknown) => hasCode(error, text);
const OWN = card("messina");

function card(cloud: string, more: Partial<PeerCard> = {}): PeerCard {
  const domain = more.domain ?? `${cloud}.example`;
  const agentKey = temporaryAgentKey().publicKey;
  return { cloud, domain, jid: `agent@${domain}`, agentKey, ...more };
}

interface Opened {
  readonly root: string;
  readonly directory: string;
  /** The clouds of every change that was put in force. */
  readonly forced: string[][];
  readonly open: (options?: { world?: World; changed?: PeersOptions["changed"] }) => Promise<Peers>;
}

async function opened(t: TestContext): Promise<Opened> {
  const root = await mkdtemp(join(tmpdir(), "tessera-peers-"));
  t.after(() => rm(root, { recursive: true, force: true }));
  const directory = join(root, "peers");
  const forced: string[][] = [];
  const changed: PeersOptions["changed"] = (cards) => {
    forced.push(cards.map(({ cloud }) => cloud));
    return Promise.resolve();
  };
  const open: Opened["open"] = ({ world = realWorld(), ...more } = {}) =>
    openPeers({ world, directory, own: OWN, changed, ...more });
  return { root, directory, forced, open };
}

const names = (peers: Peers): string[] => peers.list().map(({ cloud }) => cloud);

test("a card is in force and kept; a removed one is neither, also after a restart", async (t) => {
  const { directory, forced, open } = await opened(t);
  const peers = await open();
  const [a, b] = [card("a", { xmppAddress: { host: "a.example", port: 5270 } }), card("b")];
  await peers.add(a);
  await peers.add(b);
  assert.deepEqual(forced, [["a"], ["a", "b"]]);
  assert.deepEqual(parseCard(await readFile(join(directory, "a.json"), "utf8")), a);
  assert.deepEqual((await open()).list(), [a, b]);
  await peers.remove("a");
  assert.deepEqual(forced.at(-1), ["b"]);
  assert.equal(peers.find("a"), undefined);
  assert.deepEqual((await open()).list(), [b]);
  await assert.rejects(peers.remove("a"), code("agent.peer-unknown"));
});

test("a second card must not take over a first one's name, key or domain, nor ours", async (t) => {
  const { directory, forced, open } = await opened(t);
  const peers = await open();
  const known = card("known");
  await peers.add(known);
  await peers.add(card("below", { domain: "below.above.example" }));
  const clashing: readonly [string, PeerCard][] = [
    ["our name", card("messina", { domain: "other.example" })],
    ["our key", card("other", { agentKey: OWN.agentKey })],
    ["our domain", card("other", { domain: OWN.domain })],
    ["below our domain", card("other", { domain: `x.${OWN.domain}` })],
    ["its name, another key", card("known")],
    ["its key", card("other", { agentKey: known.agentKey })],
    ["its domain", card("other", { domain: known.domain, jid: `other@${known.domain}` })],
    ["below its domain", card("other", { domain: `x.${known.domain}` })],
    ["above its domain", card("other", { domain: "above.example" })],
  ];
  for (const [what, other] of clashing) {
    await assert.rejects(peers.add(other), code("agent.peer-clash"), what);
  }
  assert.deepEqual(names(peers), ["known", "below"]);
  assert.deepEqual(await readdir(directory), ["below.json", "known.json"]);
  assert.equal(forced.length, 2);
});

test("a cloud that moves sends a new card with its old key", async (t) => {
  const { open } = await opened(t);
  const peers = await open();
  const before = card("a");
  const after = { ...before, domain: "moved.example", jid: "agent@moved.example" };
  await peers.add(before);
  await peers.add(after);
  assert.deepEqual(peers.list(), [after]);
  assert.deepEqual((await open()).list(), [after]);
});

test("a card is checked whichever way it comes", async (t) => {
  const { directory, open } = await opened(t);
  const peers = await open();
  const bad: readonly PeerCard[] = [
    card("../a"),
    card("A"),
    card("a", { agentKey: "AAAA" }),
    card("a", { jid: "agent@elsewhere.example" }),
    card("a", { domain: "-" }),
    card("a", { xmppAddress: { host: "a b", port: 1 } }),
    card("a", { xmppAddress: { host: "a.example", port: 0 } }),
    { ...card("a"), more: 1 } as PeerCard,
  ];
  for (const one of bad) await assert.rejects(peers.add(one), code("federation.card-invalid"));
  await assert.rejects(readdir(directory), { code: "ENOENT" });
});

test("an authority that is not held to the peer's domain is refused and not kept", async (t) => {
  const { root, directory, forced, open } = await opened(t);
  const world = realWorld();
  const { ca } = await createCertificates(world, join(root, "pki"), "a.example");
  const peers = await open();
  const refused = code("xmpp.ca-unconstrained");
  await assert.rejects(peers.add(card("b", { xmppCa: ca })), refused, "of another domain");
  await assert.rejects(peers.add(card("a", { xmppCa: `${ca}${ca}` })), refused, "two");
  await assert.rejects(peers.add(card("a", { xmppCa: "no PEM" })), refused, "none");
  assert.deepEqual([names(peers), forced], [[], []]);
  await assert.rejects(readdir(directory), { code: "ENOENT" });
  await peers.add(card("a", { xmppCa: ca }));
  assert.deepEqual(await readdir(directory), ["a.json"]);
});

test("what cannot be put in force is not kept, and takes nothing else with it", async (t) => {
  const { directory, open } = await opened(t);
  const refusal = new TesseraError("environment", "xmpp.server-failed", "no");
  let force: string[] = [];
  const peers = await open({
    changed: async (cards) => {
      await new Promise(setImmediate);
      force = cards.map(({ cloud }) => cloud);
      if (force.includes("bad")) throw refusal;
    },
  });
  const results = await Promise.allSettled(
    [card("bad"), card("a"), card("b")].map((one) => peers.add(one)),
  );
  assert.deepEqual(
    results.map(({ status }) => status),
    ["rejected", "fulfilled", "fulfilled"],
  );
  assert.deepEqual(
    [names(peers), force],
    [
      ["a", "b"],
      ["a", "b"],
    ],
  );
  await assert.rejects(peers.add(card("bad")), refusal);
  assert.deepEqual(
    [names(peers), force],
    [
      ["a", "b"],
      ["a", "b"],
    ],
  );
  assert.deepEqual(await readdir(directory), ["a.json", "b.json"]);
});

test("a card that cannot be written is not in force", async (t) => {
  const { forced, open } = await opened(t);
  const { files, ...rest } = realWorld();
  const full = new TesseraError("environment", "system.disk-full", "full");
  const world = { ...rest, files: { ...files, writeFileAtomic: () => Promise.reject(full) } };
  const peers = await open({ world });
  await assert.rejects(peers.add(card("a")), full);
  assert.deepEqual([names(peers), forced], [[], [["a"], []]]);
});

test("a cloud that is to be trusted no longer is not, whatever fails", async (t) => {
  const { open } = await opened(t);
  let failing = false;
  const peers = await open({
    changed: () => (failing ? Promise.reject(new Error("no server")) : Promise.resolve()),
  });
  await peers.add(card("a"));
  failing = true;
  await assert.rejects(peers.remove("a"), /no server/);
  assert.deepEqual(peers.list(), []);
  assert.deepEqual((await open()).list(), []);
});

test("a card that cannot be read, or is under another's name, is told and not trusted", async (t) => {
  const { directory, open } = await opened(t);
  await mkdir(directory);
  const good = card("good");
  await writeFile(join(directory, "good.json"), encodeCard(good));
  await writeFile(join(directory, "half.json"), encodeCard(card("half")).slice(0, 40));
  await writeFile(join(directory, "alias.json"), encodeCard(card("real")));
  await writeFile(join(directory, "huge.json"), " ".repeat(2 ** 18 + 1));
  await writeFile(join(directory, "good.json.0.new"), "left by a crash");
  const logged: string[] = [];
  const log: Log = {
    log: (_level, _message, fields) => logged.push(String(fields?.["path"])),
    with: () => log,
  };
  const peers = await open({ world: realWorld(log) });
  assert.deepEqual(peers.list(), [good]);
  const left = ["alias", "half", "huge"].map((name) => join(directory, `${name}.json`));
  assert.deepEqual(logged.toSorted(), left);
});
