/** Real processes on one repository at once, and real SIGKILLs. */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, rm, watch } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { openRepository } from "#repository";
import { realWorld } from "#system";
import { bytesOf, describe, digestOf, FRAGMENTS, sourceOf, temporary } from "./fixtures.suite.ts";

const PROGRAM = join(import.meta.dirname, "child.suite.ts");

function start(...args: string[]): ChildProcess {
  return spawn(process.execPath, [PROGRAM, ...args], { stdio: ["ignore", "pipe", "inherit"] });
}

/** Kills the child as soon as it has printed so many lines, wherever it is by then. */
async function killAfter(child: ChildProcess, lines: number): Promise<void> {
  const exit = once(child, "exit");
  let seen = 0;
  for await (const _ of createInterface({ input: child.stdout ?? assert.fail() })) {
    seen += 1;
    if (seen === lines) child.kill("SIGKILL");
  }
  await exit;
}

/** Kills the child as soon as a file comes into being in the directory. */
async function killAtFirstFile(start: () => ChildProcess, directory: string): Promise<void> {
  const changes = watch(directory)[Symbol.asyncIterator]();
  const first = changes.next();
  const child = start();
  const exit = once(child, "exit");
  await first;
  child.kill("SIGKILL");
  await exit;
  await changes.return?.();
}

async function indexFiles(directory: string): Promise<string[]> {
  return (await readdir(join(directory, "tessera", "files"))).toSorted();
}

async function ended(child: ChildProcess): Promise<void> {
  child.stdout?.resume();
  const [code] = (await once(child, "exit")) as [number | null];
  assert.equal(code, 0);
}

test("two processes add components at once and none is lost", () =>
  temporary(async (directory) => {
    const prefixes = ["one", "two"];
    await Promise.all(prefixes.map((prefix) => ended(start("add", directory, prefix, "6"))));
    const store = await openRepository(realWorld(), directory);
    const names = (await store.list()).map(({ description }) => description.name);
    const expected = prefixes.flatMap((prefix) => [0, 1, 2, 3, 4, 5].map((n) => `${prefix}-${n}`));
    assert.deepEqual(names, expected);
    assert.deepEqual((await store.verify()).findings, []);
    assert.deepEqual((await store.collect({ dryRun: false })).removed, []);
  }));

test("two processes add the same components at once", () =>
  temporary(async (directory) => {
    await Promise.all([1, 2].map(() => ended(start("add", directory, "same", "4"))));
    const store = await openRepository(realWorld(), directory);
    assert.equal((await store.list()).length, 4);
    assert.deepEqual((await store.verify()).findings, []);
  }));

for (const lines of [1, 2, 4]) {
  void test(`a process killed after adding ${lines} leaves at least those, whole`, () =>
    temporary(async (directory) => {
      await killAfter(start("add", directory, "app", "6"), lines);
      const store = await openRepository(realWorld(), directory);
      assert.deepEqual((await store.verify()).findings, []);
      assert.ok((await store.list()).length >= lines);
      await ended(start("add", directory, "app", "6"));
      assert.equal((await store.list()).length, 6);
      assert.deepEqual((await store.verify()).findings, []);
      assert.deepEqual((await store.collect({ dryRun: false })).removed, []);
    }));
}

for (const pieces of [0, 1, 4, 6, 10]) {
  void test(`an ingest killed after ${pieces} pieces goes on in who waited for it`, () =>
    temporary(async (directory) => {
      const content = bytesOf("seed", 100_000);
      const blob = { digest: digestOf(content), sizeBytes: content.length };
      const store = await openRepository(realWorld(), directory);
      const child = start("ingest", directory, "seed", `${pieces}`);
      const exit = once(child, "exit");
      await once(child.stdout ?? assert.fail(), "data");
      let waiting = true;
      const opened = store.ingest(blob).finally(() => (waiting = false));
      assert.deepEqual((await store.collect({ dryRun: false })).removed, []);
      assert.equal(await store.hasBlob(blob.digest), false);
      assert.equal(waiting, true);
      child.kill("SIGKILL");
      const ingest = await opened;
      assert.equal(ingest?.writtenBytes, pieces * 10_000);
      await ingest.append(content.subarray(ingest.writtenBytes));
      await ingest.commit();
      assert.equal(await store.hasBlob(blob.digest), true);
      assert.deepEqual((await store.verify()).findings, []);
      await exit;
    }));
}

