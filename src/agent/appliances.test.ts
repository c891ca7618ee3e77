import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import * as fc from "fast-check";
import { hasCode, type Appliance, type Log } from "#core";
import { realWorld } from "#system";
import { openAppliances } from "./appliances.ts";
import { appliances as arbitrary } from "./records.suite.ts";

const code = (text: string) => (error: unknown) => hasCode(error, text);

/** Appliances of these names, and what is logged. */
async function opened(t: TestContext, ...names: readonly string[]) {
  const parent = await mkdtemp(join(tmpdir(), "tessera-appliances-"));
  t.after(() => rm(parent, { recursive: true, force: true }));
  const root = join(parent, "appliances");
  const logged: string[] = [];
  const log: Log = {
    log: (_level, _message, fields) => void logged.push(String(fields?.["subject"])),
    with: () => log,
  };
  const store = openAppliances(realWorld(log), root);
  const samples = JSON.parse(JSON.stringify(fc.sample(arbitrary, names.length))) as Appliance[];
  const kept = samples.map((sample, index) => ({ ...sample, name: names[index] ?? "" }));
  for (const one of kept) await store.save(one);
  return { root, logged, store, kept };
}

const byName = (all: readonly Appliance[]) =>
  all.toSorted((one, other) => (one.name < other.name ? -1 : 1));

test("what is kept is read again, also under names that no file can have", async (t) => {
  const names = ["a", "a b", "a/b", "..", "größe", "100%", "A.json"];
  const { root, logged, store, kept } = await opened(t, ...names);
  assert.deepEqual(byName(await store.list()), byName(kept));
  for (const one of kept) assert.deepEqual(await store.resolve(one.name), one);
  assert.deepEqual(await store.resolve(kept[2]?.digest ?? ""), kept[2]);
  assert.equal((await readdir(root)).length, names.length);
  for (const name of names) assert.equal(await store.remove(name), name);
  assert.deepEqual([await store.list(), await readdir(root), logged], [[], [], []]);
});

test("a name goes before a digest", async (t) => {
  const { store, kept } = await opened(t, "a");
  const [a] = kept;
  const other = { ...a, name: a?.digest ?? "" } as Appliance;
  await store.save(other);
  assert.deepEqual(await store.resolve(other.name), other);
});

test("an appliance that cannot be read is told of, hides no other, and can go", async (t) => {
  const { root, logged, store, kept } = await opened(t, "good", "half", "renamed");
  const half = join(root, "half.json");
  await writeFile(half, (await readFile(half, "utf8")).slice(0, 50));
  await rename(join(root, "renamed.json"), join(root, "other.json"));
  await writeFile(join(root, "huge.json"), " ".repeat(2 ** 20 + 1));
  for (const name of ["%zz.json", "notes.txt", "good.json.12.new"]) {
    await writeFile(join(root, name), "no appliance");
  }
  assert.deepEqual(await store.list(), kept.slice(0, 1));
  const left = ["half", "huge", "other"].map((name) => join(root, `${name}.json`));
  assert.deepEqual(logged, left);
  assert.deepEqual(await store.resolve("good"), kept[0]);
  for (const name of ["half", "huge", "other"]) {
    await assert.rejects(store.resolve(name), code("agent.appliance-corrupt"), name);
    assert.equal(await store.remove(name), name);
    await assert.rejects(store.resolve(name), code("agent.appliance-unknown"), name);
  }
  await assert.rejects(store.remove("renamed"), code("agent.appliance-unknown"));
});
