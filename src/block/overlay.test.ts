/** Overlays that QEMU made and wrote. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import * as fc from "fast-check";
import { realWorld } from "#system";
import { openFileDevice } from "./file.ts";
import { applyOverlay, createOverlay, openOverlayDevice, type OverlayDevice } from "./overlay.ts";
import { decodeHeader } from "./qcow2-header.ts";

const SIZE = 3 * 2 ** 20 + 512;
const CLUSTER = 65_536;
const world = realWorld();

function run(program: string, ...args: string[]): void {
  const { status, stderr, stdout } = spawnSync(program, args, { encoding: "utf8" });
  assert.equal(status, 0, stderr + stdout);
}

async function scene() {
  const directory = await mkdtemp(join(tmpdir(), "tessera-overlay-"));
  const basePath = join(directory, "data.raw");
  const path = join(directory, "data.qcow2");
  const base = randomBytes(SIZE);
  base.fill(0, CLUSTER, 5 * CLUSTER);
  await writeFile(basePath, base);
  await createOverlay(world, { path, baseName: "data.raw" });
  return {
    basePath,
    path,
    base,
    open: async (): Promise<OverlayDevice> =>
      await openOverlayDevice(
        world,
        path,
        await openFileDevice(world, basePath, { readOnly: true }),
      ),
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true }),
  };
}

async function contentOf(device: OverlayDevice): Promise<Buffer> {
  const bytes = Buffer.alloc(device.sizeBytes);
  await device.read(bytes, 0);
  return bytes;
}

test("an empty overlay is its base, and nothing has changed", async () => {
  await using made = await scene();
  const device = await made.open();
  assert.ok((await contentOf(device)).equals(made.base));
  assert.deepEqual(device.changed(), []);
  await assert.rejects(device.write(Buffer.alloc(1), 0), { code: "block.read-only" });
  await device.close();
  await assert.rejects(device.read(Buffer.alloc(1), 0), { code: "block.closed" });
});

test("writes, zeroes and discards of QEMU are read, told and applied", async () => {
  await using made = await scene();
  const commands = [
    "write -P 7 1000 3000",
    `write -P 9 ${9 * CLUSTER} ${3 * CLUSTER}`,
    `write -z ${20 * CLUSTER} ${2 * CLUSTER}`,
    `discard ${30 * CLUSTER} ${CLUSTER}`,
    `write -P 1 ${SIZE - 512} 512`,
  ];
  run("qemu-io", "-d", "unmap", ...commands.flatMap((text) => ["-c", text]), made.path);
  const expected = Buffer.from(made.base);
  expected.fill(7, 1000, 4000);
  expected.fill(9, 9 * CLUSTER, 12 * CLUSTER);
  expected.fill(0, 20 * CLUSTER, 22 * CLUSTER);
  expected.fill(0, 30 * CLUSTER, 31 * CLUSTER);
  expected.fill(1, SIZE - 512);
  const device = await made.open();
  assert.ok((await contentOf(device)).equals(expected));
  assert.deepEqual(
    device.changed().map(({ offset, length }) => [offset / CLUSTER, length / CLUSTER]),
    [
      [0, 1],
      [9, 3],
      [20, 2],
      [30, 1],
      [48, 512 / CLUSTER],
    ],
  );
  const raw = await openFileDevice(world, made.basePath, { readOnly: false });
  await applyOverlay(device, raw);
  assert.ok((await contentOf(device)).equals(expected), "the view stays the same");
  await raw.close();
  await device.close();
  assert.ok((await readFile(made.basePath)).equals(expected));
});

test("what is not understood is refused, and any header is decoded or refused", async () => {
  await using made = await scene();
  const header = (await readFile(made.path)).subarray(0, 104);
  assert.equal(decodeHeader(header, "x").sizeBytes, SIZE);
  const refusals: [number, number][] = [
    [0, 0],
    [7, 2],
    [23, 12],
    [35, 1],
    [63, 1],
    [79, 2],
    [79, 4],
    [79, 16],
    [39, 0],
    [24, 255],
  ];
  for (const [at, value] of refusals) {
    const damaged = Buffer.from(header);
    damaged[at] = value;
    assert.throws(() => decodeHeader(damaged, "x"), { code: "block.overlay-unsupported" });
  }
  fc.assert(
    fc.property(fc.nat(103), fc.nat(255), (at, value) => {
      const damaged = Buffer.from(header);
      damaged[at] = value;
      try {
        assert.ok(decodeHeader(damaged, "x").l1Entries >= 1);
      } catch (error) {
        assert.equal((error as { code?: string }).code, "block.overlay-unsupported");
      }
    }),
  );
});

test("compressed clusters and a base of another size are refused by name", async () => {
  await using made = await scene();
  run("qemu-io", "-c", `write -c -P 5 0 ${CLUSTER}`, made.path);
  const device = await made.open();
  const refused = { code: "block.overlay-unsupported" };
  await assert.rejects(device.read(Buffer.alloc(1), 0), refused);
  assert.throws(() => device.changed(), refused);
  await device.close();
  await writeFile(made.basePath, Buffer.alloc(1024));
  await assert.rejects(made.open(), refused);
});
