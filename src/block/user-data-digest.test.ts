import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import * as fc from "fast-check";
import { hasCode } from "#core";
import {
  BLOCK_BYTES,
  createMemoryDevice,
  isZero,
  nonZeroBlocks,
  userDataDigest,
  userDataHasher,
} from "./index.ts";

const SIZE_BYTES = 5 * BLOCK_BYTES + 100;

const number = (value: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32BE(value, 4);
  return bytes;
};

/** The definition in the docstring, written down a second time in the plainest way. */
function digestByDefinition(content: Buffer): string {
  const outer = createHash("sha256");
  for (let index = 0; index * BLOCK_BYTES < content.length; index += 1) {
    const block = Buffer.alloc(BLOCK_BYTES);
    content.copy(block, 0, index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES);
    if (block.every((byte) => byte === 0)) continue;
    outer.update(number(index)).update(createHash("sha256").update(block).digest());
  }
  return `sha256:${outer.update(number(content.length)).digest("hex")}`;
}

const wrong = (error: unknown): boolean => hasCode(error, "block.order-invalid");

async function deviceOf(content: Buffer) {
  const device = createMemoryDevice(content.length);
  await device.write(content, 0);
  return device;
}

test("isZero sees a single bit anywhere", () => {
  assert.ok(isZero(new Uint8Array(0)));
  assert.ok(isZero(new Uint8Array(200_000)));
  for (const at of [0, 65_535, 65_536, 199_999]) {
    const bytes = new Uint8Array(200_000);
    bytes[at] = 1;
    assert.ok(!isZero(bytes));
  }
});

test("non-zero blocks come in order, the last one short, at any block size", async () => {
  const content = Buffer.alloc(SIZE_BYTES);
  content[3 * BLOCK_BYTES + 5] = 1;
  content[SIZE_BYTES - 1] = 2;
  const device = await deviceOf(content);
  for (const blockBytes of [512, 4096, BLOCK_BYTES, 1 << 21]) {
    const seen: [number, number][] = [];
    for await (const { index, bytes } of nonZeroBlocks(device, blockBytes)) {
      seen.push([index, bytes.length]);
      const start = index * blockBytes;
      assert.ok(content.subarray(start, start + blockBytes).equals(bytes));
    }
    const indices = new Set(
      [3 * BLOCK_BYTES + 5, SIZE_BYTES - 1].map((at) => Math.floor(at / blockBytes)),
    );
    assert.deepEqual(
      seen.map(([index]) => index),
      [...indices],
    );
    assert.equal(seen.at(-1)?.[1], SIZE_BYTES - (seen.at(-1)?.[0] ?? 0) * blockBytes);
  }
});

async function followsDefinition(size: number, marks: readonly [number, number][]): Promise<void> {
  const content = Buffer.alloc(size);
  for (const [at, byte] of marks) content[at % size] = byte;
  const { digest } = await userDataDigest(await deviceOf(content));
  assert.equal(digest, digestByDefinition(content));
}

test("the digest follows its definition", async () => {
  const size = fc.integer({ min: 1, max: SIZE_BYTES });
  const marks = fc.array(fc.tuple(fc.nat(SIZE_BYTES), fc.integer({ min: 1, max: 255 })));
  await fc.assert(fc.asyncProperty(size, marks, followsDefinition), { numRuns: 20 });
});

test("holes and written zeroes are one; size, place and content are not", async () => {
  const holes = createMemoryDevice(SIZE_BYTES);
  const written = createMemoryDevice(SIZE_BYTES);
  await written.write(Buffer.alloc(SIZE_BYTES), 0);
  for (const device of [holes, written]) await device.write(Buffer.from("x"), BLOCK_BYTES);
  const one = await userDataDigest(holes);
  assert.deepEqual(await userDataDigest(written), one);
  assert.equal(one.allocatedBytes, BLOCK_BYTES);
  const larger = createMemoryDevice(SIZE_BYTES + 1);
  await larger.write(Buffer.from("x"), BLOCK_BYTES);
  assert.notEqual((await userDataDigest(larger)).digest, one.digest);
  await written.write(Buffer.from("x"), 0);
  assert.notEqual((await userDataDigest(written)).digest, one.digest);
});

test("the incremental form refuses disorder and wrong sizes", () => {
  const block = new Uint8Array(BLOCK_BYTES);
  const hasher = userDataHasher(SIZE_BYTES);
  hasher.add(2, block);
  for (const index of [2, 1, -1, 2.5, 5, 6]) assert.throws(() => hasher.add(index, block), wrong);
  assert.throws(() => hasher.add(3, new Uint8Array(100)), wrong);
  hasher.add(5, new Uint8Array(100));
});
