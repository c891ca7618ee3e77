import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { hasCode, type Digest } from "#core";
import { openRepository } from "#repository";
import { realWorld } from "#system";
import {
  connectReceiver,
  loadOrCreateDataIdentity,
  startDataServer,
  type DataReceiver,
} from "#transfer";
import { addComponents } from "../components.suite.ts";
import { HelpDesk, type HelpPolicy } from "./help-desk.ts";
import { decodeAnswer, type HelpAnswer } from "./messages.ts";
import { RateCache } from "./rates.ts";

const MIGRATION = "11111111-2222-4333-8444-555555555555";
const UNKNOWN: Digest = `sha256:${"0".repeat(64)}`;
const POLICY: HelpPolicy = { helps: true, sessionsMax: 2, time_ms: 60_000, pricePerGB: 1 };

function notOffered(error: unknown): boolean {
  return hasCode(error, "transfer.not-offered");
}

async function desk(t: TestContext, policy: Partial<HelpPolicy> = {}) {
  const directory = await mkdtemp(join(tmpdir(), "tessera-help-"));
  const world = realWorld();
  const store = await openRepository(world, join(directory, "repository"));
  await addComponents(world, store, directory, ["web", "data"]);
  const identity = await loadOrCreateDataIdentity(world, join(directory, "data"));
  const asker = await loadOrCreateDataIdentity(world, join(directory, "asker"));
  const dataServer = await startDataServer(world, { identity, host: "127.0.0.1", port: 0 });
  const own = await openRepository(world, join(directory, "asker-repository"));
  const help = new HelpDesk({
    world,
    store,
    dataServer,
    endpoint: () => dataServer.endpoint,
    freeCores: () => 1,
    policy: { ...POLICY, ...policy },
  });
  t.after(async () => {
    await help.stop();
    await dataServer.close();
    await rm(directory, { recursive: true, force: true });
  });
  const web = await store.resolve("web");
  const data = await store.resolve("data");
  const ask = async (components: readonly Digest[], from = "napoli"): Promise<HelpAnswer> => {
    const body = { version: 1, components: [...components], certificate: asker.certificate };
    return decodeAnswer(
      "here",
      JSON.parse(JSON.stringify(await help.answer(from, MIGRATION, body))),
    );
  };
  const connect = ({ data: given }: HelpAnswer): DataReceiver => {
    assert.ok(given);
    const resume = { load: () => Promise.resolve(undefined), save: () => Promise.resolve() };
    const { session, token, endpoint } = given;
    const options = { identity: asker, endpoint, session, token, store: own, resume };
    const receiver = connectReceiver(world, options);
    t.after(() => receiver.close());
    return receiver;
  };
  return { world, directory, store, help, ask, connect, web, data, own };
}

test("offers what it holds of what is wanted, and keeps it", async (t) => {
  const { ask, connect, store, web, data } = await desk(t, { bitsPerSecondMax: 1e9 });
  const answer = await ask([web.id, UNKNOWN]);
  assert.deepEqual(answer.components, [web.id]);
  assert.equal(answer.bitsPerSecond, 1e9);
  await assert.rejects(store.remove(web.id), { code: "repository.component-pinned" });
  const receiver = connect(answer);
  const signal = AbortSignal.timeout(20_000);
  assert.equal((await receiver.fetchRecipe(web.id, [], signal)).recipe.sizeBytes, web.sizeBytes);
  assert.ok((await receiver.fetchBlob(web.manifest, signal)) > 0);
  await assert.rejects(receiver.fetchRecipe(data.id, [], signal), notOffered);
  await assert.rejects(receiver.fetchBlob(data.manifest, signal), notOffered);
  await assert.rejects(receiver.fetchUserData("/nowhere/data.raw", signal));
});

test("ends a session when the asker says so, and unpins", async (t) => {
  const { ask, store, web } = await desk(t);
  await ask([web.id]);
  assert.deepEqual((await ask([])).components, []);
  assert.equal((await store.pins()).size, 0);
});

test("ends a session when its time is over", async (t) => {
  const { ask, connect, store, web } = await desk(t, { time_ms: 1 });
  const answer = await ask([web.id]);
  while ((await store.pins()).size > 0) await new Promise((resolve) => setImmediate(resolve));
  const late = connect(answer).fetchRecipe(web.id, [], AbortSignal.timeout(20_000));
  // Nobody is expected with that certificate any more.
  await assert.rejects(late, { fault: "peer" });
});

test("helps no more than so many, and nobody where it shall not", async (t) => {
  const { ask, web } = await desk(t, { sessionsMax: 1 });
  assert.equal((await ask([web.id])).components.length, 1);
  assert.equal((await ask([web.id], "roma")).components.length, 0);
  // Asking again is not a second session.
  assert.equal((await ask([web.id])).components.length, 1);
  const other = await desk(t, { helps: false });
  assert.equal((await other.ask([other.web.id])).components.length, 0);
  assert.equal((await other.store.pins()).size, 0);
});

test("forgets what it pinned before it was restarted, and nothing else", async (t) => {
  const { store, help, web } = await desk(t);
  await store.pin("help:napoli:x", [web.id]);
  await store.pin("machine:y", [web.id]);
  await help.recover();
  assert.deepEqual([...(await store.pins()).keys()], ["machine:y"]);
});

test("refuses questions that make no sense", async (t) => {
  const { help } = await desk(t);
  const many = Array.from({ length: 257 }, () => UNKNOWN);
  const bodies = [
    null,
    { version: 1, components: ["x"], certificate: UNKNOWN },
    { version: 1, components: many, certificate: UNKNOWN },
    { version: 1, components: [], certificate: "none" },
  ];
  for (const body of bodies) {
    const refused = help.answer("napoli", MIGRATION, body);
    await assert.rejects(refused, { code: "migration.message-invalid" });
  }
  const without = { components: [UNKNOWN], pricePerGB: 0 };
  assert.throws(() => decodeAnswer("napoli", without), { code: "migration.message-invalid" });
});

test("a cloud that lied is asked by others only", async (t) => {
  const { world, directory } = await desk(t);
  const rates = new RateCache(world, join(directory, "rates.json"));
  rates.distrust("napoli");
  assert.deepEqual([rates.distrusts("napoli"), rates.distrusts("roma")], [true, false]);
});

test("rates are kept, averaged, and survive a damaged file", async (t) => {
  const { world, directory } = await desk(t);
  const path = join(directory, "cache", "rates.json");
  const rates = new RateCache(world, path);
  assert.equal(await rates.of("napoli"), undefined);
  await rates.note("napoli", { lanes: 1, bitsPerSecond: 10e6, roundTrip_ms: 5 });
  await rates.note("napoli", { lanes: 1, bitsPerSecond: 20e6 });
  await rates.note("roma", { lanes: 1 });
  const again = new RateCache(world, path);
  assert.deepEqual(await again.of("napoli"), { bitsPerSecond: 15e6 });
  assert.equal(await again.of("roma"), undefined);
  await world.files.writeFileAtomic(path, "{");
  assert.equal(await new RateCache(world, path).of("napoli"), undefined);
});
