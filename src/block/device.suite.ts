/** What every block device does: run it against each implementation. */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { endOf, hasCode, type ByteRange } from "#core";
import type { BlockDevice } from "./contract.ts";

/** Makes an empty device; the suite closes it. */
export type MakeDevice = (sizeBytes: number) => Promise<BlockDevice>;

const SIZE_BYTES = 300_001;

const outOfRange = (error: unknown): boolean => hasCode(error, "block.out-of-range");
const closed = (error: unknown): boolean => hasCode(error, "block.closed");

async function contentOf(device: BlockDevice): Promise<Buffer> {
  const bytes = Buffer.alloc(device.sizeBytes, 0xee);
  await device.read(bytes, 0);
  return bytes;
}

function outside(ranges: readonly ByteRange[], content: Uint8Array): Uint8Array {
  const rest = Uint8Array.from(content);
  for (const range of ranges) rest.fill(0, range.offset, endOf(range));
  return rest;
}

export function deviceSuite(name: string, make: MakeDevice): void {
  const run = (title: string, body: (device: BlockDevice) => Promise<void>): void => {
    test(`${name}: ${title}`, async () => {
      const device = await make(SIZE_BYTES);
      try {
        await body(device);
      } finally {
        await device.close();
      }
    });
  };

  run("reads zeroes where nothing was written", async (device) => {
    assert.equal(device.sizeBytes, SIZE_BYTES);
    assert.ok((await contentOf(device)).equals(Buffer.alloc(SIZE_BYTES)));
  });

  run("reads back what was written, at the last byte too", async (device) => {
    await device.write(Buffer.from("abc"), 70_000);
    await device.write(Buffer.from("z"), SIZE_BYTES - 1);
    const expected = Buffer.alloc(SIZE_BYTES);
    expected.write("abc", 70_000);
    expected.write("z", SIZE_BYTES - 1);
    assert.ok((await contentOf(device)).equals(expected));
  });

  run("does not keep the caller's buffer", async (device) => {
    const buffer = Buffer.from("abc");
    await device.write(buffer, 0);
    buffer.fill(0);
    assert.equal((await contentOf(device)).toString("utf8", 0, 3), "abc");
  });

  run("refuses ranges outside of the disk", async (device) => {
    const two = Buffer.alloc(2);
    for (const offset of [-1, SIZE_BYTES - 1, SIZE_BYTES, 0.5, Number.NaN]) {
      await assert.rejects(device.read(two, offset), outOfRange);
      await assert.rejects(device.write(two, offset), outOfRange);
      await assert.rejects(device.zero({ offset, length: 2 }), outOfRange);
    }
    await assert.rejects(device.zero({ offset: 0, length: -1 }), outOfRange);
    await device.read(Buffer.alloc(0), SIZE_BYTES);
  });

  run("tells sorted, merged ranges that cover all bytes that are not zero", async (device) => {
    await device.write(Buffer.alloc(10, 1), 200_000);
    await device.write(Buffer.alloc(10, 2), 5);
    const ranges = await device.allocated();
    assert.ok(outside(ranges, await contentOf(device)).every((byte) => byte === 0));
    let end = -1;
    for (const range of ranges) {
      assert.ok(range.length > 0 && range.offset > end);
      end = endOf(range);
    }
    assert.ok(end <= SIZE_BYTES);
  });

  run("fails every call after close", async (device) => {
    await device.flush();
    await device.close();
    await assert.rejects(device.read(Buffer.alloc(1), 0), closed);
    await assert.rejects(device.write(Buffer.alloc(1), 0), closed);
    await assert.rejects(device.zero({ offset: 0, length: 1 }), closed);
    await assert.rejects(device.allocated(), closed);
    await assert.rejects(device.flush(), closed);
  });

  test(`${name}: any run of writes and zeroes gives what an array would`, async () => {
    const range = fc
      .tuple(fc.nat(SIZE_BYTES - 1), fc.nat(140_000))
      .map(([offset, length]) => ({ offset, length: Math.min(length, SIZE_BYTES - offset) }));
    const steps = fc.array(fc.record({ range, byte: fc.nat(2) }), { maxLength: 8 });
    const holds = async (run: readonly { range: ByteRange; byte: number }[]): Promise<void> => {
      const device = await make(SIZE_BYTES);
      const model = Buffer.alloc(SIZE_BYTES);
      try {
        for (const { range, byte } of run) {
          model.fill(byte, range.offset, endOf(range));
          if (byte === 0) await device.zero(range);
          else await device.write(Buffer.alloc(range.length, byte), range.offset);
        }
        assert.ok((await contentOf(device)).equals(model));
        const rest = outside(await device.allocated(), model);
        assert.ok(rest.every((byte) => byte === 0));
      } finally {
        await device.close();
      }
    };
    await fc.assert(fc.asyncProperty(steps, holds), { numRuns: 25 });
  });
}
