/** Images that come with a description of their machine: an OVA, and a domain of libvirt beside the image. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { hash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import type { Input } from "#api";
import { bufferSource, type TreeEntry } from "#image";
import { domainOf, ovfOf, tarMember } from "../import/described/described.suite.ts";
import { writeImage } from "../import/image.suite.ts";
import { twoClouds, type TestCloud } from "./clouds.suite.ts";
import { call, code } from "./handlers/call.suite.ts";
import { layoutOf } from "./layout.ts";

const file = (path: string, text: string): TreeEntry => ({
  path,
  type: "file",
  mode: 0o755,
  uid: 0,
  gid: 0,
  mtime_s: 1000,
  xattrs: new Map(),
  content: bufferSource(Buffer.from(text)),
});

async function cloudWithImage(t: TestContext): Promise<readonly [TestCloud, raw: string]> {
  const cloud = (await twoClouds(t)).clouds[0];
  const raw = join(cloud.root, "old.qcow2");
  const entries = [
    file("sbin/init", "init"),
    file("etc/os-release", 'ID="made-up"\nVERSION_ID=7\n'),
  ];
  await writeImage(cloud.world, raw, entries, new Map());
  return [cloud, raw];
}

/** A VMDK as an OVA has it. */
function streamOptimized(raw: string): Buffer {
  const path = `${raw}.vmdk`;
  const args = ["convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", raw, path];
  execFileSync("qemu-img", args);
  return readFileSync(path);
}

/** With a disk that does not begin where a sector of 4 KiB does. */
function ovaOf(path: string, disk: Buffer, sum: string): string {
  const ovf = ovfOf();
  const text = `SHA256(old.ovf)= ${hash("sha256", ovf)}\nSHA256(old-disk1.vmdk)= ${sum}\n`;
  const head = Buffer.from(tarMember("old-disk1.vmdk", ""));
  const size = disk.length.toString(8).padStart(11, "0");
  head.write(`${size}\0`, 124);
  head.write(" ".repeat(8), 148);
  const total = head.reduce((all, byte) => all + byte, 0);
  head.write(`${total.toString(8).padStart(6, "0")}\0 `, 148);
  const padding = Buffer.alloc((512 - (disk.length % 512)) % 512);
  const members = [tarMember("old.ovf", ovf), tarMember("old.mf", text), head, disk, padding];
  writeFileSync(path, Buffer.concat([...members, Buffer.alloc(1024)]));
  return path;
}

const input = (path: string, more: Partial<Input<"machine.import">> = {}) => ({
  path,
  name: "old-1",
  kernel: "kernel",
  ...more,
});

test("an OVA becomes a machine with the processors and the memory of its descriptor", async (t) => {
  const [cloud, raw] = await cloudWithImage(t);
  const disk = streamOptimized(raw);
  const path = ovaOf(join(cloud.root, "old.ova"), disk, hash("sha256", disk));
  const { survey, machine, proof } = await call(cloud, "machine.import", input(path));
  assert.equal(survey.format, "vmdk");
  assert.equal(proof?.imageDigest, proof?.composedDigest);
  assert.deepEqual(
    [machine?.appliance.resources.cpus, machine?.appliance.resources.memoryBytes],
    [2, 2 ** 30],
  );
  assert.equal(survey.description?.notCarried.length, 2);
});

test("a domain of libvirt beside an image names its format, processors and memory", async (t) => {
  const [cloud, raw] = await cloudWithImage(t);
  const domain = { fileName: "old.xml", text: domainOf().replace("type='qcow2'", "type='raw'") };
  const { machine, survey } = await call(
    cloud,
    "machine.import",
    input(raw, { domain, memoryBytes: 2 ** 28 }),
  );
  assert.equal(survey.format, "raw");
  assert.equal(machine?.appliance.resources.cpus, 4);
  assert.equal(machine?.appliance.resources.memoryBytes, 2 ** 28, "a flag wins");
  assert.equal(survey.description?.notCarried[0], 'disk "/dev/vg/data"');
});

const domain = (text: string) => ({ domain: { fileName: "old.xml", text } });

test("what a description has wrong leaves nothing", async (t) => {
  const [cloud, raw] = await cloudWithImage(t);
  const path = ovaOf(join(cloud.root, "old.ova"), Buffer.from("no disk"), "0".repeat(64));
  const elsewhere = domainOf().replace("old.qcow2", "other.qcow2");
  const unstated = domainOf().replace("type='qcow2'", "");
  const cases: readonly (readonly [string, Input<"machine.import">])[] = [
    ["import.image-damaged", input(path)],
    ["import.disk-not-found", input(path, { disk: "other.vmdk" })],
    ["import.unsupported", input(raw, { disk: "old.vmdk" })],
    ["import.unsupported", input(path, { ...domain(unstated), disk: "/images/old.qcow2" })],
    ["import.image-damaged", input(raw, domain("<domain>"))],
    ["import.disk-ambiguous", input(raw, domain(elsewhere))],
    ["import.image-damaged", input(raw, domain(domainOf()))],
  ];
  const { work } = layoutOf(cloud.root);
  for (const [index, [expected, wrong]] of cases.entries()) {
    await assert.rejects(call(cloud, "machine.import", wrong), code(expected), String(index));
    assert.deepEqual(existsSync(work) ? readdirSync(work) : [], [], String(index));
  }
});
