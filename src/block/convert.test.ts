/** User data blocks from one format into another, by the real tool. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtemp, open, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { DISK_FORMATS } from "#core";
import { realWorld } from "#system";
import { convertDisk, formatFault, knownFormats } from "./convert.ts";
import { openFileDevice } from "./file.ts";

const MIB = 2 ** 20;
/** Of no geometry that VHD could have. */
const SIZE = 67 * MIB + 3 * 512;
const world = realWorld();

test("each format and back is the same disk, with its holes, readable by its owner alone", async (t) => {
  assert.deepEqual(await knownFormats(world), DISK_FORMATS);
  const directory = await mkdtemp(join(tmpdir(), "tessera-convert-"));
  t.after(() => rm(directory, { recursive: true }));
  const raw = { path: join(directory, "data.raw"), format: "raw" } as const;
  const content = randomBytes(100_000);
  const file = await open(raw.path, "w", 0o600);
  await file.truncate(SIZE);
  await file.write(content, 0, content.length, 40 * MIB);
  await file.close();
  for (const format of DISK_FORMATS) {
    const [made, back] = [
      { path: join(directory, `disk.${format}`), format },
      { path: join(directory, "back.raw"), format: "raw" as const },
    ];
    await convertDisk(world, raw, made);
    assert.equal((await stat(made.path)).mode & 0o777, 0o600, format);
    assert.ok((await stat(made.path)).blocks * 512 < 20 * MIB, `${format} keeps holes`);
    await convertDisk(world, made, back);
    const device = await openFileDevice(world, back.path, { readOnly: true });
    assert.equal(device.sizeBytes, SIZE, format);
    const bytes = Buffer.alloc(content.length);
    await device.read(bytes, 40 * MIB);
    assert.ok(bytes.equals(content), format);
    await device.read(bytes, 20 * MIB);
    assert.ok(bytes.equals(Buffer.alloc(bytes.length)), format);
    assert.ok((await stat(back.path)).blocks * 512 < 2 * MIB, `${format} gives holes back`);
    await device.close();
    await rm(made.path);
  }
  const failing = convertDisk(
    world,
    { path: join(directory, "none"), format: "raw" },
    { path: join(directory, "disk.vdi"), format: "vdi" },
  );
  await assert.rejects(failing, { code: "block.convert-failed" });
  assert.ok(!existsSync(join(directory, "disk.vdi")));
  assert.deepEqual((await readdir(directory)).toSorted(), ["back.raw", "data.raw"]);
});

test("a disk that a format cannot hold is named", () => {
  for (const format of DISK_FORMATS) assert.equal(formatFault(format, 2 ** 30), undefined);
  assert.match(formatFault("vpc", 2 ** 42) ?? "", /does not fit into vpc/);
  assert.match(formatFault("vdi", 2 ** 30 + 1) ?? "", /whole sectors/);
  assert.equal(formatFault("raw", 2 ** 30 + 1), undefined);
});