for (const pieces of [0, 1, 7, 10]) {
  void test(`an assembly killed after ${pieces} pieces goes on from its checkpoint`, () =>
    temporary(async (directory) => {
      const content = bytesOf("seed", 100_000);
      const blob = { digest: digestOf(content), sizeBytes: content.length };
      const store = await openRepository(realWorld(), directory);
      const child = start("assemble", directory, "seed", `${pieces}`);
      const exit = once(child, "exit");
      await once(child.stdout ?? assert.fail(), "data");
      assert.deepEqual((await store.collect({ dryRun: false })).removed, []);
      child.kill("SIGKILL");
      const assembly = await store.assemble(blob);
      assert.equal(assembly?.state?.[0], pieces === 0 ? undefined : 10 - pieces);
      await assembly?.write(content.subarray(0, 100_000 - pieces * 10_000), 0);
      if (pieces === 10) await assembly?.write(content.subarray(0, 10_000), 0);
      await assembly?.commit();
      assert.deepEqual((await store.verify()).findings, []);
      await exit;
    }));
}

for (const lines of [0, 1, 3]) {
  void test(`a process killed when it had indexed ${lines} leaves a sound index`, () =>
    temporary(async (directory) => {
      const adding = await openRepository(realWorld(), directory);
      for (const name of ["a", "b", "c", "d", "e"]) {
        const image = sourceOf(bytesOf(name, 3_000_000));
        await adding.add({ description: describe({ name }), fragments: FRAGMENTS, image });
      }
      const files = join(directory, "tessera", "files");
      await rm(files, { recursive: true });
      await mkdir(files);
      const child = () => start("index", directory);
      await (lines > 0 ? killAfter(child(), lines) : killAtFirstFile(child, files));
      const store = await openRepository(realWorld(), directory);
      const held = await Promise.all((await store.list()).map(({ id }) => store.recipe(id)));
      const located = await store.locate(held.flatMap(({ recipe }) => recipe.contents));
      assert.ok(located.every((found) => found !== undefined));
      assert.deepEqual(await indexFiles(directory), ["1.sqlite", "1.sqlite-shm", "1.sqlite-wal"]);
    }));
}

test("a collecting process takes nothing from one that brings components in", () =>
  temporary(async (directory) => {
    const source = await openRepository(realWorld(), join(directory, "source"));
    const store = await openRepository(realWorld(), join(directory, "store"));
    const collector = start("collect", join(directory, "store"));
    const exit = once(collector, "exit");
    try {
      await once(collector.stdout ?? assert.fail(), "data");
      collector.stdout?.resume();
      for (let number = 0; number < 5; number += 1) {
        const image = sourceOf(bytesOf(`image ${number}`, 20_000));
        const description = describe({ name: `app-${number}` });
        const component = await source.add({ description, fragments: FRAGMENTS, image });
        const blobs = [component.manifest, ...(await source.blobsOf(component.manifest))];
        for (const blob of blobs) {
          const reader = await source.openBlob(blob.digest);
          const content = new Uint8Array(reader.sizeBytes);
          await reader.read(content, 0);
          await reader.close();
          const ingest = await store.ingest(blob);
          await ingest?.append(content);
          await ingest?.commit();
        }
        assert.deepEqual(await store.admit(component.manifest), component);
        if (number % 2 === 1) await store.remove(component.id);
      }
    } finally {
      collector.kill("SIGKILL");
      await exit;
    }
    assert.equal((await store.list()).length, 3);
    assert.deepEqual((await store.verify()).findings, []);
  }));
