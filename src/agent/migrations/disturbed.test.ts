/** Migrations that are disturbed: messages get lost, agents restart, peers lie. */
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { hasCode, type Json } from "#core";
import { temporaryAgentKey, type FederationTransport, type MessageAction } from "#federation";
import { NO_FAULTS } from "../faults.ts";
import { openJournal } from "../journal.ts";
import { layoutOf } from "../layout.ts";
import { SILENCE, twoClouds, type TestCloud, type TestFederation } from "../clouds.suite.ts";
import { MIGRATION_VERSION } from "./messages.ts";
import { signReceipt } from "./receipt.ts";
import type { MigrationRecord } from "./record.ts";

/** Fractions that are the same for the same seed (mulberry32). */
function fractions(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

async function ended(federation: TestFederation, id: string): Promise<string[]> {
  const records = await Promise.all(federation.clouds.map((cloud) => cloud.settled(id)));
  assert.deepEqual(federation.host.doubled, [], "no machine ran twice");
  return records.map(({ phase }) => phase);
}

for (const seed of [1, 2, 3]) {
  test(`messages lost, doubled and late, seed ${seed}: the machine arrives all the same`, async (t) => {
    const federation = await twoClouds(t);
    const [messina, inquadro] = federation.clouds;
    const uuid = await messina.machine();
    const fraction = fractions(seed);
    federation.fate = ({ action }) => {
      if (!action.startsWith("session")) return { kind: "pass" };
      const drawn = fraction();
      if (drawn < 0.25) return { kind: "drop" };
      if (drawn < 0.45) return { kind: "duplicate" };
      if (drawn < 0.65) return { kind: "delay", delay_ms: 60 * fraction() };
      return { kind: "pass" };
    };
    const id = await messina.migrate(uuid, "inquadro");
    assert.deepEqual(await ended(federation, id), ["completed", "completed"]);
    assert.equal(federation.host.running.get(uuid), "inquadro");
    assert.deepEqual(await inquadro.lines(uuid), ["ran at messina", "ran at inquadro"]);
  });
}

test("a peer that falls silent before the hand-over: both go back", async (t) => {
  const federation = await twoClouds(t, SILENCE);
  const [messina, inquadro] = federation.clouds;
  messina.hooks = { ...NO_FAULTS, holds: ({ phase }) => phase === "serving" };
  const uuid = await messina.machine();
  const id = await messina.migrate(uuid, "inquadro");
  await inquadro.until(id, ({ phase }) => phase === "prepared");
  federation.fate = ({ action }) =>
    action.startsWith("session") ? { kind: "drop" } : { kind: "pass" };
  messina.hooks = NO_FAULTS;
  const source = await messina.until(id, ({ phase }) => phase === "aborted");
  assert.equal(source.error?.code, "migration.peer-silent");
  await inquadro.until(id, ({ phase }) => phase === "aborted");
  federation.fate = () => ({ kind: "pass" });
  assert.deepEqual(await ended(federation, id), ["aborted", "aborted"]);
  assert.equal(federation.host.running.get(uuid), "messina");
});

test("after the hand-over silence changes nothing: the machine waits and is not doubled", async (t) => {
  const federation = await twoClouds(t, SILENCE);
  const [messina, inquadro] = federation.clouds;
  inquadro.hooks = { ...NO_FAULTS, holds: ({ phase }) => phase === "starting" };
  const uuid = await messina.machine();
  const id = await messina.migrate(uuid, "inquadro");
  await inquadro.until(id, ({ phase }) => phase === "starting");
  federation.fate = ({ action }) =>
    action.startsWith("session") ? { kind: "drop" } : { kind: "pass" };
  await new Promise((resolve) => setTimeout(resolve, 1.5 * SILENCE.peerTimeout_ms));
  assert.equal(messina.record(id)?.phase, "handed-over");
  assert.equal(federation.host.running.size, 0);
  federation.fate = () => ({ kind: "pass" });
  inquadro.hooks = NO_FAULTS;
  assert.deepEqual(await ended(federation, id), ["completed", "completed"]);
});

for (const [role, phase] of [
  ["source", "proposed"],
  ["source", "serving"],
  ["source", "frozen"],
  ["source", "handed-over"],
  ["source", "released"],
  ["destination", "accepted"],
  ["destination", "receiving"],
  ["destination", "starting"],
  ["destination", "ready"],
  ["destination", "completed"],
] as const) {
  test(`the ${role} restarts in ${phase} and goes on`, async (t) => {
    const federation = await twoClouds(t);
    const [messina, inquadro] = federation.clouds;
    const cloud = role === "source" ? messina : inquadro;
    cloud.hooks = { ...NO_FAULTS, holds: (record) => record.phase === phase };
    const uuid = await messina.machine();
    const id = await messina.migrate(uuid, "inquadro");
    await cloud.until(id, (record) => record.phase === phase);
    await cloud.stop();
    cloud.hooks = NO_FAULTS;
    await cloud.start();
    assert.deepEqual(await ended(federation, id), ["completed", "completed"]);
    assert.equal(federation.host.running.get(uuid), "inquadro");
    assert.deepEqual(await inquadro.lines(uuid), ["ran at messina", "ran at inquadro"]);
    const { machine } = await inquadro.parts.machines.store.resolve(uuid);
    assert.deepEqual([machine.state, machine.migration], ["running", undefined]);
  });
}

/** Changes what a stopped cloud has in its journal. */
function rewrite(
  cloud: TestCloud,
  id: string,
  change: (record: MigrationRecord) => MigrationRecord,
): void {
  const journal = openJournal(layoutOf(cloud.root).journal);
  const record = journal.load(id);
  if (record === undefined) throw new Error("no record");
  journal.save(change(record), { event: "rewritten", at_ms: Date.now() });
  journal.close();
}

test("a hand-over token that does not match the proposal starts nothing", async (t) => {
  const federation = await twoClouds(t, SILENCE);
  const [messina, inquadro] = federation.clouds;
  messina.hooks = { ...NO_FAULTS, holds: ({ phase }) => phase === "frozen" };
  const uuid = await messina.machine();
  const id = await messina.migrate(uuid, "inquadro");
  await inquadro.until(id, ({ phase }) => phase === "received");
  await messina.stop();
  rewrite(messina, id, (record) =>
    record.role === "source" ? { ...record, handOver: "a".repeat(43) } : record,
  );
  messina.hooks = NO_FAULTS;
  await messina.start();
  // What cannot be understood is no sign of life: the destination gives up, the source takes back.
  assert.deepEqual(await ended(federation, id), ["aborted", "aborted"]);
  assert.deepEqual(federation.host.starts, ["messina", "messina"]);
});

test("a receipt of another migration is not signed", async (t) => {
  const federation = await twoClouds(t);
  const [messina, inquadro] = federation.clouds;
  messina.hooks = { ...NO_FAULTS, holds: ({ phase }) => phase === "handed-over" };
  const uuid = await messina.machine();
  const id = await messina.migrate(uuid, "inquadro");
  await inquadro.until(id, ({ phase }) => phase === "ready");
  await inquadro.stop();
  rewrite(inquadro, id, (record) => {
    if (record.receipt === undefined) throw new Error("no receipt");
    const receipt = { ...record.receipt.receipt, migration: crypto.randomUUID() };
    return { ...record, receipt: signReceipt(receipt, "inquadro", inquadro.key) };
  });
  messina.hooks = NO_FAULTS;
  await inquadro.start();
  await messina.until(id, ({ phase }) => phase === "released");
  await new Promise((resolve) => setTimeout(resolve, 250));
  const source = messina.record(id);
  assert.deepEqual([source?.phase, source?.receipt], ["released", undefined]);
  await messina.parts.migrations.resolve(id, "give-up-here");
  await inquadro.until(id, ({ phase }) => phase === "ready" || phase === "completed");
  assert.equal(federation.host.running.get(uuid), "inquadro");
});

/** A member whose agent says what the test wants. */
async function stranger(federation: TestFederation): Promise<{
  transport: FederationTransport;
  /** The code that the cloud refuses with, or its answer. */
  readonly ask: (action: MessageAction, session: string, body: Json) => Promise<Json>;
}> {
  const key = temporaryAgentKey();
  const domain = "stranger.example";
  const card = { cloud: "stranger", domain, jid: `agent@${domain}`, agentKey: key.publicKey };
  federation.cards.push(card);
  const transport = federation.federation.join("stranger", key, () => federation.cards);
  await transport.start(() => Promise.resolve({ phase: "unknown" }));
  const ask = async (action: MessageAction, session: string, body: Json): Promise<Json> => {
    try {
      return await transport.request("inquadro", { session, action, body });
    } catch (error) {
      if (hasCode(error, "federation.refused")) return error.subject ?? "";
      throw error;
    }
  };
  return { transport, ask };
}

test("strangers and malformed messages are refused, and leave nothing", async (t) => {
  const federation = await twoClouds(t);
  const [messina, inquadro] = federation.clouds;
  const { transport, ask } = await stranger(federation);
  t.after(() => transport.stop());
  inquadro.hooks = { ...NO_FAULTS, holds: ({ phase }) => phase === "accepted" };
  const uuid = await messina.machine();
  const id = await messina.migrate(uuid, "inquadro");
  await inquadro.until(id, ({ phase }) => phase === "accepted");
  for (const action of ["session-info", "session-terminate", "session-initiate"] as const) {
    assert.equal(await ask(action, id, { phase: "aborted" }), "migration.not-yours");
  }
  assert.deepEqual(await ask("session-info", crypto.randomUUID(), { phase: "frozen" }), {
    phase: "unknown",
  });
  const source = messina.record(id);
  if (source?.role !== "source") throw new Error("no source");
  const proposal = {
    version: 1,
    machine: { uuid: crypto.randomUUID(), name: "other", created_ms: 1 },
    appliance: source.appliance as unknown as Json,
    composed: source.composed,
    mode: "cold",
    wasRunning: true,
    userData: { sizeBytes: 1, allocatedBytes: 1 },
    handOverDigest: source.composed,
    data: {
      endpoint: { candidates: [{ host: "127.0.0.1", port: 1 }], certificate: source.composed },
      token: "t".repeat(43),
    },
  };
  const bad: readonly (readonly [session: string, body: Json])[] = [
    ["../../outside", proposal],
    [crypto.randomUUID().toUpperCase(), proposal],
    [crypto.randomUUID(), null],
    [crypto.randomUUID(), []],
    [crypto.randomUUID(), { ...proposal, mode: "tepid" }],
    [crypto.randomUUID(), { ...proposal, handOverDigest: "sha256:1" }],
    [crypto.randomUUID(), { ...proposal, machine: { ...proposal.machine, name: "../x" } }],
    [crypto.randomUUID(), { ...proposal, machine: { ...proposal.machine, uuid: "../x" } }],
    [crypto.randomUUID(), { ...proposal, userData: { sizeBytes: -1, allocatedBytes: 1 } }],
    [crypto.randomUUID(), { ...proposal, userData: { sizeBytes: 1e300, allocatedBytes: 1 } }],
    [crypto.randomUUID(), { ...proposal, data: { ...proposal.data, token: "short" } }],
  ];
  for (const [session, body] of bad) {
    const answer = await ask("session-initiate", session, body);
    assert.equal(answer, "migration.message-invalid", `${session} ${JSON.stringify(body)}`);
  }
  assert.equal(await ask("plan-get", "any", { version: 1 }), "migration.message-invalid");
  assert.equal(
    await ask("session-initiate", crypto.randomUUID(), {
      ...proposal,
      version: MIGRATION_VERSION + 1,
    }),
    "migration.version-unsupported",
  );
  // The machine that is coming cannot be claimed by another migration.
  const claimed = { ...proposal, machine: { ...proposal.machine, uuid } };
  assert.equal(await ask("session-initiate", crypto.randomUUID(), claimed), "migration.refused");
  assert.ok(!existsSync(join(inquadro.root, "..", "outside")));
  assert.equal(inquadro.parts.migrations.list().length, 1);

  // A lie about the data: nothing can be fetched there, and nothing stays.
  const lie = crypto.randomUUID();
  inquadro.hooks = NO_FAULTS;
  const other = { ...proposal, machine: { ...proposal.machine, name: "lie" } };
  assert.deepEqual(await ask("session-initiate", lie, other), { phase: "accepted" });
  assert.deepEqual(await ended(federation, id), ["completed", "completed"]);
  await inquadro.until(lie, ({ phase }) => phase === "aborted");
  assert.deepEqual(readdirSync(join(inquadro.root, "machines")), [uuid]);
});
