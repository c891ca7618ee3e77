/** The file index: damage, several processes, size. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import * as fc from "fast-check";
import { hexOf, type Component, type Digest, type World } from "#core";
import { openRepository, type ComponentStore, type HeldContent } from "#repository";
import { realWorld } from "#system";
import { ContentFacts, decodeDescribed, encodeDescribed } from "./described.ts";
import {
  bytesOf,
  describe,
  digestOf,
  FRAGMENTS,
  imageOf,
  sourceOf,
  temporary,
  withCode,
} from "./fixtures.suite.ts";
import { candidates, prefixesWanted, without } from "./locate.ts";

async function add(store: ComponentStore, name: string): Promise<Component> {
  const image = await imageOf({ name: bytesOf(name, 20_000), both: bytesOf("both", 9000) });
  return store.add({
    description: describe({ name }),
    fragments: FRAGMENTS,
    image: sourceOf(image),
  });
}

/** Counts how often the file of a blob is opened. */
function counting(digest: Digest): World & { opened(): number } {
  const world = realWorld();
  let opened = 0;
  return {
    ...world,
    opened: () => opened,
    files: {
      ...world.files,
      open: (path, mode, permissions) => {
        if (path.endsWith(join("sha256", hexOf(digest)))) opened += 1;
        return world.files.open(path, mode, permissions);
      },
    },
  };
}

async function locateAll(store: ComponentStore): Promise<(HeldContent | undefined)[]> {
  const wanted = await Promise.all(
    (await store.list()).map(async ({ id }) => (await store.recipe(id)).recipe.contents),
  );
  return store.locate(wanted.flat());
}

test("an image is read once, by whichever process needs it first", () =>
  temporary(async (directory) => {
    const { id } = await add(await openRepository(realWorld(), directory), "app");
    const files = join(directory, "tessera", "files");
    const worlds = [counting(id), counting(id), counting(id)];
    const stores = await Promise.all(worlds.map((world) => openRepository(world, directory)));
    await Promise.all(stores.map((store) => store.recipe(id)));
    await Promise.all(stores.map(locateAll));
    assert.deepEqual(
      worlds.map((world) => world.opened()),
      [0, 0, 0],
      "it was read when added",
    );
    await rm(files, { recursive: true });
    await mkdir(files);
    const fresh = await Promise.all(worlds.map((world) => openRepository(world, directory)));
    const recipes = await Promise.all(
      fresh.flatMap((store) => [store.recipe(id), store.recipe(id)]),
    );
    assert.equal(new Set(recipes.map(({ recipe }) => recipe.sizeBytes)).size, 1);
    await Promise.all(fresh.map(locateAll));
    const total = worlds.reduce((sum, world) => sum + world.opened(), 0);
    assert.equal(total, 1);
  }));

test("what was admitted with its recipe is not read to be located", () =>
  temporary(async (directory) => {
    const source = await openRepository(realWorld(), join(directory, "source"));
    const component = await add(source, "app");
    const recipe = await source.recipe(component.id);
    const world = counting(component.id);
    const target = await openRepository(world, join(directory, "target"));
    for (const blob of [component.manifest, ...(await source.blobsOf(component.manifest))]) {
      const reader = await source.openBlob(blob.digest);
      const content = new Uint8Array(blob.sizeBytes);
      await reader.read(content, 0);
      await reader.close();
      const ingest = await target.ingest(blob);
      await ingest?.append(content);
      await ingest?.commit();
    }
    await target.admit(component.manifest, { recipe });
    const opened = world.opened();
    const located = await target.locate(recipe.recipe.contents);
    assert.ok(located.every((found) => found?.component === component.id));
    assert.equal(world.opened(), opened);
  }));

type Damage = (path: string) => Promise<unknown>;
const GARBAGE = bytesOf("garbage", 50_000);
const DAMAGES: Readonly<Record<string, Damage>> = {
  "garbage in place of it": (path) => writeFile(path, GARBAGE),
  "cut off in the first page": (path) => truncate(path, 100),
  "cut off behind the first page": (path) => truncate(path, 5000),
  "garbage in the middle": async (path) => {
    const content = await readFile(path);
    assert.ok(content.length > 8192);
    await writeFile(path, content.fill(7, 4096, 20_000));
  },
  "nothing in it": (path) => truncate(path, 0),
  "garbage as its journal": (path) => writeFile(`${path}-wal`, GARBAGE),
  "of another version": async (path) => {
    const database = new DatabaseSync(path);
    database.exec("PRAGMA user_version = 2");
    database.close();
  },
  "a directory in place of it": async (path) => {
    await rm(path);
    await mkdir(path);
  },
  missing: (path) => rm(path),
};

test("an index that is damaged is made anew", () =>
  temporary(async (directory) => {
    const whole = join(directory, "whole");
    const program = join(import.meta.dirname, "child.suite.ts");
    const child = spawn(process.execPath, [program, "add", whole, "app", "3"], { stdio: "ignore" });
    assert.deepEqual(await once(child, "exit"), [0, null]);
    for (const [damage, inflict] of Object.entries(DAMAGES)) {
      const copy = join(directory, damage);
      await cp(whole, copy, { recursive: true });
      const path = join(copy, "tessera", "files", "1.sqlite");
      for (const suffix of ["-wal", "-shm"]) await rm(`${path}${suffix}`, { force: true });
      await inflict(path);
      const store = await openRepository(realWorld(), copy);
      const located = await locateAll(store);
      assert.ok(located.length >= 3, damage);
      assert.ok(
        located.every((found) => found !== undefined),
        damage,
      );
      const names = await readdir(join(copy, "tessera", "files"));
      const databases = names.filter((name) => name.endsWith(".sqlite"));
      assert.equal(databases.length, 1, `${damage}: ${databases.join()}`);
      const again = await locateAll(await openRepository(realWorld(), copy));
      assert.deepEqual(again, located, damage);
    }
  }));

