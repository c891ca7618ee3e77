/** Recipes and contents between two clouds with real repositories over real TLS. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { TransferProgress } from "./contract.ts";
import {
  Contents,
  addTree,
  edited,
  headOf,
  hold,
  memoryPacks,
  noise,
  openSecond,
  sourceFrom,
} from "./components.suite.ts";
import { Clouds, MIB, portOf, referenceTo, soon } from "./fixture.suite.ts";

const TEXT = Buffer.from("all work and no play makes a dull boy. ".repeat(50_000));

function manyFiles(): Record<string, Uint8Array> {
  return Object.fromEntries(
    Array.from({ length: 300 }, (_, number) => [
      `usr/share/doc/d${number % 7}/file${number}`,
      noise(`small ${number}`, 20 + number * 3),
    ]),
  );
}

test("a component's recipe and contents arrive, at every rate of the link", async () => {
  await using clouds = await Clouds.start();
  const store = await openSecond(clouds);
  const files = { ...manyFiles(), "usr/lib/big": noise("big", 5 * MIB), "usr/lib/text": TEXT };
  const component = await addTree(clouds, store, "1", files);
  for (const expectedBitsPerSecond of [1e6, 50e6, 400e6, 100e9]) {
    const seen: TransferProgress[] = [];
    const options = { expectedBitsPerSecond, cores: 2 };
    await using attempt = await Clouds.start();
    const server = await attempt.serving(sourceFrom(store, memoryPacks().packs), options);
    const receiver = attempt.receiving(portOf(server), { onProgress: (p) => seen.push(p) });
    const { recipe, bases } = await receiver.fetchRecipe(component.id, [], soon());
    assert.deepEqual(bases, []);
    const own = await store.recipe(component.id);
    assert.deepEqual(recipe.contents, own.recipe.contents);
    const wanted = recipe.contents.map((_, index) => index);
    const contents = new Contents(recipe.contents);
    const request = { component: component.id, recipe, bases, wanted };
    const wireBytes = await receiver.fetchContents(request, contents.take, soon());
    assert.ok(wireBytes > 5 * MIB && wireBytes < 8 * MIB);
    assert.deepEqual(contents.numbers(), wanted);
    for (const [index, { head }] of recipe.contents.entries()) {
      assert.equal(headOf(contents.get(index) ?? Buffer.alloc(0)), head);
    }
    const last = seen.at(-1);
    assert.equal(last?.doneBytes, last?.totalBytes);
    assert.equal(last?.wireBytes, wireBytes);
    const shares = Object.values(last?.encodings ?? {});
    assert.equal(
      shares.reduce((sum, { rawBytes }) => sum + rawBytes, 0),
      last?.totalBytes,
    );
  }
});

test("an update travels as patches against what the receiver holds", async () => {
  await using clouds = await Clouds.start();
  const store = await openSecond(clouds);
  const before = { ...manyFiles(), "usr/lib/big": noise("big", 5 * MIB) };
  const after = {
    ...before,
    "usr/lib/big": edited(noise("big", 5 * MIB), 100_000),
    "usr/share/doc/d0/file0": Buffer.from("new"),
  };
  const old = await addTree(clouds, store, "1", before);
  await addTree(clouds, clouds.store, "1", before);
  const component = await addTree(clouds, store, "2", after);
  const unknown = `sha256:${"7".repeat(64)}` as const;
  const server = await clouds.serving(sourceFrom(store), { expectedBitsPerSecond: 5e6 });
  const names = new Set<string>();
  const onProgress = ({ encodings = {} }: TransferProgress): void => {
    for (const name of Object.keys(encodings)) names.add(name.replace(/-\d+$/, ""));
  };
  const receiver = clouds.receiving(portOf(server), { onProgress });
  const fetched = await receiver.fetchRecipe(component.id, [unknown, old.id], soon());
  assert.deepEqual(fetched.bases, [old.id]);
  assert.ok(fetched.wireBytes < 1500, `the recipe took ${fetched.wireBytes}`);
  const { recipe, bases } = fetched;
  const located = await clouds.store.locate(recipe.contents);
  const wanted = located.flatMap((found, index) => (found === undefined ? [index] : []));
  assert.equal(wanted.length, 2);
  const contents = new Contents(recipe.contents);
  const request = { component: component.id, recipe, bases, wanted };
  const wireBytes = await receiver.fetchContents(request, contents.take, soon());
  assert.ok(wireBytes < 3000, `the patch took ${wireBytes}`);
  assert.ok(names.has("difference"), [...names].join());
  for (const index of wanted) {
    assert.equal(headOf(contents.get(index) ?? Buffer.alloc(0)), recipe.contents[index]?.head);
  }
});

test("a blob travels with an older one as dictionary, where both sides hold it", async () => {
  await using clouds = await Clouds.start();
  const store = await openSecond(clouds);
  const before = Buffer.from(noise("json", 300_000).toString("hex"));
  const after = edited(before, 90_000);
  await hold(clouds.store, before);
  await hold(store, before);
  await hold(store, after);
  const server = await clouds.serving(sourceFrom(store));
  const receiver = clouds.receiving(portOf(server));
  const base = referenceTo(before).digest;
  const wireBytes = await receiver.fetchBlob(referenceTo(after), soon(), { base });
  assert.ok(wireBytes < 1000, `it took ${wireBytes}`);
  assert.ok((await clouds.held(referenceTo(after).digest)).equals(after));

  // Where the sender does not hold it, it does without.
  const other = edited(before, 80_000);
  await hold(store, other);
  const unknown = referenceTo(Buffer.from("nobody has it")).digest;
  const plain = await receiver.fetchBlob(referenceTo(other), soon(), { base: unknown });
  assert.ok(plain > 200_000);
  assert.ok((await clouds.held(referenceTo(other).digest)).equals(other));
});
