import assert from "node:assert/strict";
import { chmod, mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { hasCode, type World } from "#core";
import { realWorld } from "#system";
import { deviceSuite } from "./device.suite.ts";
import { createFileDevice, createMemoryDevice, faultyDevice, openFileDevice } from "./index.ts";
import { parseMap } from "./map.ts";

const world = realWorld();
let folder = "";
let count = 0;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "tessera-block-"));
});
after(async () => {
  await rm(folder, { recursive: true, force: true });
});

const freshPath = (): string => join(folder, `disk-${(count += 1)}`);
const code = (expected: string) => (error: unknown) => hasCode(error, expected);

deviceSuite("memory", async (sizeBytes) => createMemoryDevice(sizeBytes));
deviceSuite("file", (sizeBytes) => createFileDevice(world, freshPath(), sizeBytes));
deviceSuite("file opened again", async (sizeBytes) => {
  const path = freshPath();
  await (await createFileDevice(world, path, sizeBytes)).close();
  return await openFileDevice(world, path, { readOnly: false });
});
deviceSuite("faulty without faults", async (sizeBytes) =>
  faultyDevice(createMemoryDevice(sizeBytes), []),
);

test("a file device is sparse, keeps its holes and tells them", async () => {
  const path = freshPath();
  const device = await createFileDevice(world, path, 1 << 30);
  await device.write(Buffer.alloc(65_536, 7), 1 << 20);
  await device.zero({ offset: 0, length: 1 << 24 });
  await device.write(Buffer.alloc(4096, 7), 1 << 29);
  await device.flush();
  assert.ok((await stat(path)).blocks * 512 < 1 << 20);
  const ranges = await device.allocated();
  const total = ranges.reduce((sum, range) => sum + range.length, 0);
  assert.ok(ranges.length === 2 && total <= 1 << 17, JSON.stringify(ranges));
  await device.close();
});

test("a new disk is its owner's alone, and never replaces another", async () => {
  const path = freshPath();
  const device = await createFileDevice(world, path, 4096);
  await device.close();
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  await assert.rejects(createFileDevice(world, path, 4096), code("system.exists"));
});

test("a read-only disk is read, not written", async () => {
  const path = freshPath();
  await (await createFileDevice(world, path, 4096)).close();
  await chmod(path, 0o400);
  const device = await openFileDevice(world, path, { readOnly: true });
  await device.read(Buffer.alloc(4096), 0);
  await assert.rejects(device.write(Buffer.alloc(1), 0), code("block.read-only"));
  await assert.rejects(device.zero({ offset: 0, length: 1 }), code("block.read-only"));
  await device.close();
});

test("a missing file, an empty file and a size of zero are refused", async () => {
  const open = (path: string) => openFileDevice(world, path, { readOnly: false });
  await assert.rejects(open(freshPath()), code("system.not-found"));
  const empty = freshPath();
  await world.files.writeFileAtomic(empty, "");
  await assert.rejects(open(empty), code("block.size-invalid"));
  await assert.rejects(createFileDevice(world, freshPath(), 0), code("block.size-invalid"));
  assert.throws(() => createMemoryDevice(1.5), code("block.size-invalid"));
});

test("a file that shrinks under its device is corrupt, not zero", async () => {
  const path = freshPath();
  const device = await createFileDevice(world, path, 8192);
  const file = await world.files.open(path, "write");
  await file.truncate(100);
  await assert.rejects(device.read(Buffer.alloc(8192), 0), code("block.file-short"));
  await file.close();
  await device.close();
});

test("without qemu-img the error names the package to install", async () => {
  const processes = { ...world.processes };
  processes.run = (_program, args, options) =>
    world.processes.run(join(folder, "no-such-program"), args, options);
  const lacking: World = { ...world, processes };
  const device = await createFileDevice(lacking, freshPath(), 4096);
  await assert.rejects(device.allocated(), (error) => {
    return hasCode(error, "block.program-missing") && error.remedy?.includes("qemu-utils") === true;
  });
  await device.close();
});

const row = (start: number, length: number, data: boolean, zero: boolean) => {
  return { start, length, depth: 0, present: true, zero, data };
};
const parse = (value: unknown) => parseMap(Buffer.from(JSON.stringify(value)), "disk", 1000);

test("a map is believed only when it covers the disk without gaps", () => {
  assert.deepEqual(
    parse([row(0, 100, true, false), row(100, 300, false, true), row(400, 624, true, false)]),
    [
      { offset: 0, length: 100 },
      { offset: 400, length: 600 },
    ],
  );
  const bad: unknown[] = [
    null,
    {},
    [],
    [row(0, 999, true, false)],
    [row(0, 100, true, false), row(200, 800, true, false)],
    [row(0, 600, true, false), row(500, 500, true, false)],
    [{ start: 0, length: 1000 }],
    [row(0, -1000, true, false)],
  ];
  for (const value of bad) assert.throws(() => parse(value), code("block.map-invalid"));
  assert.throws(() => parseMap(Buffer.from("{"), "disk", 1), code("block.map-invalid"));
});

test("faults fail the operation they name and leave the disk as it was", async () => {
  const inner = createMemoryDevice(1000);
  const full = new Error("full");
  const device = faultyDevice(inner, [
    { operation: "write", nth: 2, error: full },
    { operation: "read", range: { offset: 500, length: 100 } },
    { operation: "flush" },
  ]);
  await device.write(Buffer.from("one"), 0);
  await assert.rejects(device.write(Buffer.from("two"), 0), full);
  await device.write(Buffer.from("three"), 10);
  const target = Buffer.alloc(3);
  await device.read(target, 0);
  assert.equal(target.toString(), "one");
  await assert.rejects(device.read(target, 498), code("block.fault-injected"));
  await device.read(target, 497);
  await assert.rejects(device.flush(), code("block.fault-injected"));
  await device.close();
});
