/** User data blocks on storage that several clouds reach, and the proof that it is one storage. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { Machine } from "#core";
import { realWorld } from "#system";
import { twoClouds, type TestCloud } from "./clouds.suite.ts";
import type { Proposal } from "./migrations/messages.ts";
import type { HotSourceRecord } from "./migrations/record.ts";
import {
  answerProbe,
  removeProbes,
  removeProof,
  sharedObjection,
  SharedProbe,
  writeProof,
} from "./migrations/shared-probe.ts";
import { digestOfToken } from "./migrations/token.ts";
import type { MigrationTools } from "./migrations/tools.ts";
import { attachShared, detachShared, removeShared, sharedFileOf } from "./shared-data.ts";

const world = realWorld();
const UUID = "01234567-89ab-4cde-8f01-23456789abcd";
const SIZE = 1000;
const machine = { uuid: UUID, name: "web-1" } as Machine;

async function scene() {
  const root = await mkdtemp(join(tmpdir(), "tessera-shared-"));
  const make = async (name: string): Promise<string> => {
    await mkdir(join(root, name), { recursive: true });
    return join(root, name);
  };
  return { root, make, [Symbol.asyncDispose]: () => rm(root, { recursive: true }) };
}

/** What the two sides of a probe need of a cloud. */
function toolsOf(cloud: string, root: string, sharedDirectory?: string): MigrationTools {
  const directory = (): string => join(root, cloud);
  const tools = { world, cloud, sharedDirectory, machines: { store: { directory } } };
  return tools as unknown as MigrationTools;
}

test("a link is made, changed and removed without harm to what it leads to", async () => {
  await using made = await scene();
  const [shared, directory] = [await made.make("shared"), await made.make("machine")];
  const path = join(shared, "a.raw");
  await writeFile(path, "data");
  await writeFile(join(directory, "data.raw"), "an earlier copy");
  assert.equal(await sharedFileOf(world, directory), undefined);
  await detachShared(world, directory);
  await removeShared(world, directory);
  assert.ok(existsSync(join(directory, "data.raw")));
  for (let times = 0; times < 2; times += 1) await attachShared(world, directory, path);
  assert.equal(await sharedFileOf(world, directory), path);
  await world.files.removeTree(directory);
  assert.ok(existsSync(path), "who removes a directory does not remove the file");
  await made.make("machine");
  await attachShared(world, directory, path);
  await detachShared(world, directory);
  assert.deepEqual([await readdir(directory), await readdir(shared)], [[], ["a.raw"]]);
  await attachShared(world, directory, path);
  await removeShared(world, directory);
  assert.deepEqual([await readdir(directory), await readdir(shared)], [[], []]);
});

/** What the source of a machine on `one` hears of a destination with `other`. */
async function ask(made: Awaited<ReturnType<typeof scene>>, one: string, other?: string) {
  const directory = await made.make("messina");
  const file = join(one, `${UUID}.raw`);
  await writeFile(file, Buffer.alloc(SIZE));
  await attachShared(world, directory, file);
  const probe = await SharedProbe.begin(toolsOf("messina", made.root, one), machine, SIZE);
  const answer = await answerProbe(toolsOf("inquadro", made.root, other), UUID, probe.question);
  const objection = await probe.objection(answer);
  await probe.end();
  assert.deepEqual(await readdir(one), [`${UUID}.raw`], "nothing of the probe is left");
  return objection;
}

test("one directory, under whatever path, is proven; others are refused with the reason", async () => {
  await using made = await scene();
  const [one, other] = [await made.make("one"), await made.make("other")];
  await world.files.symlink(one, join(made.root, "mounted"));
  assert.equal(await ask(made, one, one), undefined);
  assert.equal(await ask(made, one, join(made.root, "mounted")), undefined);
  assert.match((await ask(made, one, other)) ?? "", /does not find/);
  assert.match((await ask(made, one)) ?? "", /does not find/);
  await writeFile(join(other, `${UUID}.raw`), Buffer.alloc(SIZE));
  assert.match((await ask(made, one, other)) ?? "", /does not find/);
  await writeFile(join(one, `${UUID}.raw`), Buffer.alloc(SIZE + 1));
});

