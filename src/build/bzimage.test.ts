import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import * as fc from "fast-check";
import { hasCode } from "#core";
import { decompress, payloadOf } from "./bzimage.ts";
import { decodeLz4Legacy, Lz4Error } from "./lz4.ts";

const KERNEL = Buffer.concat([Buffer.from("\x7fELF"), Buffer.alloc(5000, "kernel ")]);

/** A bzImage of boot protocol 2.15 with two setup sectors. */
function bzImage(payload: Uint8Array, change: (view: DataView) => void = () => {}): Uint8Array {
  const image = new Uint8Array(3 * 512 + 64 + payload.length);
  const view = new DataView(image.buffer);
  view.setUint8(0x1f1, 2);
  view.setUint32(0x202, 0x48647253);
  view.setUint16(0x206, 0x20f, true);
  view.setUint32(0x248, 64, true);
  view.setUint32(0x24c, payload.length, true);
  image.set(payload, 3 * 512 + 64);
  change(view);
  return image;
}

function withSize(bytes: Uint8Array): Uint8Array {
  return Buffer.concat([bytes, Buffer.from([0, 0, 0, 0])]);
}

test("the kernel is found by the setup header and unpacked", () => {
  assert.deepEqual(Buffer.from(decompress(payloadOf(bzImage(gzipSync(KERNEL))))), KERNEL);
  const zstd = payloadOf(bzImage(withSize(zstdCompressSync(KERNEL))));
  assert.equal(zstd.compression, "zstd");
  assert.deepEqual(Buffer.from(decompress(zstd)), KERNEL);
});

test("a header that lies is refused", () => {
  const payload = gzipSync(KERNEL);
  const lies: readonly ((view: DataView) => void)[] = [
    (view) => view.setUint32(0x202, 0),
    (view) => view.setUint16(0x206, 0x207, true),
    (view) => view.setUint32(0x248, 0xffffffff, true),
    (view) => view.setUint32(0x24c, 0xffffffff, true),
    (view) => view.setUint32(0x24c, 0, true),
    (view) => view.setUint8(0x1f1, 255),
    (view) => view.setUint8(3 * 512 + 64, 0),
  ];
  for (const lie of lies) {
    assert.throws(
      () => payloadOf(bzImage(payload, lie)),
      (error) => hasCode(error, "build.kernel-invalid"),
      lie.toString(),
    );
  }
  assert.throws(
    () => payloadOf(new Uint8Array(100)),
    (error) => hasCode(error, "build.kernel-invalid"),
  );
  assert.throws(
    () => decompress({ compression: "gzip", bytes: payload.subarray(0, 30) }),
    (error) => hasCode(error, "build.kernel-invalid"),
  );
});

test("LZ4 legacy blocks are unpacked, overlapping matches too", () => {
  const block = [0x25, 0x61, 0x62, 2, 0, 0x30, 0x78, 0x79, 0x7a];
  const frame = Buffer.from([0x02, 0x21, 0x4c, 0x18, block.length, 0, 0, 0, ...block]);
  assert.equal(Buffer.from(decodeLz4Legacy(frame, 100)).toString(), "abababababaxyz");
  assert.throws(() => decodeLz4Legacy(frame, 5), Lz4Error);
});

test("damaged LZ4 is refused or unpacks within its bounds", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 64 }), (block) => {
      const head = Buffer.from([0x02, 0x21, 0x4c, 0x18, block.length, 0, 0, 0]);
      try {
        assert.ok(decodeLz4Legacy(Buffer.concat([head, block]), 2 ** 20).length <= 2 ** 20);
      } catch (error) {
        assert.ok(error instanceof Lz4Error, String(error));
      }
    }),
  );
});
