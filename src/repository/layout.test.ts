/** The directory as other tools and other hands see it: format, damage, lies, full disks. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { appendFile, readdir, readFile, rm, truncate, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import * as fc from "fast-check";
import {
  canonicalJson,
  hexOf,
  type BlobReference,
  type Component,
  type Digest,
  type Json,
} from "#core";
import { openRepository, type ComponentStore } from "#repository";
import { realWorld } from "#system";
import {
  bytesOf,
  describe,
  digestOf,
  FRAGMENTS,
  sourceOf,
  temporary,
  withCode,
} from "./fixtures.suite.ts";
import { referenceName } from "./packaging.ts";

const IMAGE = bytesOf("image", 300_000);
const REF_NAME =
  /^[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*(?:\/[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*)*$/;

interface Fixture {
  readonly directory: string;
  readonly store: ComponentStore;
  readonly component: Component;
  readonly path: (digest: Digest) => string;
}

/** A repository with one component. */
function withComponent(work: (fixture: Fixture) => Promise<void>): () => Promise<void> {
  return () =>
    temporary(async (directory) => {
      const store = await openRepository(realWorld(), directory);
      const component = await add(store);
      const path = (digest: Digest) => join(directory, "blobs", "sha256", hexOf(digest));
      await work({ directory, store, component, path });
    });
}

function add(store: ComponentStore, changes = {}, image = IMAGE): Promise<Component> {
  return store.add({
    description: describe(changes),
    fragments: FRAGMENTS,
    image: sourceOf(image),
  });
}

async function jsonOf(path: string): Promise<unknown> {
  return JSON.parse(await readFile(path, "utf8"));
}

function layer(mediaType: string, { digest, sizeBytes }: BlobReference) {
  const type = `application/vnd.tessera.component.${mediaType}`;
  return { mediaType: type, digest, size: sizeBytes };
}

async function put(store: ComponentStore, value: Json) {
  const content = new TextEncoder().encode(canonicalJson(value));
  const blob = { digest: digestOf(content), sizeBytes: content.length };
  const ingest = await store.ingest(blob);
  await ingest?.append(content);
  await ingest?.commit();
  return blob;
}

test(
  "the directory is an OCI image layout",
  withComponent(async ({ directory, component, path, store }) => {
    const marker = await jsonOf(join(directory, "oci-layout"));
    assert.deepEqual(marker, { imageLayoutVersion: "1.0.0" });
    assert.deepEqual(await jsonOf(join(directory, "index.json")), {
      schemaVersion: 2,
      mediaType: "application/vnd.oci.image.index.v1+json",
      manifests: [
        {
          mediaType: "application/vnd.oci.image.manifest.v1+json",
          digest: component.manifest.digest,
          size: component.manifest.sizeBytes,
          annotations: {
            "org.opencontainers.image.ref.name": "program/nginx:1.22.1-9",
            "vnd.tessera.component.id": component.id,
          },
        },
      ],
    });
    const [config] = await store.blobsOf(component.manifest);
    assert.deepEqual(await jsonOf(path(component.manifest.digest)), {
      schemaVersion: 2,
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      config: {
        mediaType: "application/vnd.tessera.component.v1+json",
        digest: config?.digest,
        size: config?.sizeBytes,
      },
      layers: [
        {
          mediaType: "application/vnd.tessera.component.image.v1.erofs",
          digest: component.id,
          size: IMAGE.length,
        },
        {
          mediaType: "application/vnd.tessera.component.fragments.v1+json",
          digest: component.fragments.digest,
          size: component.fragments.sizeBytes,
        },
      ],
    });
    assert.deepEqual(await jsonOf(path(config?.digest ?? component.id)), describe());
    assert.deepEqual(await jsonOf(path(component.fragments.digest)), FRAGMENTS);
    for (const name of await readdir(join(directory, "blobs", "sha256"))) {
      assert.equal(
        digestOf(await readFile(join(directory, "blobs", "sha256", name))),
        `sha256:${name}`,
      );
    }
  }),
);

const skopeo = spawnSync("skopeo", ["--version"]).status === 0;

test(
  "skopeo reads the layout",
  { skip: skopeo ? false : "skopeo is not installed" },
  withComponent(async ({ directory, component }) => {
    const name = `oci:${directory}:program/nginx:1.22.1-9`;
    const { stdout, stderr } = spawnSync("skopeo", ["inspect", "--raw", name]);
    assert.equal(digestOf(stdout), component.manifest.digest, stderr.toString());
  }),
);

test("packaging is fixed: this component has this manifest on every cloud", () =>
  temporary(async (directory) => {
    const store = await openRepository(realWorld(), directory);
    const component = await add(store, {}, bytesOf("golden", 4096));
    assert.equal(
      component.manifest.digest,
      "sha256:42eb2a30d583491600d5b3510b188d1b5d925f64eb9db5549d4958ccbfad534e",
    );
  }));

