import assert from "node:assert/strict";
import { test } from "node:test";
import { estimateBytes, wireBytesOf } from "#delta";

const pack = { rawBytes: 1_000_000, kind: "plain", segments: 1, references: 0 };

test("cached packs count by their size, others by the samples of their kind", () => {
  const samples = [
    { kind: "plain", rawBytes: 100, encodedBytes: 30 },
    { kind: "patched", rawBytes: 100, encodedBytes: 5 },
    { kind: "patched", rawBytes: 300, encodedBytes: 7 },
  ];
  const packs = [pack, { ...pack, kind: "patched" }, { ...pack, cachedBytes: 123 }];
  const estimate = estimateBytes(packs, samples);
  assert.equal(estimate.encodedBytes, 300_000 + 30_000 + 123);
  assert.equal(Math.round(estimate.knownShare * 3), 1);
});

test("without a sample of the kind all samples count, without any the ratio given", () => {
  const samples = [{ kind: "patched", rawBytes: 100, encodedBytes: 5 }];
  assert.equal(estimateBytes([pack], samples).encodedBytes, 50_000);
  assert.equal(estimateBytes([pack], [], 0.25).encodedBytes, 250_000);
  assert.deepEqual(estimateBytes([], []), { wireBytes: 0, encodedBytes: 0, knownShare: 1 });
});

test("frames, PINGs, TLS records and packets are added", () => {
  assert.equal(wireBytesOf(0), 0);
  assert.equal(wireBytesOf(1), 1 + 22 + 2 * 66);
  assert.equal(wireBytesOf(16_384), 16_384 + 22 + (12 + 6) * 66);
  assert.equal(wireBytesOf(32_768), 32_768 + 2 * 22 + (23 + 12) * 66 + 36 + 22 + 66);
  const { wireBytes } = estimateBytes([{ ...pack, cachedBytes: 2 ** 20 + 1 }], []);
  assert.equal(wireBytes, wireBytesOf(2 ** 20 + 1 + 10 + 16 + 5 + 2 * 22));
});
