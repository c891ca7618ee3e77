/** What every `ComponentStore` must do for contents, assemblies and packs. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import type { BlobReference, Component } from "#core";
import type { Assembly, ComponentStore, HeldRecipe } from "#repository";
import {
  bytesOf,
  describe,
  digestOf,
  FRAGMENTS,
  imageOf,
  sourceOf,
  withCode,
} from "./fixtures.suite.ts";
import type { StoreHarness } from "./store.suite.ts";

const SHARED = bytesOf("shared", 70_000);
const FILES = {
  one: bytesOf("one", 10_000),
  small: bytesOf("small", 100),
  twin: bytesOf("one", 10_000),
  shared: SHARED,
};
const IMAGE = bytesOf("image", 100_000);
const BLOB: BlobReference = { digest: digestOf(IMAGE), sizeBytes: IMAGE.length };

function add(store: ComponentStore, name: string, image: Uint8Array): Promise<Component> {
  const description = describe({ name });
  return store.add({ description, fragments: FRAGMENTS, image: sourceOf(image) });
}

async function open(store: ComponentStore, blob = BLOB): Promise<Assembly> {
  return (await store.assemble(blob)) ?? assert.fail("it is held");
}

async function contentsOf(store: ComponentStore, held: HeldRecipe): Promise<Uint8Array[]> {
  const reader = await store.openContents(held.component);
  try {
    const contents: Uint8Array[] = [];
    for (const [index, { sizeBytes }] of held.recipe.contents.entries()) {
      const content = new Uint8Array(sizeBytes);
      const middle = Math.floor(sizeBytes / 3);
      await reader.read(index, content.subarray(middle), middle);
      await reader.read(index, content.subarray(0, middle), 0);
      contents.push(content);
    }
    return contents;
  } finally {
    await reader.close();
  }
}

/** The image from the recipe and the contents alone. */
function rebuild(held: HeldRecipe, contents: readonly Uint8Array[]): Uint8Array {
  const image = new Uint8Array(held.recipe.sizeBytes);
  for (const [index, content] of contents.entries()) {
    for (const { offset, length, position } of held.recipe.places(index).flat()) {
      image.set(content.subarray(offset, offset + length), position);
    }
  }
  for (const { position, bytes } of held.recipe.metadata(held.digests)) image.set(bytes, position);
  return image;
}

type Run = (work: (harness: StoreHarness) => Promise<void>) => Promise<void>;

