import assert from "node:assert/strict";
import { chmod, mkdtemp, rm, stat, utimes } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { hasCode, type World } from "#core";
import { realWorld } from "#system";
import { deviceSuite } from "./device.suite.ts";
import { createFileDevice, createMemoryDevice, faultyDevice, openFileDevice } from "./index.ts";
import { parseMap } from "./map.ts";
import { QuickReads } from "./quick-reads.ts";

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
  await device.zero({ offset: 1 << 28, length: 65_536 });
  await device.write(Buffer.alloc(4096, 7), 1 << 29);
  await device.flush();
  assert.ok((await stat(path)).blocks * 512 < 1 << 20);
  const ranges = await device.allocated();
  const total = ranges.reduce((sum, range) => sum + range.length, 0);
  assert.ok(ranges.length === 2 && total <= 1 << 17, JSON.stringify(ranges));
  await device.close();
});

test("what is zeroed at length becomes a hole, to the byte", async () => {
  const path = freshPath();
  const device = await createFileDevice(world, path, 1 << 24);
  const content = Buffer.alloc(1 << 22, 7);
  await device.write(content, 0);
  const range = { offset: 5000, length: 1 << 21 };
  await device.zero(range);
  content.fill(0, range.offset, range.offset + range.length);
  const read = Buffer.alloc(content.length);
  await device.read(read, 0);
  assert.ok(read.equals(content));
  assert.ok((await stat(path)).blocks * 512 <= content.length - range.length + 8192);
  await device.close();
});

test("a path that leads to another file by now is not punched", async () => {
  const path = freshPath();
  const device = await createFileDevice(world, path, 1 << 22);
  await device.write(Buffer.alloc(1 << 22, 7), 0);
  await world.files.rename(path, `${path}-moved`);
  await world.files.writeFileAtomic(path, Buffer.alloc(1 << 22, 9));
  await device.zero({ offset: 0, length: 1 << 22 });
  const read = Buffer.alloc(1 << 22, 1);
  await device.read(read, 0);
  assert.ok(read.equals(Buffer.alloc(1 << 22)));
  assert.ok(
    Buffer.from(await world.files.readFile(path, 1 << 22)).equals(Buffer.alloc(1 << 22, 9)),
  );
  await device.close();
});

test("a map is made once while the file stays as it is, and again when anyone writes", async () => {
  const path = freshPath();
  const old = new Date("2020-01-01T00:00:00Z");
  let maps = 0;
  const processes = { ...world.processes };
  processes.run = (program, args, options) => {
    maps += program === "qemu-img" ? 1 : 0;
    return world.processes.run(program, args, options);
  };
  const created = await createFileDevice(world, path, 1 << 20);
  await created.write(Buffer.alloc(65_536, 7), 0);
  await utimes(path, old, old);
  const device = await openFileDevice({ ...world, processes }, path, { readOnly: true });
  // The change time cannot be set: let the one of now become old enough to be believed.
  await world.clock.sleep(150);
  const first = await device.allocated();
  assert.deepEqual(await device.allocated(), first);
  assert.equal(maps, 1);
  await created.write(Buffer.alloc(65_536, 7), 1 << 19);
  assert.deepEqual(await device.allocated(), [...first, { offset: 1 << 19, length: 65_536 }]);
  assert.equal(maps, 2);
  await created.close();
  await device.close();
});

test("reads at once are tried while they are quick, and rarely when they are not", () => {
  let now_ms = 0;
  let took_ms = 0.01;
  const quick = new QuickReads({ ...world.clock, monotonic: () => now_ms });
  const attempt = (length = 4096): boolean => quick.attempt(length, () => (now_ms += took_ms));
  assert.ok(attempt() && attempt());
  assert.equal(attempt(2 ** 20), false);
  took_ms = 5;
  assert.ok(attempt());
  assert.equal(attempt(), false);
  let tried = 0;
  for (const until_ms = now_ms + 10_000; now_ms < until_ms; now_ms += 1) tried += Number(attempt());
  assert.ok(tried >= 8 && tried <= 17, `${tried}`);
  took_ms = 0.01;
  now_ms += 2000;
  for (let count = 0; count < 100; count += 1) assert.ok(attempt());
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
