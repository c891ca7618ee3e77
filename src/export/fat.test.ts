import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { encodeEfiFat } from "./fat.ts";
import { ESP_BYTES } from "./layout.ts";

const CLUSTER_BYTES = 512;

/** A reader of FAT32 by the specification, which knows nothing of the writer. */
class Reader {
  readonly #disk = Buffer.alloc(ESP_BYTES);
  readonly #dataAt: number;
  readonly #fatAt: number;
  readonly #fatBytes: number;

  constructor(loader: Buffer) {
    for (const { offset, bytes } of encodeEfiFat(ESP_BYTES, 0x1234_5678, loader)) {
      assert.ok(offset + bytes.length <= ESP_BYTES);
      this.#disk.set(bytes, offset);
    }
    const disk = this.#disk;
    assert.equal(disk.readUInt16LE(510), 0xaa55);
    assert.equal(disk.readUInt16LE(11), CLUSTER_BYTES);
    assert.equal(disk.readUInt32LE(32) * CLUSTER_BYTES, ESP_BYTES);
    this.#fatBytes = disk.readUInt32LE(36) * 512;
    this.#fatAt = disk.readUInt16LE(14) * 512;
    this.#dataAt = this.#fatAt + disk.readUInt8(16) * this.#fatBytes;
    const clusters = (ESP_BYTES - this.#dataAt) / CLUSTER_BYTES;
    assert.ok(clusters >= 65_525, "it would be FAT16");
    assert.ok(this.#fatBytes >= (clusters + 2) * 4, "the table is too short");
  }

  get tables(): [Buffer, Buffer] {
    const table = (index: number): Buffer =>
      this.#disk.subarray(
        this.#fatAt + index * this.#fatBytes,
        this.#fatAt + (index + 1) * this.#fatBytes,
      );
    return [table(0), table(1)];
  }

  content(first: number): Buffer {
    const pieces: Buffer[] = [];
    for (let cluster = first; cluster < 0x0fff_fff8;) {
      const at = this.#dataAt + (cluster - 2) * CLUSTER_BYTES;
      pieces.push(this.#disk.subarray(at, at + CLUSTER_BYTES));
      cluster = this.#disk.readUInt32LE(this.#fatAt + cluster * 4);
      assert.ok(cluster >= 2, "a chain ends without an end");
    }
    return Buffer.concat(pieces);
  }

  find(directory: number, name: string): { cluster: number; sizeBytes: number } {
    const bytes = this.content(directory);
    for (let at = 0; bytes[at] !== 0; at += 32) {
      if (bytes.toString("latin1", at, at + 11) !== name || bytes[at + 11] === 8) continue;
      const cluster = bytes.readUInt16LE(at + 20) * 65_536 + bytes.readUInt16LE(at + 26);
      return { cluster, sizeBytes: bytes.readUInt32LE(at + 28) };
    }
    throw new Error(`no ${name}`);
  }
}

test("the loader is found by its path, whole", () => {
  const sizes = fc.oneof(fc.constantFrom(1, 511, 512, 513), fc.integer({ min: 1, max: 300_000 }));
  fc.assert(
    fc.property(sizes, (size) => {
      const loader = Buffer.alloc(size, size % 251);
      const reader = new Reader(loader);
      const efi = reader.find(2, "EFI        ");
      const boot = reader.find(efi.cluster, "BOOT       ");
      assert.equal(reader.find(boot.cluster, "..         ").cluster, efi.cluster);
      const file = reader.find(boot.cluster, "BOOTX64 EFI");
      assert.equal(file.sizeBytes, size);
      assert.ok(reader.content(file.cluster).subarray(0, size).equals(loader));
      const [first, second] = reader.tables;
      assert.ok(first.equals(second));
    }),
    { numRuns: 6 },
  );
});

test("what has no room is refused", () => {
  assert.throws(() => encodeEfiFat(ESP_BYTES, 1, Buffer.alloc(ESP_BYTES)), RangeError);
  assert.throws(() => encodeEfiFat(2 ** 20, 1, Buffer.alloc(1)), RangeError);
});
