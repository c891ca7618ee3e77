import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { createMemoryDevice } from "#block";
import { readPartitions } from "#import";
import { BOOT_CODE_BYTES, encodeGpt, GPT_TYPE, SECTOR_BYTES, type NewPartition } from "./gpt.ts";

const SECTORS = 4096;
const DISK = "00112233-4455-8677-8899-aabbccddeeff";

async function diskOf(partitions: readonly NewPartition[], bootCode?: Uint8Array) {
  const disk = createMemoryDevice(SECTORS * SECTOR_BYTES);
  for (const { offset, bytes } of encodeGpt(SECTORS, DISK, partitions, bootCode)) {
    await disk.write(bytes, offset);
  }
  return disk;
}

const uuids = fc.uuid();
/** Up to three partitions that do not overlap, in the sectors that the table leaves. */
const tables = fc
  .tuple(fc.uniqueArray(fc.integer({ min: 1, max: 128 }), { minLength: 1, maxLength: 3 }), uuids)
  .map(([numbers, uuid]) =>
    numbers.map((number, index): NewPartition => ({
      number,
      type: GPT_TYPE.root,
      uuid,
      name: `part ${index}`,
      firstSector: 34 + index * 1000,
      sectors: 1 + number,
    })),
  );

test("what is written is read again, by either copy", async () => {
  const cases = fc.asyncProperty(tables, fc.boolean(), async (partitions, damaged) => {
    const disk = await diskOf(partitions);
    if (damaged) await disk.write(Buffer.alloc(SECTOR_BYTES), SECTOR_BYTES);
    const table = await readPartitions(disk);
    assert.equal(table.scheme, "gpt");
    assert.deepEqual(
      table.partitions.map((found) => [
        found.number,
        found.uuid,
        found.type,
        found.offset,
        found.sizeBytes,
      ]),
      partitions
        .toSorted((a, b) => a.number - b.number)
        .map(({ number, uuid, type, firstSector, sectors }) => [
          number,
          uuid,
          type,
          firstSector * SECTOR_BYTES,
          sectors * SECTOR_BYTES,
        ]),
    );
  });
  await fc.assert(cases, { numRuns: 30 });
});

test("boot code lies before the protective partition and does not reach into it", async () => {
  const disk = await diskOf([], Buffer.alloc(SECTOR_BYTES, 0x55));
  const sector = Buffer.alloc(SECTOR_BYTES);
  await disk.read(sector, 0);
  assert.ok(sector.subarray(0, BOOT_CODE_BYTES).every((byte) => byte === 0x55));
  assert.deepEqual([...sector.subarray(BOOT_CODE_BYTES, 447)], Array(7).fill(0));
  assert.equal(sector[450], 0xee);
  assert.equal(sector.readUInt32LE(458), SECTORS - 1);
});
