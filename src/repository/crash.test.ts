/** Crashes at every step that changes something, then what a new process finds. */
import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { Component, World } from "#core";
import { openRepository, type ComponentStore } from "#repository";
import { realWorld } from "#system";
import {
  bytesOf,
  Crash,
  crashingFiles,
  describe,
  digestOf,
  FRAGMENTS,
  Host,
  sourceOf,
  temporary,
  type CrashPoint,
} from "./fixtures.suite.ts";

const IMAGE = bytesOf("image", 10_000);
/** Crashes that are tried at once, each in a directory of its own. */
const BATCH = 8;
const OTHER = bytesOf("other", 10_000);

function add(store: ComponentStore, image = IMAGE): Promise<Component> {
  return store.add({ description: describe(), fragments: FRAGMENTS, image: sourceOf(image) });
}

interface Scenario {
  /** Whole before the crash. */
  prepare?(store: ComponentStore): Promise<unknown>;
  /** What is cut off. */
  work(store: ComponentStore): Promise<unknown>;
  /** Components at the end. */
  readonly components: number;
}

const SCENARIOS: Readonly<Record<string, Scenario>> = {
  "add beside another": {
    prepare: (store) => add(store, OTHER),
    work: (store) => add(store),
    components: 2,
  },
  "write on the way": {
    work: async (store) =>
      await store.write({
        description: describe(),
        fragments: FRAGMENTS,
        image: async (sink) => {
          await sink.write(IMAGE.subarray(0, 3000));
          await sink.write(IMAGE.subarray(3000));
          return { digest: digestOf(IMAGE), sizeBytes: IMAGE.length };
        },
      }),
    components: 1,
  },
  "ingest with checkpoints": { work: ingestInParts, components: 0 },
  "assembly with checkpoints": { work: assembleInParts, components: 0 },
  "remove and collect": { prepare: (store) => add(store), work: removeAll, components: 0 },
  "pin and unpin": {
    prepare: (store) => add(store),
    work: async (store) => {
      await store.pin("machine:1", [digestOf(IMAGE), digestOf(OTHER)]);
      await store.pin("machine:2", [digestOf(IMAGE)]);
      await store.unpin("machine:1");
    },
    components: 1,
  },
};

async function ingestInParts(store: ComponentStore): Promise<void> {
  const ingest = await store.ingest({ digest: digestOf(IMAGE), sizeBytes: IMAGE.length });
  if (ingest === undefined) return;
  for (let position = ingest.writtenBytes; position < IMAGE.length;) {
    const bytes = IMAGE.subarray(position, position + 3000);
    await ingest.append(bytes);
    await ingest.checkpoint();
    position += bytes.length;
  }
  await ingest.commit();
}

/** From the back to the front; the state says how many pieces are there. */
async function assembleInParts(store: ComponentStore): Promise<void> {
  const pieces = [0, 3000, 6000, 9000].toReversed();
  const blob = { digest: digestOf(IMAGE), sizeBytes: IMAGE.length };
  const assembly = await store.assemble(blob);
  if (assembly === undefined) return;
  for (let done = assembly.state?.[0] ?? 0; done < pieces.length; done += 1) {
    const position = pieces[done] ?? 0;
    await assembly.write(IMAGE.subarray(position, position + 3000), position);
    await assembly.checkpoint(Uint8Array.of(done + 1));
  }
  await assembly.commit();
}

async function removeAll(store: ComponentStore): Promise<void> {
  for (const { id } of await store.list()) await store.remove(id);
  await store.collect({ dryRun: false });
}

/** Runs the work in a process that dies at the step; false when it ended before. */
async function crashed(work: () => Promise<unknown>): Promise<boolean> {
  try {
    await work();
    return false;
  } catch (error) {
    if (error instanceof Crash) return true;
    throw error;
  }
}

async function crashOnce(name: string, count: number, point: CrashPoint): Promise<boolean> {
  const scenario = SCENARIOS[name] ?? assert.fail();
  return temporary(async (directory) => {
    await using host = new Host();
    await scenario.prepare?.(await openRepository(host.world(), directory));
    const files = crashingFiles(count, point);
    const dying = host.world(files);
    const died = await crashed(async () => scenario.work(await openRepository(dying, directory)));
    host.end(dying.id);
    if (point === "before" || files.halved()) await examine(directory, host.world(), scenario);
    return died;
  });
}

/** Sound at once; the work can be done again; at the end nothing is left over. */
async function examine(directory: string, world: World, scenario: Scenario): Promise<void> {
  const store = await openRepository(world, directory);
  assert.deepEqual((await store.verify()).findings, []);
  for (const { id } of await store.list()) await store.imagePath(id);
  await scenario.work(store);
  const components = await store.list();
  assert.equal(components.length, scenario.components);
  assert.deepEqual((await store.verify()).findings, []);
  const last = await openRepository(realWorld(), directory);
  assert.deepEqual(await last.list(), components);
  const names = (...path: string[]) => readdir(join(directory, ...path));
  assert.deepEqual(await names("tessera", "locks"), []);
  const parts = await names("tessera", "ingest");
  assert.deepEqual(
    parts.filter((part) => part.endsWith(".part") || part.endsWith(".assembly")),
    [],
  );
}

for (const name of Object.keys(SCENARIOS)) {
  for (const point of ["before", "half"] as const) {
    void test(`${name}: a crash ${point} any step leaves a sound repository`, async () => {
      let count = 1;
      for (let died = true; died; count += BATCH) {
        const steps = Array.from({ length: BATCH }, (_, index) => count + index);
        const runs = await Promise.all(steps.map((step) => crashOnce(name, step, point)));
        died = runs.every(Boolean);
      }
      assert.ok(count > 2 * BATCH, `only ${count} steps`);
    });
  }
}

test("what a dead process had ingested is collected, unless it is pinned", () =>
  temporary(async (directory) => {
    await using host = new Host();
    const dying = host.world();
    const store = await openRepository(dying, directory);
    const [whole, part] = [bytesOf("whole", 500), bytesOf("part", 500)];
    for (const content of [whole, part]) {
      const ingest = await store.ingest({ digest: digestOf(content), sizeBytes: 500 });
      await ingest?.append(content);
      if (content === whole) await ingest?.commit();
    }
    const other = await openRepository(host.world(), directory);
    assert.deepEqual((await other.collect({ dryRun: false })).removed, []);
    host.end(dying.id);
    const digests = [digestOf(whole), digestOf(part)].toSorted();
    await other.pin("migration:1", digests);
    assert.deepEqual((await other.collect({ dryRun: false })).removed, []);
    await other.unpin("migration:1");
    const expected = digests.map((digest) => ({ digest, sizeBytes: 500 }));
    assert.deepEqual((await other.collect({ dryRun: true })).removed, expected);
    const report = await other.collect({ dryRun: false });
    assert.deepEqual(report, { removed: expected, bytes: 1000, dryRun: false });
    assert.equal(await other.hasBlob(digestOf(whole)), false);
    assert.deepEqual(await readdir(join(directory, "tessera", "ingest")), []);
  }));