test("every version gives a reference name that OCI tools accept", () => {
  const version = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9.+~:_-]{0,20}$/);
  const name = fc.stringMatching(/^[a-z0-9][a-z0-9.+_-]{0,20}$/);
  fc.assert(
    fc.property(name, version, fc.boolean(), (name, version, taken) => {
      const description = describe({ name, version });
      const id = digestOf(bytesOf(name, 1));
      const plain = referenceName(description, id, new Set());
      assert.match(plain, REF_NAME);
      const reference = referenceName(description, id, taken ? new Set([plain]) : new Set());
      assert.match(reference, REF_NAME);
      assert.equal(reference === plain, !taken);
    }),
    { numRuns: 1000 },
  );
});

test(
  "a changed image is refused at use and found by verify; adding it again repairs it",
  withComponent(async ({ store, component, path }) => {
    assert.equal(await store.imagePath(component.id), path(component.id));
    const content = Buffer.from(IMAGE);
    content[200_000] = (content[200_000] ?? 0) ^ 1;
    await writeFile(path(component.id), content);
    await assert.rejects(store.imagePath(component.id), withCode("repository.blob-corrupt"));
    await assert.rejects(store.openBlob(component.id), withCode("repository.blob-corrupt"));
    assert.equal(await store.hasBlob(component.id), false);
    const { findings } = await store.verify();
    assert.deepEqual(findings, [
      { digest: component.id, component: "program/nginx:1.22.1-9", problem: "digest" },
    ]);
    assert.deepEqual(await add(store), component);
    assert.equal(await store.imagePath(component.id), path(component.id));
    assert.deepEqual((await store.verify()).findings, []);
  }),
);

test(
  "decay that leaves size and times as they were is found by verify, then refused at use",
  withComponent(async ({ directory, store, component, path }) => {
    const image = path(component.id);
    const decayed = Buffer.from(IMAGE);
    decayed[0] = (decayed[0] ?? 0) ^ 0x80;
    await writeFile(image, decayed);
    const status = await realWorld().files.status(image);
    const record = join(directory, "tessera", "checked", `${hexOf(component.id)}.json`);
    const { sizeBytes, modified_ms, changed_ms, inode } = status ?? assert.fail();
    await writeFile(record, JSON.stringify({ sizeBytes, modified_ms, changed_ms, inode }));
    assert.equal(await store.imagePath(component.id), image);
    assert.equal((await store.verify(component.id)).findings[0]?.problem, "digest");
    await assert.rejects(store.imagePath(component.id), withCode("repository.blob-corrupt"));
  }),
);

test(
  "an image that was only touched is hashed again and trusted again",
  withComponent(async ({ store, component, path, directory }) => {
    await utimes(path(component.id), 1, 1);
    assert.equal(await store.imagePath(component.id), path(component.id));
    const record = join(directory, "tessera", "checked", `${hexOf(component.id)}.json`);
    assert.equal(((await jsonOf(record)) as { modified_ms: number }).modified_ms, 1000);
  }),
);

test(
  "a truncated or grown image is refused",
  withComponent(async ({ store, component, path }) => {
    await truncate(path(component.id), IMAGE.length - 4096);
    await assert.rejects(store.imagePath(component.id), withCode("repository.blob-corrupt"));
    assert.equal((await store.verify()).findings[0]?.problem, "size");
    await add(store);
    await appendFile(path(component.id), "x");
    await assert.rejects(store.imagePath(component.id), withCode("repository.blob-corrupt"));
  }),
);

test(
  "a missing image is said to be missing",
  withComponent(async ({ store, component, path }) => {
    await rm(path(component.id));
    await assert.rejects(store.imagePath(component.id), withCode("repository.blob-missing"));
    assert.equal((await store.verify()).findings[0]?.problem, "missing");
  }),
);

test(
  "a component with a corrupt manifest does not hide the others and can be removed",
  withComponent(async ({ directory, component, path }) => {
    const store = await openRepository(realWorld(), directory);
    const other = await add(store, { name: "redis" }, bytesOf("other", 1000));
    await writeFile(path(component.manifest.digest), "{}");
    const again = await openRepository(realWorld(), directory);
    assert.deepEqual(await again.list(), [other]);
    assert.equal((await again.verify(component.id)).findings[0]?.problem, "size");
    // What the manifest named is not known, so nothing is collected until it is gone.
    const collected = again.collect({ dryRun: false });
    await assert.rejects(collected, withCode("repository.blob-corrupt"));
    await again.remove(component.id);
    await again.collect({ dryRun: false });
    assert.deepEqual(await again.list(), [other]);
    assert.deepEqual((await again.verify()).findings, []);
    assert.equal((await readdir(join(directory, "blobs", "sha256"))).length, 4);
  }),
);

