import assert from "node:assert/strict";
import { appendFile, cp, mkdir, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { OPERATIONS, type Input } from "#api";
import { hexOf, type Component } from "#core";
import { twoClouds, type TestCloud } from "../clouds.suite.ts";
import { layoutOf } from "../layout.ts";
import { call, code } from "./call.suite.ts";

/** `full` holds all small components. */
async function clouds(t: TestContext): Promise<{ full: TestCloud; empty: TestCloud }> {
  const [full, empty] = (await twoClouds(t)).clouds;
  return { full, empty };
}

const repositoryOf = (cloud: TestCloud): string => layoutOf(cloud.root).repository;

function blobPath(cloud: TestCloud, digest: Component["id"]): string {
  return join(repositoryOf(cloud), "blobs", "sha256", hexOf(digest));
}

async function named(cloud: TestCloud, name: string): Promise<Component> {
  return await cloud.parts.store.resolve(name);
}

const namesOf = (components: readonly Component[]): string[] =>
  components.map(({ description }) => description.name);

test("components are listed by kind, and shown by each of their names", async (t) => {
  const { full } = await clouds(t);
  const { components } = await call(full, "component.list", {});
  assert.deepEqual(namesOf(components), ["kernel", "os", "data", "web"]);
  const programs = await call(full, "component.list", { kind: "program" });
  assert.deepEqual(namesOf(programs.components), ["data", "web"]);
  const web = await named(full, "web");
  const texts = ["web", "web@1", "program/web@1", web.id, web.id.slice(7, 15), web.id.slice(0, 20)];
  for (const component of texts) {
    assert.deepEqual(await call(full, "component.show", { component }), {
      component: web,
      pinnedBy: [],
    });
  }
  for (const component of ["nginx", "web@2", "os/web", `sha256:${"0".repeat(64)}`, "../web"]) {
    const shown = call(full, "component.show", { component });
    await assert.rejects(shown, code("repository.component-unknown"), component);
  }
});

test("a component that a machine has is shown as pinned, and not removed", async (t) => {
  const { full } = await clouds(t);
  const uuid = await full.machine("web-1", { stopped: true });
  const { pinnedBy } = await call(full, "component.show", { component: "web" });
  assert.deepEqual(pinnedBy, [`machine:${uuid}`]);
  const refused = call(full, "component.remove", { component: "web" });
  await assert.rejects(refused, code("repository.component-pinned"));
  const { id } = await named(full, "web");
  await assert.rejects(
    call(full, "component.remove", { component: id }),
    code("repository.component-pinned"),
  );
  await call(full, "machine.remove", { machine: "web-1" });
  assert.deepEqual(await call(full, "component.remove", { component: "web" }), { removed: id });
  await assert.rejects(readFile(blobPath(full, id)), { code: "ENOENT" });
  await assert.rejects(
    call(full, "component.remove", { component: id }),
    code("repository.component-unknown"),
  );
});

test("an EROFS image is added, and is the same component as where it came from", async (t) => {
  const { full, empty } = await clouds(t);
  const { id, description } = await named(full, "web");
  const path = blobPath(full, id);
  const fragments = [{ path: "/etc/passwd", text: "web:x:900:900::/:/bin/false\n" }];
  const added = await call(empty, "component.add", {
    source: { from: "image", path, description, fragments },
  });
  assert.deepEqual([added.components.length, added.components[0]?.id], [1, id]);
  assert.deepEqual(await empty.parts.store.fragments(id), fragments);
  const { findings } = await call(empty, "component.verify", {});
  assert.deepEqual(findings, []);
  const link = join(empty.root, "link");
  await symlink(path, link);
  await call(empty, "component.add", { source: { from: "image", path: link, description } });
});

test("what is no EROFS image is refused, and nothing of it stays", async (t) => {
  const { full, empty } = await clouds(t);
  const { id, description } = await named(full, "web");
  const add = (path: string, more: object = {}) =>
    call(empty, "component.add", {
      source: { from: "image", path, description: { ...description, ...more } },
    });
  const whole = await readFile(blobPath(full, id));
  const broken = {
    text: Buffer.from("not an image"),
    empty: Buffer.alloc(0),
    half: whole.subarray(0, 512),
  };
  for (const [name, bytes] of Object.entries(broken)) {
    await writeFile(join(empty.root, name), bytes);
    await assert.rejects(add(join(empty.root, name)), code("image.erofs-invalid"), name);
  }
  await assert.rejects(add("image"), code("agent.path-relative"));
  await assert.rejects(add(join(empty.root, "absent")), code("agent.path-missing"));
  await assert.rejects(add(empty.root), code("agent.path-missing"));
  const bad = add(blobPath(full, id), { name: "../web" });
  await assert.rejects(bad, code("repository.component-invalid"));
  assert.deepEqual(await call(empty, "component.list", {}), { components: [] });
  assert.deepEqual(await readdir(join(repositoryOf(empty), "blobs", "sha256")), []);
});

test("an OCI layout is added whole, and again without harm", async (t) => {
  const { full, empty } = await clouds(t);
  await empty.parts.offerChanged();
  const source = { from: "oci-layout", path: repositoryOf(full) } as const;
  const { components } = await call(empty, "component.add", { source });
  assert.deepEqual(components, await full.parts.store.list());
  assert.deepEqual(await empty.parts.store.list(), components);
  const uuid = await empty.machine("web-1", { stopped: true });
  assert.deepEqual((await call(empty, "component.add", { source })).components, components);
  const link = join(empty.root, "link");
  await symlink(repositoryOf(full), link);
  await call(empty, "component.add", { source: { from: "oci-layout", path: link } });
  await call(empty, "machine.start", { machine: uuid });
});

test("what is no OCI layout is refused and left as it is", async (t) => {
  const { full, empty } = await clouds(t);
  const add = (path: string) =>
    call(empty, "component.add", { source: { from: "oci-layout", path } });
  const directory = join(empty.root, "documents");
  await mkdir(directory);
  await writeFile(join(directory, "letter"), "");
  for (const path of [
    join(empty.root, "absent"),
    "repository",
    directory,
    join(directory, "letter"),
  ])
    await assert.rejects(add(path), code("agent.path-missing"), path);
  assert.deepEqual(await readdir(directory), ["letter"]);
  await writeFile(join(directory, "oci-layout"), '{"imageLayoutVersion": "2.0.0"}');
  await writeFile(join(directory, "index.json"), "{}");
  await assert.rejects(add(directory), code("repository.layout-invalid"));
  await cp(join(repositoryOf(full), "oci-layout"), join(directory, "oci-layout"));
  await assert.rejects(add(directory), code("repository.json-invalid"));
  const { components } = await call(empty, "component.list", {});
  assert.deepEqual(components, []);
});

test("of a damaged or hostile OCI layout nothing is added", async (t) => {
  const { full, empty } = await clouds(t);
  const web = await named(full, "web");
  const copy = join(empty.root, "copy");
  const blob = (digest: Component["id"]): string => join(copy, "blobs", "sha256", hexOf(digest));
  const damages: readonly [string, () => Promise<void>][] = [
    ["an image with other bytes", () => appendFile(blob(web.id), "more")],
    ["no image", () => rm(blob(web.id))],
    ["no manifest", () => rm(blob(web.manifest.digest))],
    ["another manifest", () => writeFile(blob(web.manifest.digest), "{}")],
    ["fragments with other bytes", () => writeFile(blob(web.fragments.digest), "[1]")],
    ["an index that names what is not there", () => renameManifest(copy, web)],
  ];
  for (const [what, damage] of damages) {
    await rm(copy, { recursive: true, force: true });
    await cp(repositoryOf(full), copy, { recursive: true });
    await damage();
    const added = call(empty, "component.add", { source: { from: "oci-layout", path: copy } });
    await assert.rejects(added, code("agent.layout-corrupt"), what);
    assert.deepEqual(await call(empty, "component.list", {}), { components: [] }, what);
  }
});

async function renameManifest(copy: string, { manifest }: Component): Promise<void> {
  const path = join(copy, "index.json");
  const text = await readFile(path, "utf8");
  await writeFile(path, text.replaceAll(manifest.digest, `sha256:${"0".repeat(64)}`));
}

test("verify finds a corrupt image, which is then removed by its digest and added again", async (t) => {
  const { full, empty } = await clouds(t);
  const [web, data] = [await named(full, "web"), await named(full, "data")];
  await cp(repositoryOf(full), join(empty.root, "copy"), { recursive: true });
  await writeFile(blobPath(full, web.id), Buffer.alloc(web.sizeBytes));
  const expected = [{ digest: web.id, problem: "digest" }];
  for (const input of [{}, { component: "web" }, { component: web.id }]) {
    const { findings } = await call(full, "component.verify", input);
    assert.deepEqual(
      findings.map(({ digest, problem }) => ({ digest, problem })),
      expected,
    );
    assert.ok(findings[0]?.component?.includes("web"));
  }
  const other = await call(full, "component.verify", { component: "data" });
  assert.deepEqual([other.components, other.findings], [1, []]);
  await writeFile(blobPath(full, data.manifest.digest), "{}");
  await full.restart();
  // Its manifest cannot be read, so it has no name any more; it is found by its whole digest.
  const shown = call(full, "component.show", { component: "data" });
  await assert.rejects(shown, code("repository.component-unknown"));
  const { findings } = await call(full, "component.verify", { component: data.id });
  assert.deepEqual(
    findings.map(({ digest }) => digest),
    [data.manifest.digest],
  );
  for (const { id } of [data, web]) await call(full, "component.remove", { component: id });
  const source = { from: "oci-layout", path: join(empty.root, "copy") } as const;
  await call(full, "component.add", { source });
  const { components, findings: left } = await call(full, "component.verify", {});
  assert.deepEqual([components, left], [4, []]);
});

test("what no component names is collected; a dry run only tells of it", async (t) => {
  const { full } = await clouds(t);
  const orphan = `sha256:${"ab".repeat(32)}` as const;
  const bytes = "bytes that nobody names";
  await writeFile(blobPath(full, orphan), bytes);
  const removed = [{ digest: orphan, sizeBytes: bytes.length }];
  const dry = await call(full, "component.collect", { dryRun: true });
  assert.deepEqual(dry, { removed, bytes: bytes.length, dryRun: true });
  assert.equal(await readFile(blobPath(full, orphan), "utf8"), bytes);
  const wet = await call(full, "component.collect", {});
  assert.deepEqual(wet, { removed, bytes: bytes.length, dryRun: false });
  await assert.rejects(readFile(blobPath(full, orphan)), { code: "ENOENT" });
  assert.deepEqual((await call(full, "component.verify", {})).findings, []);
  assert.equal((await call(full, "component.list", {})).components.length, 4);
});

const file = (fileName: string, text: string) => ({ fileName, text });

test("a build judges its recipe, locks and bases before it begins", async (t) => {
  const { full } = await clouds(t);
  const osText = "{kind: os, name: debian, packages: [base-files]}";
  const os = file("debian.yaml", osText);
  const web = file("web.yaml", "{kind: program, base: debian, name: web, packages: [nginx]}");
  const badLock = file("debian.lock.json", "{}");
  const wrong: readonly [string, string, Input<"component.build">][] = [
    ["build.recipe-invalid", "no YAML", { recipe: file("a.yaml", "{"), bases: [] }],
    ["build.recipe-invalid", "no recipe", { recipe: file("a.yaml", "[]"), bases: [] }],
    ["build.recipe-invalid", "empty", { recipe: file("a.yaml", ""), bases: [] }],
    ["build.lock-invalid", "its lock", { recipe: os, lock: badLock, bases: [] }],
    ["build.lock-invalid", "a base's", { recipe: web, bases: [{ recipe: os, lock: badLock }] }],
    ["build.base-missing", "no base", { recipe: web, bases: [] }],
  ];
  for (const [expected, what, input] of wrong) {
    await assert.rejects(call(full, "component.build", input), code(expected), what);
  }
  assert.equal((await call(full, "component.list", {})).components.length, 4);
  // A base without its lock does not get so far: the API refuses it.
  const { input } = OPERATIONS["component.build"];
  const unlocked = input.safeParse({ recipe: web, bases: [{ recipe: os }] });
  assert.deepEqual(unlocked.error?.issues[0]?.path, ["bases", 0, "lock"]);
});