test("an index damaged under a process that has it open is made anew", () =>
  temporary(async (directory) => {
    const store = await openRepository(realWorld(), directory);
    const { id } = await add(store, "a");
    await add(store, "b");
    const path = join(directory, "tessera", "files", "1.sqlite");
    await writeFile(`${path}-wal`, bytesOf("garbage", 100_000));
    await writeFile(path, bytesOf("garbage", 100_000));
    await store.remove(id);
    await add(store, "c");
    const located = await locateAll(store);
    assert.equal(located.length, 4);
    assert.ok(located.every((found) => found !== undefined && found.component !== id));
    assert.deepEqual((await store.verify()).findings, []);
  }));

test("an index that cannot be written costs time only", () =>
  temporary(async (directory) => {
    const files = join(directory, "tessera", "files");
    await mkdir(files, { recursive: true });
    for (const number of [999_999_999_999_997, 999_999_999_999_998, 999_999_999_999_999]) {
      await mkdir(join(files, `${number}.sqlite`));
    }
    const store = await openRepository(realWorld(), directory);
    const { id } = await add(store, "a");
    const { recipe } = await store.recipe(id);
    assert.equal(recipe.contents.length, 2);
    assert.equal((await store.locate(recipe.contents)).length, 2);
  }));

test("a component whose image is corrupt is not located, and hides no other", () =>
  temporary(async (directory) => {
    const first = await openRepository(realWorld(), directory);
    const [a, b] = [await add(first, "a"), await add(first, "b")];
    const { recipe } = await first.recipe(a.id);
    await rm(join(directory, "tessera", "files"), { recursive: true });
    await truncate(join(directory, "blobs", "sha256", hexOf(a.id)), 5000);
    const store = await openRepository(realWorld(), directory);
    const corrupt = withCode("repository.blob-corrupt");
    const located = await store.locate(recipe.contents);
    const holders = located.map((found) => found?.component);
    assert.deepEqual(new Set(holders), new Set([b.id, undefined]));
    await assert.rejects(store.recipe(a.id), corrupt);
    await assert.rejects(first.openContents(a.id), corrupt, "although the recipe is known");
  }));

test("20,000 contents are located among hundreds of components", { timeout: 60_000 }, () => {
  const names = Array.from({ length: 300 }, (_, component) =>
    Array.from({ length: 400 }, (_, content) =>
      digestOf(bytesOf(`${component % 50} ${content}`, 8)),
    ),
  );
  const prefixes = names.map((digests) =>
    prefixesWanted(digests.map((digest) => ({ head: hexOf(digest).slice(0, 16), sizeBytes: 1 }))),
  );
  const wanted = names.slice(0, 50).flat();
  let missing = prefixesWanted(wanted.map((digest) => ({ head: hexOf(digest), sizeBytes: 1 })));
  assert.equal(missing.contents.length, 20_000);
  const found = new Set<number>();
  for (const held of prefixes) {
    for (const { wanted: number } of candidates(missing, held)) found.add(number);
    missing = without(missing, (number) => found.has(number));
  }
  assert.equal(found.size, 20_000);
  assert.equal(missing.contents.length, 0);
});

test("candidates are all pairs of equal prefixes", () => {
  const head = fc.integer({ min: 0, max: 40 }).map((value) => ({
    head: `${(value * 0x06000000).toString(16).padStart(8, "0")}00000000`,
    sizeBytes: 1,
  }));
  const list = fc.array(head, { maxLength: 60 });
  fc.assert(
    fc.property(list, list, (wanted, held) => {
      const expected = wanted.flatMap((one, number) =>
        held.flatMap((other, content) => (one.head === other.head ? [`${number} ${content}`] : [])),
      );
      const pairs = candidates(prefixesWanted(wanted), prefixesWanted(held));
      const found = pairs.map(({ wanted: number, content }) => `${number} ${content}`);
      assert.deepEqual(found.toSorted(), expected.toSorted());
    }),
  );
});

test("an entry decodes as it was encoded; any other byte is refused", () =>
  temporary(async (directory) => {
    const store = await openRepository(realWorld(), directory);
    const { id } = await add(store, "a");
    const held = await store.recipe(id);
    const encoded = encodeDescribed(held);
    const decoded = decodeDescribed(id, encoded);
    assert.deepEqual(decoded.sketches, held.sketches);
    assert.deepEqual(decoded.recipe.contents, held.recipe.contents);
    const facts = new ContentFacts(encoded.facts);
    for (const [index, { head, sizeBytes }] of held.recipe.contents.entries()) {
      assert.equal(facts.head(index), head);
      assert.equal(facts.sizeBytes(index), sizeBytes);
      assert.equal(facts.prefix(index), Number.parseInt(head.slice(0, 8), 16));
    }
    const refused = withCode("repository.json-invalid");
    for (const part of ["recipe", "facts", "sketches", "check"] as const) {
      fc.assert(
        fc.property(
          fc.nat(encoded[part].length - 1),
          fc.integer({ min: 1, max: 255 }),
          (at, by) => {
            const bytes = Buffer.from(encoded[part]);
            bytes.writeUInt8(bytes.readUInt8(at) ^ by, at);
            assert.throws(() => decodeDescribed(id, { ...encoded, [part]: bytes }), refused);
          },
        ),
        { numRuns: 20 },
      );
    }
  }));
