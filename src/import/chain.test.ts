import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { hasCode } from "#core";
import { realWorld } from "#system";
import { readChain } from "./chain.ts";
import { openImage } from "./open.ts";

const world = realWorld();
const root = mkdtempSync(join(tmpdir(), "tessera-chain-"));
after(() => rmSync(root, { recursive: true, force: true }));
const none = { directories: [] };
const code = (text: string) => (error: unknown) => hasCode(error, text);
const qemuImg = (...args: string[]) => execFileSync("qemu-img", args, { stdio: "ignore" });

const raw = join(root, "disk.raw");
const CONTENT = Buffer.alloc(70_000, "content of the disk ");
writeFileSync(raw, CONTENT);
truncateSync(raw, 4 * 2 ** 20);

function converted(format: string, ...options: string[]): string {
  const path = join(root, `disk.${format}${options.length}`);
  qemuImg("convert", "-f", "raw", "-O", format, ...options, raw, path);
  return path;
}

test("each format is known by its header and shows the disk", async () => {
  const images: readonly (readonly [string, string])[] = [
    ["raw", raw],
    ["qcow2", converted("qcow2", "-c")],
    ["qcow2", converted("qcow2")],
    ["qcow2", converted("qcow2", "-o", "compat=0.10,cluster_size=4k")],
    ["vmdk", converted("vmdk")],
    ["vmdk", converted("vmdk", "-o", "subformat=streamOptimized")],
    ["vpc", converted("vpc")],
    ["vhdx", converted("vhdx")],
    ["vdi", converted("vdi")],
  ];
  for (const [index, [format, path]] of images.entries()) {
    const directory = join(root, `work-${index}`);
    mkdirSync(directory);
    const opened = await openImage(world, path, none, directory);
    try {
      assert.equal(opened.format, format);
      const bytes = new Uint8Array(CONTENT.length);
      await opened.device.read(bytes, 0);
      assert.ok(CONTENT.equals(bytes), path);
    } finally {
      await opened.close();
    }
  }
});

test("a backing file beside the image is taken, one elsewhere only where that is allowed", async () => {
  const elsewhere = join(root, "elsewhere");
  mkdirSync(elsewhere);
  copyFileSync(raw, join(elsewhere, "base.raw"));
  const beside = join(root, "beside.qcow2");
  const outside = join(root, "outside.qcow2");
  qemuImg("create", "-f", "qcow2", "-b", "disk.raw", "-F", "raw", beside);
  qemuImg("create", "-f", "qcow2", "-b", join(elsewhere, "base.raw"), "-F", "raw", outside);
  const chain = await readChain(world, beside, none);
  assert.deepEqual(
    chain.map(({ format }) => format),
    ["qcow2", "raw"],
  );
  await assert.rejects(readChain(world, outside, none), code("import.backing-refused"));
  assert.equal((await readChain(world, outside, { directories: [elsewhere] })).length, 2);
  symlinkSync("/etc/passwd", join(root, "sly"));
  const sly = join(root, "sly.qcow2");
  qemuImg("create", "-u", "-f", "qcow2", "-b", "sly", "-F", "raw", sly, "4M");
  await assert.rejects(readChain(world, sly, none), code("import.backing-refused"));
  for (const name of ["json:{}", "nbd://127.0.0.1/x", "../../etc/passwd", "/etc/passwd"]) {
    const path = join(root, "named.qcow2");
    qemuImg("create", "-u", "-f", "qcow2", "-b", name, "-F", "raw", path, "4M");
    await assert.rejects(readChain(world, path, none), code("import.backing-refused"), name);
  }
});

test("a circle of backing files is damage", async () => {
  const [one, two] = [join(root, "one.qcow2"), join(root, "two.qcow2")];
  qemuImg("create", "-u", "-f", "qcow2", "-b", "two.qcow2", "-F", "qcow2", one, "4M");
  qemuImg("create", "-u", "-f", "qcow2", "-b", "one.qcow2", "-F", "qcow2", two, "4M");
  await assert.rejects(readChain(world, one, none), code("import.image-damaged"));
});

/** An image with some bytes of its header changed. */
function changed(path: string, at: number, bytes: readonly number[]): string {
  const copy = `${path}.${at}-${bytes.join("-")}`;
  const content = readFileSync(path);
  content.set(bytes, at < 0 ? content.length + at : at);
  writeFileSync(copy, content);
  return copy;
}

test("encryption, other disks' data and absurd headers are refused before a tool sees them", async () => {
  const [qcow2, vpc, vdi] = [converted("qcow2"), converted("vpc"), converted("vdi")];
  const cases: readonly (readonly [string, string])[] = [
    [changed(qcow2, 35, [2]), "import.unsupported"],
    [changed(qcow2, 79, [4]), "import.unsupported"],
    [changed(qcow2, 79, [2]), "import.image-damaged"],
    [changed(qcow2, 23, [60]), "import.image-damaged"],
    [changed(qcow2, 24, [255]), "import.image-damaged"],
    [changed(qcow2, 7, [9]), "import.image-damaged"],
    [changed(qcow2, 8, [0, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]), "import.image-damaged"],
    [changed(vpc, -512 + 63, [4]), "import.unsupported"],
    [changed(vdi, 0x4c, [4]), "import.unsupported"],
  ];
  for (const [path, expected] of cases) {
    await assert.rejects(readChain(world, path, none), code(expected), path);
  }
  const luks = join(root, "luks");
  writeFileSync(luks, Buffer.concat([Buffer.from("LUKS\xba\xbe", "latin1"), Buffer.alloc(4096)]));
  await assert.rejects(readChain(world, luks, none), code("import.unsupported"));
});

const descriptor = (name: string): string =>
  `# Disk DescriptorFile\nversion=1\nparentCID=ffffffff\ncreateType="monolithicFlat"\nRW 8192 FLAT "${name}" 0\n`;

test("the extents of a VMDK must lie beside it", async () => {
  const path = join(root, "flat.vmdk");
  writeFileSync(path, descriptor("disk.raw"));
  assert.equal((await readChain(world, path, none))[0]?.format, "vmdk");
  for (const name of ["/etc/passwd", "../secret", "sly"]) {
    writeFileSync(path, descriptor(name));
    await assert.rejects(readChain(world, path, none), code("import.backing-refused"), name);
  }
  writeFileSync(path, descriptor("disk.raw").replace("ffffffff", "12345678"));
  await assert.rejects(readChain(world, path, none), code("import.unsupported"));
});

test("what QEMU cannot open is told with its words, and its process is gone", async () => {
  const path = changed(converted("qcow2"), 40, [0, 0, 0, 0, 0, 0, 0, 3]);
  const directory = join(root, "work-broken");
  mkdirSync(directory);
  await assert.rejects(openImage(world, path, none, directory), code("import.image-damaged"));
});
