/** Exports are planned and refused before anything is written, and leave nothing. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import type { Input } from "#api";
import type { World } from "#core";
import { twoClouds, type TestCloud } from "./clouds.suite.ts";
import { call, code } from "./handlers/call.suite.ts";
import { layoutOf } from "./layout.ts";

const VMLINUZ = "/boot/vmlinuz-6.1.0-0-test";
const FSTAB = "tmpfs /tmp tmpfs size=1G 0 0\n";

const file = (path: string, content: string) => ({
  path,
  contentBase64: Buffer.from(content).toString("base64"),
});

/** A machine that has a kernel of the distribution's, and its files. */
async function cloudWithMachine(t: TestContext): Promise<TestCloud> {
  const cloud = (await twoClouds(t)).clouds[0];
  const text =
    "{name: web, kernel: kernel, os: os, programs: [web], resources: {cpus: 1, memory: 256M, data: 64M}}";
  await call(cloud, "appliance.add", { text, fileName: "web.yaml" });
  const files = [file(VMLINUZ, "kernel"), file("/etc/fstab", FSTAB)];
  await call(cloud, "machine.create", { name: "web-1", appliance: "web", files });
  await call(cloud, "machine.create", { name: "bare", appliance: "web" });
  const earlier = ["grub.cfg", "old"].map((name) => file(`/boot/tessera/${name}`, "earlier"));
  const again = { name: "again", appliance: "web", files: [file(VMLINUZ, "kernel"), ...earlier] };
  await call(cloud, "machine.create", again);
  return cloud;
}

const leftovers = ({ root }: TestCloud): string[] => {
  const { work } = layoutOf(root);
  return existsSync(work) ? readdirSync(work) : [];
};

const input = (more: Partial<Input<"machine.export">> = {}): Input<"machine.export"> => ({
  machine: "web-1",
  format: "qcow2",
  ...more,
});

/** What an earlier export brought is replaced. */
async function tellsEarlier(cloud: TestCloud): Promise<void> {
  const { survey } = await call(cloud, "machine.export", input({ machine: "again", dryRun: true }));
  assert.deepEqual(survey.added, ["boot/tessera/initramfs", "etc/fstab"]);
  assert.deepEqual(survey.changed, ["boot/tessera", "boot/tessera/grub.cfg"]);
  assert.deepEqual(survey.leftOut.slice(3), ["boot/tessera/old"]);
}

/** What an export left that an agent did not end is removed when it starts. */
async function removesLeftovers(cloud: TestCloud): Promise<void> {
  const directory = join(layoutOf(cloud.root).work, "export-cut-off");
  mkdirSync(directory, { recursive: true });
  await cloud.restart();
  assert.ok(!existsSync(directory));
}

test("a dry run tells what the disk would be, and writes nothing", async (t) => {
  const cloud = await cloudWithMachine(t);
  const result = await call(cloud, "machine.export", input({ dryRun: true }));
  const { survey, file, proof } = result;
  assert.deepEqual([file, proof, leftovers(cloud)], [undefined, undefined, []]);
  assert.deepEqual(survey.added, [
    "boot/tessera",
    "boot/tessera/grub.cfg",
    "boot/tessera/initramfs",
  ]);
  assert.deepEqual([survey.changed, survey.kernel], [["etc/fstab"], "own"]);
  assert.equal(survey.leftOut.length, 3);
  assert.deepEqual(survey.leftFstab, []);
  assert.ok(survey.rootBytes > 64 * 2 ** 20 && survey.diskBytes > survey.rootBytes);
  const again = await call(cloud, "machine.export", input({ dryRun: true, format: "ova" }));
  assert.deepEqual(again.survey, survey);
  const larger = await call(cloud, "machine.export", input({ dryRun: true, sizeBytes: 2 ** 32 }));
  assert.equal(larger.survey.diskBytes, 2 ** 32);
  await tellsEarlier(cloud);
  await removesLeftovers(cloud);
});

/** A host without Debian's GRUB. */
function withoutGrub(world: World): World {
  const status: World["files"]["status"] = async (path) =>
    path.startsWith("/usr/lib/grub/") ? undefined : await world.files.status(path);
  return { ...world, files: { ...world.files, status } };
}

test("what cannot be exported leaves nothing", async (t) => {
  const cloud = await cloudWithMachine(t);
  const path = join(cloud.root, "out.qcow2");
  const taken = join(cloud.root, "taken");
  writeFileSync(taken, "");
  const cases: readonly (readonly [string, Input<"machine.export">])[] = [
    ["export.output-missing", input()],
    ["agent.path-relative", input({ path: "out.qcow2" })],
    ["export.output-exists", input({ path: taken })],
    ["agent.machine-unknown", input({ path, machine: "other" })],
    ["export.machine-unsuitable", input({ path, machine: "bare" })],
    ["export.size-invalid", input({ path, sizeBytes: 2 ** 20 })],
    ["export.size-invalid", input({ path, format: "vpc", sizeBytes: 2 ** 42 })],
    ["export.boot-loader-missing", input({ path })],
  ];
  const world = withoutGrub(cloud.world);
  for (const [expected, wrong] of cases) {
    await assert.rejects(call(cloud, "machine.export", wrong, { world }), code(expected), expected);
    assert.deepEqual([leftovers(cloud), existsSync(path)], [[], false], expected);
  }
  await call(cloud, "machine.start", { machine: "web-1" });
  await assert.rejects(
    call(cloud, "machine.export", input({ dryRun: true })),
    code("agent.machine-running"),
  );
});
