/** Images that QEMU made and wrote, read directly; and what is left to QEMU. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import * as fc from "fast-check";
import { realWorld } from "#system";
import { openQcow2Image } from "./qcow2-image.ts";

const SIZE = 3 * 2 ** 20 + 512;
const CLUSTER = 65_536;
const world = realWorld();
const refused = { code: "block.overlay-unsupported" };

async function scene() {
  const directory = await mkdtemp(join(tmpdir(), "tessera-qcow2-"));
  const disk = randomBytes(SIZE);
  disk.fill(0, CLUSTER, 5 * CLUSTER);
  disk.fill(0, 40 * CLUSTER, 41 * CLUSTER + 100);
  const raw = join(directory, "disk.raw");
  await writeFile(raw, disk);
  const made = (name: string, ...options: string[]): string => {
    const path = join(directory, name);
    execFileSync("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", ...options, raw, path]);
    return path;
  };
  return { disk, directory, made, [Symbol.asyncDispose]: () => rm(directory, { recursive: true }) };
}

test("any range is what the disk has, at once or later, and holes are told", async () => {
  await using at = await scene();
  const path = at.made("plain.qcow2");
  execFileSync("qemu-io", ["-c", `write -z ${20 * CLUSTER} ${CLUSTER}`, path]);
  at.disk.fill(0, 20 * CLUSTER, 21 * CLUSTER);
  const device = await openQcow2Image(world, path);
  assert.equal(device.sizeBytes, SIZE);
  await fc.assert(
    fc.asyncProperty(fc.nat(SIZE), fc.nat(4 * CLUSTER), async (offset, most) => {
      const length = Math.min(most, SIZE - offset);
      const [now, later] = [Buffer.alloc(length, 1), Buffer.alloc(length, 1)];
      await device.read(later, offset);
      const wanted = at.disk.subarray(offset, offset + length);
      assert.ok(later.equals(wanted));
      if (device.readNow?.(now, offset) === true) assert.ok(now.equals(wanted));
    }),
    { numRuns: 60 },
  );
  const held = new Set(
    (await device.allocated()).flatMap(({ offset, length }) =>
      Array.from({ length: Math.ceil(length / CLUSTER) }, (_, index) => offset / CLUSTER + index),
    ),
  );
  for (const index of [1, 2, 3, 4, 20, 40]) assert.ok(!held.has(index), `cluster ${index}`);
  for (const index of [0, 5, 19, 41, 48]) assert.ok(held.has(index), `cluster ${index}`);
  await assert.rejects(device.write(Buffer.alloc(1), 0), { code: "block.read-only" });
  await device.close();
  await assert.rejects(device.read(Buffer.alloc(1), 0), { code: "block.closed" });
});

test("what is not plainly right is left to QEMU", async () => {
  await using at = await scene();
  const plain = at.made("plain.qcow2");
  const content = await readFile(plain);
  const path = join(at.directory, "other.qcow2");
  const first = Number(content.readBigUInt64BE(40));
  const damaged: readonly (readonly [at: number, value: bigint])[] = [
    /* Backing file, first table, a second-level table, a cluster: outside, or askew. */
    [8, 0x200n],
    [40, 2n ** 40n],
    [first, 2n ** 40n],
    [first, 512n],
    [Number(content.readBigUInt64BE(first) & 0xff_ffff_ffffn), 2n ** 40n],
    [Number(content.readBigUInt64BE(first) & 0xff_ffff_ffffn), 1n << 62n],
  ];
  for (const [place, value] of damaged) {
    const other = Buffer.from(content);
    other.writeBigUInt64BE(value, place);
    await writeFile(path, other);
    await assert.rejects(openQcow2Image(world, path), refused, `byte ${place}`);
  }
  for (const options of [["-c"], ["-o", "cluster_size=4k"], ["-o", "compat=0.10"]]) {
    await assert.rejects(openQcow2Image(world, at.made("odd.qcow2", ...options)), refused);
  }
});

test("whatever a header and tables say, it is read within the file or refused", async () => {
  await using at = await scene();
  const plain = at.made("plain.qcow2");
  const content = await readFile(plain);
  const path = join(at.directory, "other.qcow2");
  const first = Number(content.readBigUInt64BE(40));
  const second = Number(content.readBigUInt64BE(first) & 0xff_ffff_ffffn);
  const places = fc.oneof(
    fc.nat(103),
    fc.nat(15).map((by) => first + by),
    fc.nat(511).map((by) => second + by),
  );
  await fc.assert(
    fc.asyncProperty(places, fc.nat(255), async (place, value) => {
      const other = Buffer.from(content);
      other[place] = value;
      await writeFile(path, other);
      try {
        const device = await openQcow2Image(world, path);
        const last = Buffer.alloc(Math.min(CLUSTER, device.sizeBytes));
        await device.read(last, device.sizeBytes - last.length);
        await device.read(last, 0);
        await device.close();
      } catch (error) {
        assert.equal((error as { code?: string }).code, refused.code);
      }
    }),
    { numRuns: 60 },
  );
});
