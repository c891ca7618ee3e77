/** Container images become components: layouts and archives that the tests make. */
import assert from "node:assert/strict";
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { hasCode, type Component, type World } from "#core";
import { compareTrees, mergeTrees, readErofs, type Tree } from "#image";
import { openRepository, type ComponentStore } from "#repository";
import { realWorld } from "#system";
import { addContainerImage } from "./add.ts";
import {
  directoryFor,
  dockerArchive,
  ociLayout,
  tarOf,
  type MadeImage,
} from "./container.suite.ts";
import type { ContainerRequest } from "./contract.ts";

const DPKG =
  "Package: base-files\nStatus: install ok installed\nVersion: 12\nArchitecture: amd64\n\n";
const BASE: Readonly<Record<string, string>> = {
  "etc/os-release": "ID=debian\n",
  "sbin/init": "init",
  "usr/bin/old": "old",
  "var/lib/dpkg/status": DPKG,
};
const IMAGE: MadeImage = {
  layers: [
    { files: BASE, compression: "gzip" },
    { files: { "srv/site": "hello", "usr/bin/tool": "tool" }, compression: "zstd" },
    { files: { "srv/.wh.site": "", "srv/other": "x" }, compression: "none" },
    {
      files: { "var/lib/dpkg/status": `${DPKG}${DPKG.replace("base-files", "nginx")}` },
      compression: "gzip",
    },
  ],
  tag: "registry.example/shop/web:1.2",
};

const unclear = (error: unknown): boolean => hasCode(error, "repository.container-unknown");

interface Scene {
  readonly store: ComponentStore;
  readonly directory: string;
  readonly add: (
    path: string,
    more?: Partial<ContainerRequest>,
    world?: World,
  ) => ReturnType<typeof addContainerImage>;
}

async function scene(t: TestContext): Promise<Scene> {
  const directory = await directoryFor(t);
  const store = await openRepository(realWorld(), join(directory, "repository"));
  let number = 0;
  const add: Scene["add"] = async (path, more = {}, world = realWorld()) => {
    const work = join(directory, `work-${(number += 1)}`);
    await mkdir(work);
    const { signal } = new AbortController();
    const platform = { os: "linux", architecture: "amd64" };
    return await addContainerImage(world, store, {
      path,
      platform,
      layers: false,
      directory: work,
      signal,
      ...more,
    });
  };
  return { store, directory, add };
}

async function treeOf(t: TestContext, store: ComponentStore, { id }: Component): Promise<Tree> {
  const image = await store.openBlob(id);
  t.after(() => image.close());
  return await readErofs(image);
}

async function textIn(tree: Tree, path: string): Promise<string | undefined> {
  const entry = tree.get(path);
  if (entry?.type !== "file") return undefined;
  const bytes = new Uint8Array(entry.content.sizeBytes);
  await entry.content.read(bytes, 0);
  return Buffer.from(bytes).toString();
}

test("an image becomes one OS component, from a layout and from an archive alike", async (t) => {
  const { store, directory, add } = await scene(t);
  const layout = await ociLayout(join(directory, "layout"), [IMAGE]);
  const { components, remarks } = await add(layout);
  const [os] = components;
  assert.ok(os);
  const { kind, name, version, packages, provides } = os.description;
  assert.deepEqual([kind, name, version, components.length, remarks], ["os", "web", "1.2", 1, []]);
  assert.deepEqual(
    packages.map((one) => one.name),
    ["base-files", "nginx"],
  );
  assert.deepEqual(provides, [{ type: "os", name: "web" }]);
  const tree = await treeOf(t, store, os);
  assert.equal(await textIn(tree, "usr/bin/tool"), "tool");
  assert.deepEqual([tree.get("srv/site"), tree.get("proc")?.type], [undefined, "directory"]);
  assert.deepEqual((await store.verify()).findings, []);
  const archive = join(directory, "saved.tar");
  await writeFile(archive, await dockerArchive(IMAGE));
  const again = await add(archive, { name: "other" });
  assert.deepEqual(
    again.components.map(({ id }) => id),
    [os.id],
  );
  assert.equal([...(await store.pins())].length, 0);
});

