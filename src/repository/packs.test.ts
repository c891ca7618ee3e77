/** The pack cache on disk: torn files, bounds, several processes. */
import assert from "node:assert/strict";
import { readdir, readFile, truncate, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { hexOf, type Digest } from "#core";
import { openRepository, type PackCache } from "#repository";
import { realWorld } from "#system";
import { bytesOf, digestOf, fullDisk, temporary } from "./fixtures.suite.ts";

const PACK = bytesOf("pack", 50_000);

function keyOf(name: string): Digest {
  return digestOf(bytesOf(name, 8));
}

function pathOf(directory: string, name: string): string {
  return join(directory, "tessera", "packs", `${hexOf(keyOf(name))}.pack`);
}

async function sized(packs: PackCache, names: readonly string[]): Promise<string[]> {
  const sizes = await Promise.all(names.map((name) => packs.sizeOf(keyOf(name))));
  return names.filter((_, index) => sizes[index] !== undefined);
}

test("a file that is not whole, or is another's, is never taken for a pack", () =>
  temporary(async (directory) => {
    const { packs } = await openRepository(realWorld(), directory);
    const path = pathOf(directory, "a");
    await packs.put(keyOf("b"), PACK);
    const damages = [
      () => truncate(path, 0),
      () => truncate(path, 40),
      () => truncate(path, 72),
      () => truncate(path, 49_000),
      () => truncate(path, 51_000),
      async () => writeFile(path, (await readFile(path)).fill(0, 30_000, 34_096)),
      async () => writeFile(path, await readFile(pathOf(directory, "b"))),
    ];
    for (const damage of damages) {
      await packs.put(keyOf("a"), PACK);
      assert.equal(digestOf((await packs.get(keyOf("a"))) ?? assert.fail()), digestOf(PACK));
      await damage();
      assert.equal(await packs.get(keyOf("a")), undefined);
      assert.equal(await packs.sizeOf(keyOf("a")), undefined, "it was removed");
    }
  }));

test("the longest unused packs leave when the bound is exceeded", () =>
  temporary(async (directory) => {
    const options = { packBytesMax: 6 * 60_000 };
    const { packs } = await openRepository(realWorld(), directory, options);
    const names = ["a", "b", "c", "d", "e"];
    for (const [age, name] of names.entries()) {
      await packs.put(keyOf(name), PACK);
      await utimes(pathOf(directory, name), age + 1, age + 1);
    }
    assert.deepEqual(await sized(packs, names), names);
    await packs.get(keyOf("a"));
    await packs.put(keyOf("f"), PACK);
    await packs.put(keyOf("g"), PACK);
    const left = await sized(packs, [...names, "f", "g"]);
    assert.deepEqual(left, ["a", "d", "e", "f", "g"]);
    const { packs: none } = await openRepository(realWorld(), directory, { packBytesMax: 0 });
    await none.put(keyOf("h"), PACK);
    assert.equal(await packs.sizeOf(keyOf("h")), undefined);
  }));

test("several processes share one bound", () =>
  temporary(async (directory) => {
    const options = { packBytesMax: 600_000 };
    const stores = await Promise.all(
      [1, 2, 3].map(() => openRepository(realWorld(), directory, options)),
    );
    await Promise.all(
      stores.map(async ({ packs }, process) => {
        for (let number = 0; number < 40; number += 1) {
          const name = `${process} ${number}`;
          await packs.put(keyOf(name), bytesOf(name, 20_000));
          await packs.get(keyOf(`${(process + 1) % 3} ${number}`));
        }
      }),
    );
    await stores[0]?.packs.put(keyOf("last"), bytesOf("last", 90_000));
    const names = await readdir(join(directory, "tessera", "packs"));
    assert.ok(names.every((name) => name.endsWith(".pack")));
    assert.ok(names.length * 20_000 < 600_000, `${names.length} packs are left`);
    assert.ok(names.length > 5, `only ${names.length} packs are left`);
  }));

test("a pack that cannot be kept is not there, and leaves nothing", () =>
  temporary(async (directory) => {
    const world = { ...realWorld(), files: fullDisk(30_000) };
    const logged: string[] = [];
    const log = { ...world.log, log: (_: unknown, message: string) => void logged.push(message) };
    const { packs } = await openRepository({ ...world, log }, directory);
    await packs.put(keyOf("a"), PACK);
    assert.equal(await packs.get(keyOf("a")), undefined);
    assert.deepEqual(logged, ["a pack cannot be kept"]);
    assert.deepEqual(await readdir(join(directory, "tessera", "packs")), []);
  }));
