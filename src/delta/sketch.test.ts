import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import * as fc from "fast-check";
import { similarity, sketcher } from "#delta";

/** Bytes without structure, the same in every run. */
function noise(seed: string, length: number): Uint8Array {
  const parts: Uint8Array[] = [];
  for (let index = 0; index * 32 < length; index += 1) {
    parts.push(
      createHash("sha256")
        .update(`${seed}:${String(index)}`)
        .digest(),
    );
  }
  return Buffer.concat(parts).subarray(0, length);
}

function sketchOf(...pieces: readonly Uint8Array[]): Uint32Array {
  const sketch = sketcher();
  for (const piece of pieces) sketch.update(piece);
  return sketch.digest();
}

test("the sketch does not depend on how the content is cut", () => {
  const content = noise("cut", 20_000);
  const whole = sketchOf(content);
  assert.equal(whole.length, 8);
  fc.assert(
    fc.property(fc.array(fc.nat(content.length), { maxLength: 40 }), (cuts) => {
      const ends = [...cuts.toSorted((a, b) => a - b), content.length];
      const pieces = ends.map((end, index) => content.subarray(ends[index - 1] ?? 0, end));
      assert.deepEqual(sketchOf(...pieces), whole);
    }),
  );
});

test("the sketch of a given content never changes", () => {
  assert.deepEqual(Array.from(sketchOf(noise("fixed", 8_192))), FIXED);
});

const FIXED: readonly number[] = [
  2444585152, 2417972527, 2300043197, 2454429919, 2204832464, 2449955472, 2300206231, 2205636891,
];

test("small contents and runs of one byte have no sketch", () => {
  assert.equal(sketchOf(noise("small", 4_095)).length, 0);
  assert.equal(sketchOf(noise("small", 4_096)).length, 8);
  for (const byte of [0, 0xff, 0x20, 0x90]) {
    assert.equal(sketchOf(new Uint8Array(100_000).fill(byte)).length, 0, String(byte));
  }
});

test("zeroes within a content add no windows", () => {
  const [head, tail] = [noise("head", 50_000), noise("tail", 50_000)];
  const padded = sketchOf(head, new Uint8Array(65_536), tail);
  assert.ok(similarity(padded, sketchOf(head, tail)) >= 0.75);
});

test("an insertion or a change leaves most of the sketch, another content nothing", () => {
  for (const seed of ["a", "b", "c", "d", "e"]) {
    const content = noise(seed, 200_000);
    const inserted = sketchOf(
      content.subarray(0, 70_001),
      noise("x", 333),
      content.subarray(70_001),
    );
    assert.ok(similarity(sketchOf(content), inserted) >= 0.75, seed);
    assert.ok(similarity(sketchOf(content), sketchOf(noise(`${seed}'`, 200_000))) <= 0.125, seed);
  }
});

test("similarity is symmetric, 1 for equal sketches, and 0 for none", () => {
  const [a, b] = [sketchOf(noise("a", 9_000)), sketchOf(noise("b", 9_000))];
  assert.equal(similarity(a, a), 1);
  assert.equal(similarity(a, b), similarity(b, a));
  assert.equal(similarity(new Uint32Array(0), new Uint32Array(0)), 0);
  assert.equal(similarity(a, new Uint32Array(0)), 0);
});