test(
  "manifests that lie are refused and leave nothing behind",
  withComponent(async ({ store, component }) => {
    const [config, image, fragments] = await store.blobsOf(component.manifest);
    assert.ok(config !== undefined && image !== undefined && fragments !== undefined);
    const manifest = (changes: object) => ({
      schemaVersion: 2,
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      config: layer("v1+json", config),
      layers: [layer("image.v1.erofs", image), layer("fragments.v1+json", fragments)],
      ...changes,
    });
    const images = (size: number) => [
      layer("image.v1.erofs", { ...image, sizeBytes: size }),
      layer("fragments.v1+json", fragments),
    ];
    const lies: object[] = [
      { layers: images(5) },
      { layers: images(-1) },
      { layers: images(0.5) },
      { layers: images(2 ** 60) },
      { layers: images(IMAGE.length).slice(0, 1) },
      { layers: [...images(IMAGE.length), layer("image.v1.erofs", image)] },
      { layers: [layer("image.v1.erofs", image), layer("image.v1.erofs", image)] },
      { config: layer("v1+json", { ...config, sizeBytes: 2 ** 30 }) },
      { config: layer("v1+json", image) },
      { config: layer("v2+json", config) },
      { schemaVersion: 1 },
      { config: { ...layer("v1+json", config), digest: "sha256:../../etc/passwd" } },
    ];
    for (const lie of lies) {
      const blob = await put(store, manifest(lie));
      await assert.rejects(store.admit(blob), (error) => {
        assert.ok(error instanceof Error, canonicalJson(lie as Json));
        return withCode("repository.manifest-invalid")(error);
      });
    }
    const missing = { digest: digestOf(bytesOf("none", 1)), sizeBytes: 1 };
    const dangling = await put(store, manifest({ config: layer("v1+json", missing) }));
    await assert.rejects(store.admit(dangling), withCode("repository.blob-missing"));
    assert.deepEqual(await store.list(), [component]);
    assert.deepEqual((await store.verify()).findings, []);
    await store.collect({ dryRun: false });
    assert.deepEqual((await store.verify()).findings, []);
    assert.deepEqual(await store.list(), [component]);
  }),
);

test(
  "artifacts of others in the layout are kept and not taken for components",
  withComponent(async ({ directory, store, component, path }) => {
    const leaf = await put(store, { any: "thing" });
    const foreign = await put(store, {
      schemaVersion: 2,
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      config: { mediaType: "application/vnd.example", digest: leaf.digest, size: leaf.sizeBytes },
      layers: [],
    });
    const file = join(directory, "index.json");
    const index = (await jsonOf(file)) as { manifests: object[]; note?: string };
    index.note = "kept";
    index.manifests.push({
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      digest: foreign.digest,
      size: foreign.sizeBytes,
      annotations: { "org.opencontainers.image.ref.name": "theirs" },
      platform: { os: "linux", architecture: "amd64" },
    });
    await writeFile(file, JSON.stringify(index));
    const again = await openRepository(realWorld(), directory);
    assert.deepEqual(await again.list(), [component]);
    await again.remove(component.id);
    assert.deepEqual((await again.collect({ dryRun: false })).removed, []);
    assert.deepEqual(((await jsonOf(file)) as typeof index).manifests, index.manifests.slice(1));
    assert.equal(((await jsonOf(file)) as typeof index).note, "kept");
    assert.ok((await readFile(path(leaf.digest))).length > 0);
  }),
);

test("updates of the index follow each other, however slow it is to read", () =>
  temporary(async (directory) => {
    const { clock, files, ...world } = realWorld();
    const readFile = async (path: string, bytesMax: number): Promise<Uint8Array> => {
      const content = await files.readFile(path, bytesMax);
      if (path.endsWith("index.json")) await clock.sleep(20);
      return content;
    };
    const slow = { ...world, clock, files: { ...files, readFile } };
    const stores = await Promise.all([1, 2, 3].map(() => openRepository(slow, directory)));
    await Promise.all(
      stores.map((store, number) => add(store, { name: `app-${number}` }, bytesOf(`${number}`, 9))),
    );
    assert.equal((await stores[0]?.list())?.length, 3);
    const ids = (await stores[0]?.list())?.map(({ id }) => id) ?? [];
    await Promise.all(stores.map((store, number) => store.pin("machine", ids.slice(number))));
    assert.equal((await stores[0]?.pins())?.get("machine")?.length, 3);
    await stores[0]?.unpin("machine");
    await Promise.all(stores.map((store, number) => store.remove(ids[number] ?? assert.fail())));
    assert.deepEqual(await stores[0]?.list(), []);
  }));

test("a directory that is something else is not touched", () =>
  temporary(async (directory) => {
    await writeFile(join(directory, "oci-layout"), '{"imageLayoutVersion":"2.0.0"}');
    const opening = openRepository(realWorld(), directory);
    await assert.rejects(opening, withCode("repository.layout-invalid"));
  }));
