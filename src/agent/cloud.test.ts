import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { hasCode } from "#core";
import { encodeCard, parseCard, temporaryAgentKey } from "#federation";
import { realWorld } from "#system";
import { requireConstrainedCa } from "#xmpp";
import { cardOf, initCloud, loadCloud } from "./cloud.ts";
import { parseConfig } from "./config.ts";

const code = (text: string) => (error: unknown) => hasCode(error, text);
const NAMES = { name: "messina", domain: "messina.example" };

async function directoryOf(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "tessera-cloud-"));
  t.after(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

test("a new cloud's configuration can be read, and its card taken", async (t) => {
  const world = realWorld();
  const root = join(await directoryOf(t), "new");
  const made = await initCloud(world, root, NAMES);
  const loaded = await loadCloud(world, root);
  assert.deepEqual(loaded.config, made.config);
  assert.deepEqual(cardOf(loaded), cardOf(made));
  assert.deepEqual(parseConfig(await readFile(join(root, "cloud.yaml"), "utf8"), ""), made.config);
  assert.equal(made.config.room, "federation@rooms.messina.example");
  assert.deepEqual(parseCard(encodeCard(cardOf(made))), cardOf(made));
  assert.equal((await stat(join(root, "keys"))).mode & 0o777, 0o700);
  assert.equal((await stat(join(root, "keys", "agent.pem"))).mode & 0o777, 0o600);
});

test("every option is in the configuration", async (t) => {
  const root = await directoryOf(t);
  const { config } = await initCloud(realWorld(), root, {
    ...NAMES,
    region: "eu",
    room: "room@rooms.other.example",
    host: "127.0.0.1",
    advertise: "192.0.2.1",
    clientPort: 1,
    serverPort: 2,
    dataPort: 3,
    advertiseDataPort: 4,
    cpus: 5,
    memory: "6G",
    link: "7Mbit/s",
  });
  const { cloud, domain, region, room, xmpp, data, resources, link } = config;
  assert.deepEqual(
    { cloud, domain, region, room, xmpp, data, resources, link },
    {
      cloud: "messina",
      domain: "messina.example",
      region: "eu",
      room: "room@rooms.other.example",
      xmpp: {
        server: "embedded",
        host: "127.0.0.1",
        clientPort: 1,
        serverPort: 2,
        advertise: { host: "192.0.2.1", port: 2 },
      },
      data: { host: "127.0.0.1", port: 3, advertise: [{ host: "192.0.2.1", port: 4 }] },
      resources: { cpus: 5, memory: 6 * 2 ** 30 },
      link: 7e6,
    },
  );
});

test("a cloud is not made where one is, and what is there stays", async (t) => {
  const root = await directoryOf(t);
  const first = cardOf(await initCloud(realWorld(), root, NAMES));
  const again = initCloud(realWorld(), root, { name: "other", domain: "other.example" });
  await assert.rejects(again, code("agent.cloud-exists"));
  assert.deepEqual(cardOf(await loadCloud(realWorld(), root)), first);
});

test("a cloud that cannot be made leaves nothing, and can be made after all", async (t) => {
  const root = join(await directoryOf(t), "new");
  const world = realWorld();
  const wrong = [
    ["agent.config-invalid", { ...NAMES, name: "Messina" }],
    ["agent.config-invalid", { ...NAMES, domain: "a b" }],
    ["xmpp.domain-invalid", { ...NAMES, domain: "messina" }],
    ["xmpp.domain-invalid", { ...NAMES, domain: "-.example" }],
    ["agent.config-invalid", { ...NAMES, advertise: "not a host" }],
    ["agent.config-invalid", { ...NAMES, memory: "much" }],
    ["agent.config-invalid", { ...NAMES, cpus: 0 }],
    ["agent.config-invalid", { ...NAMES, serverPort: 65536 }],
  ] as const;
  for (const [expected, options] of wrong) {
    await assert.rejects(initCloud(world, root, options), code(expected), JSON.stringify(options));
    await assert.rejects(readdir(root), { code: "ENOENT" });
  }
  const { processes } = world;
  const without = { ...world, processes: { ...processes, run: () => Promise.reject(new Error()) } };
  await assert.rejects(initCloud(without, root, NAMES));
  await assert.rejects(loadCloud(world, root), code("agent.cloud-missing"));
  await initCloud(world, root, NAMES);
  await loadCloud(world, root);
});

test("the card of a cloud with its own server has its authority and address", async (t) => {
  const root = await directoryOf(t);
  const cloud = await initCloud(realWorld(), root, NAMES);
  const { agentKey, xmppCa, ...card } = cardOf(cloud);
  assert.equal(agentKey, cloud.key.publicKey);
  assert.equal(await requireConstrainedCa(realWorld(), xmppCa ?? "", NAMES.domain), xmppCa);
  assert.deepEqual(card, {
    cloud: "messina",
    domain: "messina.example",
    jid: "agent@messina.example",
    xmppAddress: { host: "messina.example", port: 5270 },
  });
  const { config } = cloud;
  const { xmpp } = config;
  if (xmpp.server !== "embedded") throw new Error("it is embedded");
  const { advertise: _, ...silent } = { ...xmpp, host: "192.0.2.7", serverPort: 7 };
  const plain = cardOf({ ...cloud, config: { ...config, xmpp: silent } });
  assert.deepEqual(plain.xmppAddress, { host: "192.0.2.7", port: 7 });
});

const external = (more: string): string =>
  `{cloud: site, domain: site.example, room: r@rooms.site.example, xmpp: {server: external, host: xmpp.site.example, port: 5223, passwordFile: password${more}}, data: {port: 1}}`;

test("the card of a cloud at its site's server has what the configuration tells", async (t) => {
  const root = await directoryOf(t);
  const config = join(root, "cloud.yaml");
  await writeFile(config, external(""));
  const bare = cardOf(await loadCloud(realWorld(), root));
  assert.deepEqual([bare.xmppCa, bare.xmppAddress], [undefined, undefined]);
  assert.deepEqual(parseCard(encodeCard(bare)), bare);
  await writeFile(join(root, "ca.pem"), "the authority");
  await writeFile(config, external(", caFile: ca.pem, advertise: {host: 192.0.2.1, port: 9}"));
  const { agentKey, ...card } = cardOf(await loadCloud(realWorld(), root));
  assert.equal(agentKey, bare.agentKey);
  assert.deepEqual(card, {
    cloud: "site",
    domain: "site.example",
    jid: "agent@site.example",
    xmppCa: "the authority",
    xmppAddress: { host: "192.0.2.1", port: 9 },
  });
});

interface Ended {
  readonly exitCode: number;
  readonly out: string;
  readonly err: string;
}

/** The agent's program as a child process. */
function agent(...args: readonly string[]): Promise<Ended> {
  const program = join(import.meta.dirname, "main.ts");
  return new Promise((resolve) => {
    execFile(process.execPath, [program, ...args], { timeout: 60_000 }, (error, out, err) => {
      const exitCode = error === null ? 0 : typeof error.code === "number" ? error.code : -1;
      resolve({ exitCode, out, err });
    });
  });
}

test("init, card and trust: two clouds trust each other without an agent", async (t) => {
  const directory = await directoryOf(t);
  const [a, b] = [join(directory, "a"), join(directory, "b")];
  const made = await agent("init", a, "--name", "a", "--domain", "a.example", "--cpus", "3");
  assert.deepEqual(made, { exitCode: 0, out: `cloud "a" made in ${a}\n`, err: "" });
  await agent("init", b, "--name", "b", "--domain", "b.example");
  const { out: text, exitCode } = await agent("card", b);
  assert.equal(exitCode, 0);
  const card = parseCard(text);
  assert.equal(card.cloud, "b");
  const file = join(directory, "b.card.json");
  await writeFile(file, text);
  assert.deepEqual(await agent("trust", a, file), { exitCode: 0, out: "trusting b\n", err: "" });
  assert.deepEqual(parseCard(await readFile(join(a, "peers", "b.json"), "utf8")), card);
  const own = await agent("trust", b, file);
  assert.equal(own.exitCode, 2);
  assert.match(own.err, /^error agent\.peer-clash: .*\n {2}about: b\n {2}what to do: /);
  const again = await agent("init", a, "--name", "a", "--domain", "a.example");
  assert.deepEqual([again.exitCode, again.out], [2, ""]);
  assert.match(again.err, /^error agent\.cloud-exists: /);
});

test("a card with an authority that is not its domain's is not trusted", async (t) => {
  const directory = await directoryOf(t);
  const root = join(directory, "a");
  const { xmppCa } = cardOf(await initCloud(realWorld(), root, { name: "a", domain: "a.example" }));
  const agentKey = temporaryAgentKey().publicKey;
  const card = { cloud: "b", domain: "b.example", jid: "agent@b.example", agentKey };
  const file = join(directory, "b.card.json");
  await writeFile(file, encodeCard({ ...card, ...(xmppCa === undefined ? {} : { xmppCa }) }));
  const { exitCode, err } = await agent("trust", root, file);
  assert.equal(exitCode, 2);
  assert.match(err, /^error xmpp\.ca-unconstrained: /);
  await assert.rejects(readdir(join(root, "peers")), { code: "ENOENT" });
});

test("wrong calls end with 2 and say what is wrong, failures around us with 1", async (t) => {
  const root = join(await directoryOf(t), "none");
  const names = ["--name", "a", "--domain", "a.example"];
  const calls: readonly [number, RegExp, readonly string[]][] = [
    [2, /^error cli\.usage: the cloud's directory is missing/, ["init"]],
    [2, /^error cli\.usage: "frobnicate" is not a command/, ["frobnicate", root]],
    [2, /^error cli\.usage: --name and --domain are needed/, ["init", root]],
    [
      2,
      /^error cli\.usage: --cpus takes a whole number/,
      ["init", root, ...names, "--cpus", "1.5"],
    ],
    [2, /^error cli\.usage: .*--frobnicate/, ["init", root, ...names, "--frobnicate"]],
    [2, /^error cli\.usage: the file of the card is missing/, ["trust", root]],
    [
      2,
      /^error agent\.cloud-missing: .* holds no cloud\n.*\n {2}what to do: .*init/,
      ["card", root],
    ],
    [2, /^error agent\.cloud-missing: /, ["run", root]],
  ];
  const ended = await Promise.all(calls.map(([, , args]) => agent(...args)));
  for (const [index, [exitCode, expected, args]] of calls.entries()) {
    const { err, out, ...end } = ended[index] ?? { err: "", out: "", exitCode: -1 };
    assert.match(err, expected, args.join(" "));
    assert.deepEqual([end.exitCode, out], [exitCode, ""], args.join(" "));
    assert.doesNotMatch(err, /\n\s+at /, "no stack");
  }
  await assert.rejects(readdir(root), { code: "ENOENT" });
  await initCloud(realWorld(), root, NAMES);
  const unread = await agent("trust", root, join(root, "no-such-card"));
  assert.equal(unread.exitCode, 1);
  assert.match(unread.err, /^error system\.not-found: /);
  await writeFile(join(root, "card"), "{}");
  const invalid = await agent("trust", root, join(root, "card"));
  assert.equal(invalid.exitCode, 2);
  assert.match(invalid.err, /^error federation\.card-invalid: /);
});
