/** What every implementation of `ComponentStore` must do. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { BlobReference, Component, Digest } from "#core";
import type { ByteSink } from "#image";
import type { ComponentStore } from "#repository";
import { bytesOf, describe, digestOf, FRAGMENTS, sourceOf, withCode } from "./fixtures.suite.ts";

export interface StoreHarness {
  /** Fresh and empty for each test. */
  readonly store: ComponentStore;
  /** The same store opened once more. */
  readonly reopen: () => Promise<ComponentStore>;
  /** Another empty store. */
  readonly another: () => Promise<ComponentStore>;
}

type Run = (work: (harness: StoreHarness) => Promise<void>) => Promise<void>;

const IMAGE = bytesOf("image", 100_000);

function add(store: ComponentStore, changes = {}, image = IMAGE): Promise<Component> {
  return store.add({
    description: describe(changes),
    fragments: FRAGMENTS,
    image: sourceOf(image),
  });
}

async function contentOf(store: ComponentStore, digest: Digest): Promise<Uint8Array> {
  const reader = await store.openBlob(digest);
  try {
    const content = new Uint8Array(reader.sizeBytes);
    await reader.read(content, 0);
    return content;
  } finally {
    await reader.close();
  }
}

async function put(store: ComponentStore, blob: BlobReference, content: Uint8Array) {
  const ingest = await store.ingest(blob);
  await ingest?.append(content);
  await ingest?.commit();
}

/** Carries a component from one store to another as a migration does. */
async function carry(from: ComponentStore, to: ComponentStore, component: Component) {
  await put(to, component.manifest, await contentOf(from, component.manifest.digest));
  for (const blob of await to.blobsOf(component.manifest)) {
    await put(to, blob, await contentOf(from, blob.digest));
  }
  return to.admit(component.manifest);
}