export function testStoreContents(name: string, run: Run): void {
  const check = (title: string, work: (harness: StoreHarness) => Promise<void>): void => {
    void test(`${name}: ${title}`, () => run(work));
  };

  check("recipe and contents give the image again, also after reopening", async (harness) => {
    const images = [await imageOf(FILES), bytesOf("no file system", 200_000), new Uint8Array()];
    for (const [number, image] of images.entries()) {
      const { id } = await add(harness.store, `app-${number}`, image);
      for (const store of [harness.store, await harness.reopen()]) {
        const held = await store.recipe(id);
        assert.equal(held.component, id);
        assert.equal(held.recipe.kind, number === 0 ? "tree" : "chunks");
        assert.equal(held.sketches.length, held.recipe.contents.length);
        const contents = await contentsOf(store, held);
        for (const [index, content] of contents.entries()) {
          const digest = createHash("sha256").update(content).digest();
          assert.deepEqual(Buffer.from(held.digests[index] ?? []), digest);
        }
        assert.equal(digestOf(rebuild(held, contents)), id);
      }
    }
    const one = await harness.store.recipe(digestOf(images[0] ?? assert.fail()));
    assert.equal(one.recipe.contents.length, 3, "equal files are one content");
    const lengths = one.recipe.contents.map(({ sizeBytes }, index) => [
      sizeBytes,
      (one.sketches[index]?.length ?? 0) > 0,
    ]);
    const expected = new Map<unknown, unknown>([
      [10_000, true],
      [100, false],
      [70_000, true],
    ]);
    assert.deepEqual(new Map(lengths as [unknown, unknown][]), expected);
  });

  check("the recipe of what is not held is refused", async ({ store }) => {
    const unknown = withCode("repository.component-unknown");
    await assert.rejects(store.recipe(BLOB.digest), unknown);
    await assert.rejects(store.openContents(BLOB.digest), unknown);
    const { id } = await add(store, "app", await imageOf(FILES));
    const reader = await store.openContents(id);
    const refused = withCode("repository.content-unknown");
    for (const [content, offset] of [
      [3, 0],
      [-1, 0],
      [0, 9_999_999],
      [0, -1],
    ] as const) {
      await assert.rejects(reader.read(content, new Uint8Array(2), offset), refused);
    }
    await reader.close();
  });

  check("contents are located in any component that is held", async ({ store, reopen }) => {
    const first = await add(store, "first", await imageOf(FILES));
    const second = await add(
      store,
      "second",
      await imageOf({ shared: SHARED, x: bytesOf("x", 9) }),
    );
    const contents = [...(await store.recipe(first.id)).recipe.contents];
    contents.push(...(await store.recipe(second.id)).recipe.contents);
    const shared = contents.find(({ sizeBytes }) => sizeBytes === 70_000) ?? assert.fail();
    const wanted = [
      ...contents,
      { ...shared, sizeBytes: 69_999 },
      { ...shared, head: `${shared.head.slice(0, 15)}${shared.head.endsWith("0") ? 1 : 0}` },
      { head: "0000000000000000", sizeBytes: 1 },
    ];
    for (const opened of [store, await reopen()]) {
      const located = await opened.locate(wanted);
      assert.equal(located.length, wanted.length);
      assert.deepEqual(located.slice(contents.length), [undefined, undefined, undefined]);
      for (const [index, { head, sizeBytes }] of contents.entries()) {
        const found = located[index] ?? assert.fail();
        assert.equal(Buffer.from(found.digest).toString("hex").slice(0, 16), head);
        const { recipe } = await opened.recipe(found.component);
        assert.equal(recipe.contents[found.content]?.sizeBytes, sizeBytes);
      }
    }
    await store.remove(first.id);
    const left = (await (await reopen()).locate(contents)).map((found) => found?.component);
    assert.equal(left.filter((component) => component === second.id).length, 3);
    assert.equal(left.filter((component) => component === undefined).length, 2);
    assert.deepEqual(await store.locate([]), []);
  });

  check("an assembly takes its bytes in any order", async ({ store }) => {
    const assembly = await open(store);
    assert.equal(assembly.state, undefined);
    const ranges = [
      [70_000, 100_000],
      [0, 10_000],
      [40_000, 70_000],
      [10_000, 40_000],
    ] as const;
    await Promise.all(ranges.map(([from, to]) => assembly.write(IMAGE.subarray(from, to), from)));
    const back = new Uint8Array(100);
    await assembly.read(back, 39_950);
    assert.deepEqual(back, new Uint8Array(IMAGE.subarray(39_950, 40_050)));
    assert.equal(await store.hasBlob(BLOB.digest), false);
    await assembly.commit();
    assert.equal(await store.hasBlob(BLOB.digest), true);
    assert.equal(await store.assemble(BLOB), undefined);
    assert.deepEqual((await store.verify()).findings, []);
    await assembly.release();
  });

  check(
    "an assembly that was released goes on from its last checkpoint",
    async ({ store, reopen }) => {
      const first = await open(store);
      await first.write(IMAGE.subarray(50_000), 50_000);
      await first.checkpoint(Buffer.from("half"));
      await first.release();
      const second = await open(await reopen());
      assert.equal(Buffer.from(second.state ?? []).toString(), "half");
      const back = new Uint8Array(60_000);
      await second.read(back, 40_000);
      assert.deepEqual(back.subarray(10_000), new Uint8Array(IMAGE.subarray(50_000)));
      assert.deepEqual(back.subarray(0, 10_000), new Uint8Array(10_000), "never written");
      await second.write(IMAGE.subarray(0, 50_000), 0);
      await second.commit();
      assert.equal(await store.hasBlob(BLOB.digest), true);
    },
  );

  check("what was said to be settled may still change", async ({ store }) => {
    const assembly = await open(store);
    await assembly.write(bytesOf("wrong", 100_000), 0);
    assembly.settled(60_000);
    await assembly.checkpoint(new Uint8Array());
    await assembly.write(IMAGE, 0);
    assembly.settled(10 ** 9);
    await assembly.commit();
    assert.deepEqual((await store.verify()).findings, []);
  });

  check("wrong bytes never become a blob, and go", async ({ store }) => {
    const assembly = await open(store);
    await assembly.write(IMAGE.subarray(0, 99_999), 0);
    await assembly.checkpoint(Buffer.from("all but one"));
    await assert.rejects(assembly.commit(), withCode("repository.digest-mismatch"));
    await assert.rejects(assembly.commit(), withCode("repository.ingest-closed"));
    assert.equal(await store.hasBlob(BLOB.digest), false);
    const again = await open(store);
    assert.equal(again.state, undefined);
    await again.abort();
    const fresh = await open(store);
    assert.equal(fresh.state, undefined);
    await fresh.abort();
  });

  check("an assembly refuses what is outside it, too large or too late", async ({ store }) => {
    const assembly = await open(store);
    const outside = withCode("repository.size-mismatch");
    await assert.rejects(assembly.write(new Uint8Array(2), IMAGE.length - 1), outside);
    await assert.rejects(assembly.write(new Uint8Array(2), -1), outside);
    await assert.rejects(assembly.read(new Uint8Array(2), IMAGE.length - 1), outside);
    const tooLarge = withCode("repository.state-too-large");
    await assert.rejects(assembly.checkpoint(new Uint8Array(4 * 2 ** 20 + 1)), tooLarge);
    await assembly.checkpoint(new Uint8Array(4 * 2 ** 20));
    const released = assembly.release();
    await assert.rejects(
      assembly.write(new Uint8Array(2), 0),
      withCode("repository.ingest-closed"),
    );
    await released;
    const again = await open(store);
    assert.equal(again.state?.length, 4 * 2 ** 20);
    await again.abort();
  });

  check(
    "one writer at a time, whichever kind; the other kind begins anew",
    async ({ store, reopen }) => {
      const other = await reopen();
      const assembly = await open(store);
      await assembly.write(IMAGE, 0);
      await assembly.checkpoint(Buffer.from("whole"));
      let waiting = true;
      const ingested = other.ingest(BLOB).finally(() => (waiting = false));
      const aborted = other.assemble(BLOB, AbortSignal.abort(new Error("enough")));
      await assert.rejects(aborted, /enough/);
      assert.equal(waiting, true);
      await assembly.release();
      const ingest = (await ingested) ?? assert.fail();
      assert.equal(ingest.writtenBytes, 0);
      await ingest.append(IMAGE.subarray(0, 5000));
      const assembled = store.assemble(BLOB);
      await ingest.release();
      const second = (await assembled) ?? assert.fail();
      assert.equal(second.state, undefined);
      const waiter = other.ingest(BLOB);
      await second.write(IMAGE, 0);
      await second.commit();
      assert.equal(await waiter, undefined);
      await assert.rejects(
        store.assemble({ ...BLOB, sizeBytes: 5 }),
        withCode("repository.size-mismatch"),
      );
    },
  );

  check("an open or pinned assembly is not collected, another is", async ({ store, reopen }) => {
    const other = await reopen();
    const assembly = await open(store);
    await assembly.write(IMAGE.subarray(0, 50_000), 0);
    await assembly.checkpoint(new Uint8Array());
    assert.deepEqual((await other.collect({ dryRun: false })).removed, []);
    await assembly.write(IMAGE, 0);
    await assembly.commit();
    assert.deepEqual((await other.collect({ dryRun: false })).removed, []);
    assert.equal(await other.hasBlob(BLOB.digest), true);
  });

  check("a component is admitted with its recipe", async ({ store, another }) => {
    const component = await add(store, "app", await imageOf(FILES));
    const held = await store.recipe(component.id);
    const target = await another();
    for (const blob of [component.manifest, ...(await store.blobsOf(component.manifest))]) {
      const reader = await store.openBlob(blob.digest);
      const content = new Uint8Array(blob.sizeBytes);
      await reader.read(content, 0);
      await reader.close();
      const assembly = await open(target, blob);
      await assembly.write(content, 0);
      await assembly.commit();
    }
    const wrong = { recipe: { ...held, digests: held.digests.toReversed() } };
    await assert.rejects(
      target.admit(component.manifest, wrong),
      withCode("repository.recipe-invalid"),
    );
    await target.admit(component.manifest, { recipe: held });
    const kept = await target.recipe(component.id);
    assert.deepEqual(kept.recipe.contents, held.recipe.contents);
    assert.deepEqual(kept.digests.map(digestOf), held.digests.map(digestOf));
  });

  check("packs are kept by key", async ({ store, reopen }) => {
    const [key, other] = [digestOf(bytesOf("key", 1)), digestOf(bytesOf("other", 1))];
    const pack = bytesOf("pack", 12_345);
    assert.equal(await store.packs.get(key), undefined);
    assert.equal(await store.packs.sizeOf(key), undefined);
    await store.packs.put(key, pack);
    const { packs } = await reopen();
    assert.equal(await packs.sizeOf(key), 12_345);
    assert.equal(digestOf((await packs.get(key)) ?? assert.fail()), digestOf(pack));
    assert.equal(await packs.get(other), undefined);
    await packs.put(key, pack.subarray(5));
    assert.equal((await store.packs.get(key))?.length, 12_340);
    assert.deepEqual((await store.collect({ dryRun: false })).removed, []);
    assert.deepEqual((await store.verify()).findings, []);
    assert.equal(await store.packs.sizeOf(key), 12_340);
  });
}