test("a destination that only pretends to read or to write is refused", async () => {
  await using made = await scene();
  const one = await made.make("one");
  await attachShared(world, await made.make("messina"), join(one, `${UUID}.raw`));
  await writeFile(join(one, `${UUID}.raw`), Buffer.alloc(SIZE));
  const tools = toolsOf("messina", made.root, one);
  const probe = await SharedProbe.begin(tools, machine, SIZE);
  const answer = await answerProbe(tools, UUID, probe.question);
  assert.ok(answer !== undefined);
  assert.match((await probe.objection({ ...answer, read: "x".repeat(40) })) ?? "", /another/);
  assert.match((await probe.objection({ ...answer, wrote: "x".repeat(40) })) ?? "", /write/);
  assert.equal(await answerProbe(tools, UUID, { ...probe.question, sizeBytes: 5 }), undefined);
  // The agent dies; the next one removes what it has left, and nobody else's.
  await writeFile(join(one, ".tessera-probe-inquadro-1"), "");
  await removeProbes(tools);
  assert.deepEqual(await readdir(one), [".tessera-probe-inquadro-1", `${UUID}.raw`]);
});

test("a machine whose data are this cloud's alone is refused by name", async () => {
  await using made = await scene();
  const tools = toolsOf("messina", made.root, await made.make("one"));
  await assert.rejects(SharedProbe.begin(tools, machine, SIZE), { code: "migration.not-shared" });
});

const dataOf = ({ root }: TestCloud, uuid: string): string =>
  join(root, "machines", uuid, "data.raw");

test("new machines lie on shared storage; who leaves otherwise, or is removed, leaves nothing", async (t) => {
  await using made = await scene();
  const shared = await made.make("shared");
  const { clouds } = await twoClouds(t, {
    config: { storage: { format: "raw", shared } },
    sourceConfig: { storage: { format: "raw", shared } },
  });
  const [source, destination] = clouds;
  const uuid = await source.machine();
  assert.deepEqual(await readdir(shared), [`${uuid}.raw`]);
  assert.equal(await world.files.readLink(dataOf(source, uuid)), join(shared, `${uuid}.raw`));
  const id = await source.migrate(uuid, destination.name);
  assert.equal((await source.settled(id)).phase, "completed");
  assert.deepEqual(await readdir(shared), []);
  assert.ok(!existsSync(dataOf(source, uuid)));
  assert.equal(await world.files.readLink(dataOf(destination, uuid)), undefined);
  const other = await source.machine("web-2", { stopped: true });
  await source.parts.machines.remove(other);
  assert.deepEqual(await readdir(shared), []);
});

test("a proposal is taken with its proof alone, which only who reaches the storage can write", async () => {
  await using made = await scene();
  const one = await made.make("one");
  const [tools, there] = [toolsOf("messina", made.root, one), toolsOf("inquadro", made.root, one)];
  const [id, handOver] = ["89abcdef-0123-4567-89ab-cdef01234567", "a token"];
  const record = { id, handOver, hot: { storage: "shared" } } as HotSourceRecord;
  const handOverDigest = digestOfToken(handOver);
  const proposal = {
    machine,
    userData: { sizeBytes: SIZE },
    handOverDigest,
  } as unknown as Proposal;
  const judge = (cloud = "messina", from = there): Promise<string | undefined> =>
    sharedObjection(from, { cloud, migration: id }, proposal);
  assert.match((await judge()) ?? "", /does not find/);
  await writeFile(join(one, `${UUID}.raw`), Buffer.alloc(SIZE));
  assert.match((await judge()) ?? "", /no proof/);
  await writeProof(tools, record);
  assert.equal(await judge(), undefined);
  assert.match((await judge("tritoni")) ?? "", /no proof/);
  assert.match((await judge("messina", toolsOf("inquadro", made.root))) ?? "", /does not find/);
  await writeProof(tools, { ...record, handOver: "another" });
  assert.match((await judge()) ?? "", /no proof/);
  await removeProof(tools, record);
  assert.deepEqual(await readdir(one), [`${UUID}.raw`]);
});