export function testComponentStore(name: string, run: Run): void {
  const check = (title: string, work: (harness: StoreHarness) => Promise<void>): void => {
    void test(`${name}: ${title}`, () => run(work));
  };

  check("an added component is found, also after reopening", async ({ store, reopen }) => {
    const component = await add(store);
    assert.equal(component.id, digestOf(IMAGE));
    assert.equal(component.sizeBytes, IMAGE.length);
    assert.deepEqual(component.description, describe());
    for (const one of [store, await reopen()]) {
      assert.deepEqual(await one.list(), [component]);
      assert.deepEqual(await one.find(component.id), component);
      assert.deepEqual(await one.fragments(component.id), FRAGMENTS);
      assert.deepEqual(await contentOf(one, component.id), new Uint8Array(IMAGE));
    }
  });

  check("an image that is written on the way is a component as one that is added", async (all) => {
    const { store, another } = all;
    const other = await another();
    const image = (bytes: Uint8Array) => async (sink: ByteSink) => {
      await sink.write(bytes.subarray(0, 70_000));
      await sink.write(bytes.subarray(70_000));
      return { digest: digestOf(IMAGE), sizeBytes: IMAGE.length };
    };
    const source = { description: describe(), fragments: FRAGMENTS };
    const component = await store.write({ ...source, image: image(IMAGE) });
    assert.deepEqual(component, await add(other));
    assert.deepEqual(await contentOf(store, component.id), new Uint8Array(IMAGE));
    assert.equal((await store.verify()).findings.length, 0);
    const again = { ...source, description: describe({ name: "other" }), image: image(IMAGE) };
    assert.deepEqual(await store.write(again), component);
    const short = { ...source, image: image(IMAGE.subarray(1)) };
    await assert.rejects(store.write(short), withCode("repository.size-mismatch"));
    const failing = { ...source, image: () => Promise.reject(new Error("no image")) };
    await assert.rejects(store.write(failing), /no image/);
    assert.deepEqual(await store.list(), [component]);
  });

  check("adding is idempotent", async ({ store }) => {
    const component = await add(store);
    assert.deepEqual(await add(store), component);
    assert.equal((await store.list()).length, 1);
  });

  check("the same image with a better description replaces it", async ({ store }) => {
    const first = await add(store);
    const second = await add(store, { version: "1.22.1-10" });
    assert.equal(second.id, first.id);
    assert.deepEqual(await store.list(), [second]);
    await store.pin("machine:1", [first.id]);
    await assert.rejects(add(store), withCode("repository.component-pinned"));
  });

  check("an invalid description or fragment is refused and leaves nothing", async ({ store }) => {
    for (const changes of [
      { name: "Nginx" },
      { name: "../x" },
      { version: "" },
      { instancePaths: ["var/log"] },
      { instancePaths: ["/var/../etc"] },
    ]) {
      await assert.rejects(add(store, changes), withCode("repository.component-invalid"));
    }
    const fragments = [...FRAGMENTS, ...FRAGMENTS];
    await assert.rejects(
      store.add({ description: describe(), fragments, image: sourceOf(IMAGE) }),
      withCode("repository.component-invalid"),
    );
    assert.deepEqual((await store.collect({ dryRun: true })).removed, []);
  });

  check("names, versions and digests resolve", async ({ store }) => {
    const old = await add(store, { version: "1.9-1" }, bytesOf("a", 100));
    const recent = await add(store, { version: "1.10-1" }, bytesOf("b", 100));
    assert.deepEqual(await store.resolve("nginx"), recent);
    assert.deepEqual(await store.resolve("program/nginx@1.9-1"), old);
    assert.deepEqual(await store.resolve(old.id), old);
    assert.deepEqual(await store.resolve(old.id.slice(7, 15)), old);
    await assert.rejects(store.resolve("apache"), withCode("repository.component-unknown"));
    await add(store, { kind: "os", version: "0" }, bytesOf("c", 100));
    await assert.rejects(store.resolve("nginx"), withCode("repository.component-ambiguous"));
  });

  check("a component carried to another store is the same there", async (harness) => {
    const component = await add(harness.store);
    const other = await harness.another();
    assert.deepEqual(await carry(harness.store, other, component), component);
    assert.deepEqual(await other.list(), [component]);
    assert.deepEqual((await other.verify()).findings, []);
    const made = await (
      await harness.another()
    ).add({
      description: describe(),
      fragments: FRAGMENTS,
      image: sourceOf(IMAGE),
    });
    assert.deepEqual(made, component);
  });

  check("what a peer says of a held image does not replace what is held", async (harness) => {
    const held = await add(harness.store);
    const other = await harness.another();
    const foreign = await add(other, { version: "9" });
    assert.notDeepEqual(foreign.manifest, held.manifest);
    assert.deepEqual(await carry(other, harness.store, foreign), held);
    assert.deepEqual(await harness.store.list(), [held]);
  });

  check("an ingest that was released goes on where it stopped", async ({ store, reopen }) => {
    const blob = { digest: digestOf(IMAGE), sizeBytes: IMAGE.length };
    const first = await store.ingest(blob);
    assert.equal(first?.writtenBytes, 0);
    await first.append(IMAGE.subarray(0, 70_000));
    await first.release();
    assert.equal(await store.hasBlob(blob.digest), false);
    await assert.rejects(store.openBlob(blob.digest), withCode("repository.blob-missing"));
    const second = await (await reopen()).ingest(blob);
    assert.equal(second?.writtenBytes, 70_000);
    await second.append(IMAGE.subarray(70_000));
    await second.commit();
    assert.equal(await store.ingest(blob), undefined);
    assert.deepEqual(await contentOf(store, blob.digest), new Uint8Array(IMAGE));
  });

  check("an aborted ingest starts anew", async ({ store }) => {
    const blob = { digest: digestOf(IMAGE), sizeBytes: IMAGE.length };
    const first = await store.ingest(blob);
    await first?.append(IMAGE.subarray(0, 1000));
    await first?.abort();
    const second = await store.ingest(blob);
    assert.equal(second?.writtenBytes, 0);
    await second.abort();
    await assert.rejects(second.append(IMAGE), withCode("repository.ingest-closed"));
  });

  check("wrong bytes never become a blob", async ({ store }) => {
    const blob = { digest: digestOf(IMAGE), sizeBytes: IMAGE.length };
    const wrong = await store.ingest(blob);
    await wrong?.append(bytesOf("other", IMAGE.length));
    await assert.rejects(wrong?.commit() ?? assert.fail(), withCode("repository.digest-mismatch"));
    const short = await store.ingest(blob);
    assert.equal(short?.writtenBytes, 0);
    await short.append(IMAGE.subarray(1));
    await assert.rejects(short.append(IMAGE), withCode("repository.size-mismatch"));
    await assert.rejects(short.commit(), withCode("repository.size-mismatch"));
    assert.equal(await store.hasBlob(blob.digest), false);
    await put(store, blob, IMAGE);
    const lie = { digest: blob.digest, sizeBytes: 5 };
    await assert.rejects(store.ingest(lie), withCode("repository.size-mismatch"));
    assert.equal(await store.hasBlob(blob.digest), true);
  });

  check("a second opener waits, then finds the blob or goes on", async ({ store, reopen }) => {
    const other = await reopen();
    const blob = { digest: digestOf(IMAGE), sizeBytes: IMAGE.length };
    const first = await store.ingest(blob);
    const aborted = other.ingest(blob, AbortSignal.timeout(50));
    await assert.rejects(aborted, { name: "TimeoutError" });
    const going = other.ingest(blob);
    await first?.append(IMAGE.subarray(0, 10));
    await first?.release();
    const second = await going;
    assert.equal(second?.writtenBytes, 10);
    const finding = store.ingest(blob);
    await second.append(IMAGE.subarray(10));
    await second.commit();
    assert.equal(await finding, undefined);
  });

  check("a manifest is admitted only when all its blobs are held", async ({ store, reopen }) => {
    const component = await add(store);
    const blobs = await store.blobsOf(component.manifest);
    const contents = new Map<Digest, Uint8Array>();
    for (const { digest } of [...blobs, component.manifest]) {
      contents.set(digest, await contentOf(store, digest));
    }
    await store.remove(component.id);
    const { manifest } = component;
    const admit = () => store.admit(manifest);
    for (const blob of [manifest, ...blobs]) {
      await assert.rejects(admit, withCode("repository.blob-missing"));
      assert.deepEqual(await store.list(), []);
      await put(store, blob, contents.get(blob.digest) ?? assert.fail());
    }
    assert.deepEqual(await admit(), component);
    assert.deepEqual(await (await reopen()).list(), [component]);
  });

  check("pins keep a component from removal", async ({ store, reopen }) => {
    const component = await add(store);
    await store.pin("machine:1", [component.id]);
    await (await reopen()).pin("machine:2", [component.id]);
    await store.pin("machine:2", [digestOf(bytesOf("later", 1))]);
    assert.deepEqual([...(await store.pins()).keys()].toSorted(), ["machine:1", "machine:2"]);
    assert.equal((await store.pins()).get("machine:2")?.length, 2);
    await assert.rejects(store.remove(component.id), withCode("repository.component-pinned"));
    await store.unpin("machine:1");
    await assert.rejects(store.remove(component.id), withCode("repository.component-pinned"));
    await store.unpin("machine:2");
    await store.unpin("machine:2");
    await store.remove(component.id);
    assert.deepEqual(await store.list(), []);
    await assert.rejects(store.remove(component.id), withCode("repository.component-unknown"));
  });

  check("removing keeps what another component shares", async ({ store }) => {
    const one = await add(store, {}, bytesOf("one", 5000));
    const two = await add(store, {}, bytesOf("two", 5000));
    assert.equal(one.fragments.digest, two.fragments.digest);
    await store.remove(one.id);
    assert.equal(await store.hasBlob(one.id), false);
    assert.deepEqual(await store.fragments(two.id), FRAGMENTS);
    assert.deepEqual((await store.verify()).findings, []);
    assert.deepEqual((await store.collect({ dryRun: false })).removed, []);
  });

  check("what is being ingested or pinned is not collected", async ({ store, reopen }) => {
    const other = await reopen();
    const held = { digest: digestOf(IMAGE), sizeBytes: IMAGE.length };
    await put(store, held, IMAGE);
    const content = bytesOf("open", 5000);
    const open = await store.ingest({ digest: digestOf(content), sizeBytes: 5000 });
    await open?.append(content.subarray(0, 100));
    for (const dryRun of [true, false]) {
      assert.deepEqual((await other.collect({ dryRun })).removed, []);
    }
    await open?.append(content.subarray(100));
    await open?.commit();
    assert.equal(await other.hasBlob(digestOf(content)), true);
    assert.equal(await other.hasBlob(held.digest), true);
  });

  check("verify finds nothing in a sound store and counts it", async ({ store }) => {
    assert.deepEqual(await store.verify(), { components: 0, blobs: 0, bytes: 0, findings: [] });
    const component = await add(store);
    const blobs = [component.manifest, ...(await store.blobsOf(component.manifest))];
    const bytes = blobs.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    const report = { components: 1, blobs: 4, bytes, findings: [] };
    assert.deepEqual(await store.verify(), report);
    assert.deepEqual(await store.verify(component.id), report);
    const unknown = store.verify(digestOf(bytesOf("x", 1)));
    await assert.rejects(unknown, withCode("repository.component-unknown"));
  });

  check("an empty image is a component too", async ({ store }) => {
    const component = await add(store, {}, new Uint8Array(0));
    assert.equal(component.sizeBytes, 0);
    assert.deepEqual((await store.verify()).findings, []);
  });
}
