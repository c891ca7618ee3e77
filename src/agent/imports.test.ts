/** Images of a few files become machines of a cloud, or leave nothing behind. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import type { Input } from "#api";
import { bufferSource, type TreeEntry } from "#image";
import { writeImage } from "../import/image.suite.ts";
import { twoClouds, type TestCloud } from "./clouds.suite.ts";
import { call, code } from "./handlers/call.suite.ts";
import { layoutOf } from "./layout.ts";

const common = {
  mode: 0o755,
  uid: 0,
  gid: 0,
  mtime_s: 1000,
  xattrs: new Map<string, Uint8Array>(),
};
const file = (path: string, text: string): TreeEntry => ({
  ...common,
  path,
  type: "file",
  content: bufferSource(Buffer.from(text)),
});

/** A system of a distribution that nobody knows. */
async function imageOf(
  cloud: TestCloud,
  name: string,
  extra: readonly TreeEntry[] = [],
): Promise<string> {
  const path = join(cloud.root, name);
  const base = [
    file("sbin/init", "init"),
    file("etc/os-release", 'ID="made-up"\nVERSION_ID=7\n'),
    file("etc/fstab", "UUID=0000 / ext4 defaults 0 1\nUUID=1234 none swap sw 0 0\n"),
    file("home/alice/notes", "notes"),
  ];
  await writeImage(cloud.world, path, [...base, ...extra], new Map([["home/alice/notes", 123]]));
  return path;
}

const input = (path: string, more: Partial<Input<"machine.import">> = {}) => ({
  path,
  name: "old-1",
  kernel: "kernel",
  ...more,
});

async function cloudOf(t: TestContext): Promise<TestCloud> {
  return (await twoClouds(t)).clouds[0];
}

function leftovers({ root }: TestCloud): string[] {
  const { work, machines } = layoutOf(root);
  return [work, machines].flatMap((path) => (existsSync(path) ? readdirSync(path) : []));
}

test("an image becomes a machine, proven equal, and a second shares its components", async (t) => {
  const cloud = await cloudOf(t);
  const path = await imageOf(cloud, "disk.raw");
  const dry = await call(cloud, "machine.import", { path, kernel: "kernel", dryRun: true });
  assert.deepEqual([dry.machine, dry.proof, leftovers(cloud)], [undefined, undefined, []]);
  assert.deepEqual(
    dry.survey.parts.map(({ name, held }) => [name, held]),
    [["made-up-7-imported", false]],
  );
  const first = await call(cloud, "machine.import", input(path));
  assert.equal(first.survey.parts[0]?.id, dry.survey.parts[0]?.id);
  assert.equal(first.proof?.imageDigest, first.proof?.composedDigest);
  assert.ok(first.proof?.added.includes("etc/systemd/system/tessera-ready.service"));
  assert.deepEqual(first.survey.leftFstab, ["UUID=1234 none swap sw 0 0"]);
  assert.equal(first.machine?.appliance.resources.dataBytes, 64 * 2 ** 20);
  await call(cloud, "machine.start", { machine: "old-1" });
  const other = await imageOf(cloud, "other.raw", [{ ...common, path: "var/mine", type: "fifo" }]);
  const second = await call(cloud, "machine.import", input(other, { name: "old-2" }));
  assert.deepEqual(
    second.survey.parts.map(({ held }) => held),
    [true],
  );
  const again = await call(cloud, "machine.import", {
    path: other,
    kernel: "kernel",
    dryRun: true,
  });
  assert.deepEqual(again.survey.parts, second.survey.parts);
  assert.equal(leftovers(cloud).length, 2);
});

test("a package database that is not read is named, and the root is one component", async (t) => {
  const cloud = await cloudOf(t);
  const cases: readonly (readonly [string, readonly TreeEntry[]])[] = [
    ["rpm", [file("var/lib/rpm/rpmdb.sqlite", "x"), file("var/lib/dpkg/status", "")]],
    ["rpm", [file("usr/lib/sysimage/rpm/Packages.db", "x")]],
    ["pacman", [file("var/lib/pacman/local/ALPM_DB_VERSION", "9")]],
    ["apk", [file("lib/apk/db/installed", "x")]],
  ];
  for (const [name, extra] of cases) {
    const path = await imageOf(cloud, "disk.raw", extra);
    const { survey } = await call(cloud, "machine.import", {
      path,
      kernel: "kernel",
      dryRun: true,
    });
    assert.deepEqual(survey.packages, { count: 0, bytes: 0, intactBytes: 0, unread: name });
    assert.deepEqual(
      survey.parts.map(({ kind, packages }) => [kind, packages]),
      [["os", 0]],
    );
    rmSync(path);
  }
});

test("what cannot be imported leaves no component, file, pin or machine", async (t) => {
  const cloud = await cloudOf(t);
  const path = await imageOf(cloud, "disk.raw");
  const before = await call(cloud, "component.list", {});
  const deep = join(cloud.root, "empty.raw");
  writeFileSync(deep, Buffer.alloc(2 ** 20));
  const overlay: TreeEntry = { ...common, path: "gone", type: "character", major: 0, minor: 0 };
  const layered = await imageOf(cloud, "layered.raw", [overlay]);
  const big = await imageOf(cloud, "big.raw", [
    { ...common, path: "huge", type: "file", content: bufferSource(Buffer.alloc(2 ** 20, 3)) },
  ]);
  const cases: readonly (readonly [string, Input<"machine.import">])[] = [
    ["agent.path-relative", input("disk.raw")],
    ["agent.path-relative", input(path, { backing: ["here"] })],
    ["agent.name-invalid", input(path, { name: "Old 1" })],
    ["repository.component-unknown", input(path, { kernel: "absent" })],
    ["system.not-found", input(join(cloud.root, "absent"))],
    ["import.root-not-found", input(deep)],
    ["import.root-not-found", input(path, { partition: 4 })],
    ["import.kernel-not-found", { path, name: "old-1" }],
    ["image.overlay-unsupported", input(layered)],
    ["import.image-damaged", input(path, { format: "qcow2" })],
    ["import.data-size-invalid", input(big, { dataBytes: 1 })],
  ];
  for (const [expected, wrong] of cases) {
    await assert.rejects(
      call(cloud, "machine.import", wrong),
      code(expected),
      JSON.stringify(wrong),
    );
    assert.deepEqual(leftovers(cloud), [], expected);
    assert.deepEqual(await call(cloud, "component.list", {}), before, expected);
    assert.deepEqual([...(await cloud.parts.store.pins()).keys()], [], expected);
  }
});

test("what an import left that an agent did not end is removed when it starts", async (t) => {
  const cloud = await cloudOf(t);
  const directory = join(layoutOf(cloud.root).work, "import-cut-off");
  mkdirSync(directory, { recursive: true });
  const { id } = await cloud.parts.store.resolve("os");
  await cloud.parts.store.pin("import:cut-off", [id]);
  await cloud.restart();
  assert.ok(!existsSync(directory));
  assert.deepEqual([...(await cloud.parts.store.pins()).keys()], []);
});