test("layers become components where they remove nothing, and give the same machine", async (t) => {
  const { store, directory, add } = await scene(t);
  const layout = await ociLayout(join(directory, "layout"), [IMAGE]);
  const whole = (await add(layout)).components;
  const { components, remarks } = await add(layout, { layers: true });
  assert.deepEqual(
    components.map(({ description: { kind, name } }) => [kind, name]),
    [
      ["os", "web"],
      ["program", "web-layer-2"],
      ["program", "web-layer-3"],
    ],
  );
  assert.deepEqual(components[1]?.description.requires, [{ type: "os", name: "web" }]);
  assert.deepEqual(
    components[2]?.description.packages.map((one) => one.name),
    ["nginx"],
  );
  assert.match(remarks[0] ?? "", /1 of 4 layers/);
  const trees = await Promise.all(components.map((one) => treeOf(t, store, one)));
  const [flat] = await Promise.all(whole.map((one) => treeOf(t, store, one)));
  assert.ok(flat);
  assert.deepEqual(await compareTrees(flat, mergeTrees(trees)), []);
  // Another image on the same base shares it.
  const other = {
    ...IMAGE,
    tag: "shop:2",
    layers: [
      ...IMAGE.layers.slice(0, 1),
      { files: { "opt/x": "x" }, compression: "none" as const },
    ],
  };
  const second = await add(await ociLayout(join(directory, "second"), [other]), { layers: true });
  assert.equal(second.components[0]?.id, components[0]?.id);
  assert.deepEqual(second.components[1]?.description.requires, [{ type: "os", name: "web" }]);
});

test("a layer that removes what the base has is joined with all below it", async (t) => {
  const { directory, add } = await scene(t);
  const layers = [
    ...IMAGE.layers,
    { files: { "usr/bin/.wh.old": "" }, compression: "gzip" as const },
  ];
  const layout = await ociLayout(join(directory, "layout"), [{ ...IMAGE, layers }]);
  const { components, remarks } = await add(layout, { layers: true });
  assert.equal(components.length, 1);
  assert.match(remarks.join("\n"), /4 of 5 layers/);
});

test("one image is chosen by platform and by tag", async (t) => {
  const { directory, add } = await scene(t);
  const arm = { ...IMAGE, architecture: "arm64" };
  const twins = await ociLayout(join(directory, "twins"), [IMAGE, arm]);
  const platform = { os: "linux", architecture: "arm64" };
  const [os] = (await add(twins, { platform, name: "a", version: "3" })).components;
  assert.deepEqual([os?.description.architecture, os?.description.version], ["arm64", "3"]);
  const base: MadeImage = { tag: "base:1", layers: IMAGE.layers.slice(0, 1) };
  const both = await ociLayout(join(directory, "both"), [IMAGE, base]);
  await assert.rejects(add(both), unclear);
  await assert.rejects(add(both, { tag: "none" }), unclear);
  assert.equal((await add(both, { tag: "base:1" })).components[0]?.description.name, "base");
  const nameless = await ociLayout(join(directory, "nameless"), [{ ...base, tag: undefined }]);
  await assert.rejects(add(nameless), (error: unknown) => hasCode(error, "import.name-needed"));
  const bare = { tag: "x:y", layers: [{ files: { a: "" }, compression: "none" as const }] };
  const init = await add(await ociLayout(join(directory, "bare"), [bare]));
  assert.match(init.remarks[0] ?? "", /does not boot/);
  assert.match(init.components[0]?.description.version ?? "", /^0-[0-9a-f]{12}$/);
});

test("what is damaged, too large or no image is refused, and nothing stays", async (t) => {
  const { store, directory, add } = await scene(t);
  const make = async (name: string, change: Partial<MadeImage>) =>
    await ociLayout(join(directory, name), [{ ...IMAGE, ...change }]);
  const cases: readonly (readonly [string, string, World?])[] = [
    [await make("diff", { diffIds: ["0".repeat(64)] }), "repository.container-invalid"],
    [await make("flip", { damage: true }), "repository.container-invalid"],
    [
      await make("chart", { layerType: "application/vnd.cncf.helm.chart.content.v1.tar+gzip" }),
      "repository.container-unsupported",
    ],
    [await make("windows", { os: "windows" }), "repository.container-unknown"],
    [
      await make("bomb", {
        layers: [{ files: { zero: "0".repeat(3_000_000) }, compression: "gzip" }],
      }),
      "import.too-large",
      fullWorld(),
    ],
    [
      await make("cut", { layers: [{ raw: (await tarOf(BASE)).subarray(0, 515) }] }),
      "image.tar-invalid",
    ],
    [
      await make("upper", { layers: [...IMAGE.layers, { raw: await tarOf({ "../x": "" }) }] }),
      "image.tar-invalid",
    ],
    [join(directory, "none"), "import.image-damaged"],
  ];
  await mkdir(join(directory, "none"));
  for (const [path, expected, world] of cases) {
    const added = add(path, { layers: true }, world);
    await assert.rejects(
      added,
      (error: unknown) => hasCode(error, expected),
      `${path} ${expected}`,
    );
  }
  const text = join(directory, "text");
  await writeFile(text, "no archive");
  await assert.rejects(add(text));
  assert.deepEqual(await store.list(), []);
  assert.equal([...(await store.pins())].length, 0);
  await rm(join(directory, "repository"), { recursive: true });
  assert.ok((await readdir(directory)).length > 0);
});

/** A disk with little left. */
function fullWorld(): World {
  const world = realWorld();
  return { ...world, files: { ...world.files, freeBytes: () => Promise.resolve(2_000_000) } };
}
