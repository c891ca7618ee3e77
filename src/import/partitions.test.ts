import assert from "node:assert/strict";
import { test } from "node:test";
import { crc32 } from "node:zlib";
import * as fc from "fast-check";
import { hasCode } from "#core";
import { readPartitions } from "./partitions.ts";
import type { DiskBytes } from "./source.ts";

const SECTOR = 512;

function diskOf(bytes: Buffer): DiskBytes {
  return {
    sizeBytes: bytes.length,
    read: async (target, offset) => {
      assert.ok(offset >= 0 && offset + target.length <= bytes.length, "a read beyond the disk");
      target.set(bytes.subarray(offset, offset + target.length));
    },
  };
}

function putEntry(
  disk: Buffer,
  sector: number,
  index: number,
  type: number,
  first: number,
  count: number,
) {
  const at = sector * SECTOR + 446 + index * 16;
  disk.writeUInt8(type, at + 4);
  disk.writeUInt32LE(first, at + 8);
  disk.writeUInt32LE(count, at + 12);
  disk.writeUInt16LE(0xaa55, sector * SECTOR + 510);
}

test("primary and logical partitions of an MBR, numbered as Linux does", async () => {
  const disk = Buffer.alloc(SECTOR * 100);
  disk.writeUInt32LE(0xdeadbeef, 440);
  putEntry(disk, 0, 0, 0x83, 2, 10);
  putEntry(disk, 0, 2, 0x05, 20, 60);
  putEntry(disk, 20, 0, 0x83, 1, 5);
  putEntry(disk, 20, 1, 0x05, 10, 20);
  putEntry(disk, 30, 0, 0x82, 2, 6);
  const { scheme, partitions } = await readPartitions(diskOf(disk));
  assert.equal(scheme, "mbr");
  assert.deepEqual(
    partitions.map(({ number, offset, sizeBytes, type, uuid }) => [
      number,
      offset / SECTOR,
      sizeBytes / SECTOR,
      type,
      uuid,
    ]),
    [
      [1, 2, 10, "83", "deadbeef-01"],
      [5, 21, 5, "83", "deadbeef-05"],
      [6, 32, 6, "82", "deadbeef-06"],
    ],
  );
});

function gpt(damage: (disk: Buffer) => void = () => undefined): Buffer {
  const sectors = 200;
  const disk = Buffer.alloc(SECTOR * sectors);
  putEntry(disk, 0, 0, 0xee, 1, sectors - 1);
  const table = Buffer.alloc(128 * 128);
  table.write("af3dc60f838472478e793d69d8477de4", 128, "hex");
  table.write("00112233445566778899aabbccddeeff", 128 + 16, "hex");
  table.writeBigUInt64LE(40n, 128 + 32);
  table.writeBigUInt64LE(99n, 128 + 40);
  const header = (own: number, other: number, entries: number): void => {
    const at = own * SECTOR;
    disk.write("EFI PART", at, "latin1");
    disk.writeUInt32LE(92, at + 12);
    disk.writeBigUInt64LE(BigInt(own), at + 24);
    disk.writeBigUInt64LE(BigInt(other), at + 32);
    disk.writeBigUInt64LE(BigInt(entries), at + 72);
    disk.writeUInt32LE(128, at + 80);
    disk.writeUInt32LE(128, at + 84);
    disk.writeUInt32LE(crc32(table), at + 88);
    disk.writeUInt32LE(crc32(disk.subarray(at, at + 92)), at + 16);
    disk.set(table, entries * SECTOR);
  };
  header(1, sectors - 1, 2);
  header(sectors - 1, 1, sectors - 33);
  damage(disk);
  return disk;
}

test("a GPT is read from its backup where the first copy is damaged", async () => {
  const expected = {
    number: 2,
    offset: 40 * SECTOR,
    sizeBytes: 60 * SECTOR,
    type: "0fc63daf-8483-4772-8e79-3d69d8477de4",
    uuid: "33221100-5544-7766-8899-aabbccddeeff",
  };
  const spoilt = [
    () => undefined,
    (disk: Buffer) => void disk.fill(0, SECTOR, 2 * SECTOR),
    (disk: Buffer) => void disk.writeUInt8(1, 2 * SECTOR + 300),
  ];
  for (const damage of spoilt) {
    const table = await readPartitions(diskOf(gpt(damage)));
    assert.deepEqual(table, { scheme: "gpt", partitions: [expected] });
  }
  const both = gpt((disk) => {
    disk.fill(0, SECTOR, 2 * SECTOR);
    disk.fill(0, disk.length - SECTOR);
  });
  await assert.rejects(readPartitions(diskOf(both)), (error) =>
    hasCode(error, "import.image-damaged"),
  );
});

test("what overlaps, reaches beyond the disk or turns back is refused", async () => {
  const cases: ((disk: Buffer) => void)[] = [
    (disk) => {
      putEntry(disk, 0, 0, 0x83, 2, 10);
      putEntry(disk, 0, 1, 0x83, 5, 10);
    },
    (disk) => putEntry(disk, 0, 0, 0x83, 2, 0xffff_ffff),
    (disk) => {
      putEntry(disk, 0, 0, 0x05, 20, 60);
      putEntry(disk, 20, 1, 0x05, 0, 20);
    },
  ];
  for (const make of cases) {
    const disk = Buffer.alloc(SECTOR * 100);
    make(disk);
    await assert.rejects(readPartitions(diskOf(disk)), (error) =>
      hasCode(error, "import.image-damaged"),
    );
  }
});

test("a disk without a table has none, whatever else is on it", async () => {
  assert.equal((await readPartitions(diskOf(Buffer.alloc(4096)))).scheme, "none");
  assert.equal((await readPartitions(diskOf(Buffer.alloc(100)))).scheme, "none");
});

test("no bytes make it read beyond the disk or fail otherwise than by its code", async () => {
  const seeds = [gpt(), gpt().subarray(0, 100 * SECTOR)];
  const change = fc.record({ at: fc.nat(4096), byte: fc.nat(255) });
  await fc.assert(
    fc.asyncProperty(fc.nat(1), fc.array(change, { maxLength: 12 }), async (index, changes) => {
      const disk = Buffer.from(seeds[index] ?? gpt());
      for (const { at, byte } of changes) disk[at % disk.length] = byte;
      try {
        for (const { offset, sizeBytes } of (await readPartitions(diskOf(disk))).partitions) {
          assert.ok(offset > 0 && offset + sizeBytes <= disk.length);
        }
      } catch (error) {
        assert.ok(hasCode(error, "import.image-damaged"), String(error));
      }
    }),
    { numRuns: 200 },
  );
});
