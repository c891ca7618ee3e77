import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { hasCode } from "#core";
import { bufferSource, readAll } from "#image";
import { kernelImage } from "./kernel-image.ts";

const MIB = 2 ** 20;
const BASE = 16 * MIB;
const HEAD_BYTES = 1024;

interface Segment {
  readonly address: number;
  readonly bytes: Buffer;
  readonly memoryBytes: number;
}

function elf(segments: readonly Segment[], entry: number): Buffer {
  const head = Buffer.alloc(64 + 56 * segments.length);
  head.write("7f454c46020101", 0, "hex");
  head.writeUInt16LE(62, 18);
  head.writeBigUInt64LE(BigInt(entry), 24);
  head.writeBigUInt64LE(64n, 32);
  head.writeUInt16LE(56, 54);
  head.writeUInt16LE(segments.length, 56);
  let at = head.length;
  for (const [index, { address, bytes, memoryBytes }] of segments.entries()) {
    const start = 64 + index * 56;
    head.writeUInt32LE(1, start);
    for (const [offset, value] of [
      [8, at],
      [24, address],
      [32, bytes.length],
      [40, memoryBytes],
    ] as const) {
      head.writeBigUInt64LE(BigInt(value), start + offset);
    }
    at += bytes.length;
  }
  return Buffer.concat([head, ...segments.map(({ bytes }) => bytes)]);
}

const KERNEL = elf(
  [
    { address: BASE, bytes: Buffer.from("text of the kernel"), memoryBytes: 18 },
    { address: BASE + 4096, bytes: Buffer.from("data"), memoryBytes: 3 * MIB },
  ],
  BASE + 5,
);

test("a boot loader finds the kernel as it lies in memory, behind our boot code", async () => {
  const image = await kernelImage(bufferSource(KERNEL));
  const bytes = Buffer.from(await readAll(image, 16 * MIB));
  assert.equal(bytes.toString("latin1", 0x202, 0x206), "HdrS");
  assert.equal((bytes.readUInt8(0x1f1) + 1) * 512, HEAD_BYTES);
  const whole = bytes.subarray(HEAD_BYTES);
  const kernelAt = 2 * MIB;
  assert.equal(whole.toString("latin1", kernelAt, kernelAt + 18), "text of the kernel");
  assert.equal(whole.toString("latin1", kernelAt + 4096), "data");
  assert.equal(bytes.readBigUInt64LE(0x258), BigInt(BASE - kernelAt));
  assert.equal(bytes.readUInt32LE(0x260), 2 * MIB + 4096 + 3 * MIB);
  assert.equal(whole.readUInt32LE(0xc4), kernelAt + 5, "the jump leads to the kernel's entry");
  assert.equal(whole.toString("hex", 0, 2), "fafc");
});

test("any part of it reads as the whole does", async () => {
  const image = await kernelImage(bufferSource(KERNEL));
  const whole = Buffer.from(await readAll(image, 16 * MIB));
  const places = fc.tuple(fc.nat(whole.length), fc.nat(8192));
  await fc.assert(
    fc.asyncProperty(places, async ([at, length]) => {
      const target = Buffer.alloc(Math.min(length, whole.length - at), 0xff);
      await image.read(target, at);
      assert.ok(target.equals(whole.subarray(at, at + target.length)));
    }),
    { numRuns: 50 },
  );
});

test("no bytes make it fail otherwise than by its code", async () => {
  const change = fc.record({ at: fc.nat(KERNEL.length - 1), byte: fc.nat(255) });
  await fc.assert(
    fc.asyncProperty(fc.array(change, { maxLength: 8 }), async (changes) => {
      const bytes = Buffer.from(KERNEL);
      for (const { at, byte } of changes) bytes[at] = byte;
      try {
        await kernelImage(bufferSource(bytes));
      } catch (error) {
        assert.ok(hasCode(error, "export.machine-unsuitable"), String(error));
      }
    }),
    { numRuns: 200 },
  );
  for (const short of [Buffer.alloc(0), KERNEL.subarray(0, 70), Buffer.from("#!/bin/sh")]) {
    await assert.rejects(kernelImage(bufferSource(short)), (error) =>
      hasCode(error, "export.machine-unsuitable"),
    );
  }
});
