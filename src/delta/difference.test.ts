import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { decodeDifference, encodeDifference } from "./difference.ts";
import { findRegions, TableSpace } from "./difference-match.ts";

/** Bytes that look random but depend on `seed` only. */
function noise(length: number, seed: number): Uint8Array {
  let state = seed | 1;
  return Uint8Array.from({ length }, () => {
    state = Math.imul(state, 0x5bd1e995) + 0x3c6ef372;
    return state >>> 24;
  });
}

function decoded(difference: Uint8Array, old: Uint8Array, rawBytes: number) {
  const raw = new Uint8Array(rawBytes);
  return decodeDifference(difference, old, raw) ? raw : undefined;
}

/** A program whose addresses have moved, as it were: every 16th byte or so is another. */
function moved(old: Uint8Array): Uint8Array {
  const fresh = new Uint8Array(old.length + 100);
  fresh.set(old.subarray(0, 5000), 0);
  fresh.set(noise(100, 7), 5000);
  fresh.set(old.subarray(5000), 5100);
  for (let at = 0; at + 2 < fresh.length; at += 16) {
    const value = (fresh[at] ?? 0) + 256 * (fresh[at + 1] ?? 0) + 100;
    fresh[at] = value & 0xff;
    fresh[at + 1] = (value >> 8) & 0xff;
  }
  return fresh;
}

const edit = fc.record({
  at: fc.nat(5000),
  remove: fc.nat(300),
  insert: fc.uint8Array({ maxLength: 300 }),
});

function edited(
  old: Uint8Array,
  edits: readonly { at: number; remove: number; insert: Uint8Array }[],
) {
  let bytes = Buffer.from(old);
  for (const { at, remove, insert } of edits) {
    bytes = Buffer.concat([bytes.subarray(0, at), insert, bytes.subarray(at + remove)]);
  }
  return bytes;
}

test("what a difference was made of comes back", () => {
  const space = new TableSpace();
  const bytes = fc.integer({ min: 0, max: 5000 }).map((length) => noise(length, length));
  const edits = fc.array(edit, { maxLength: 8 });
  let made = 0;
  fc.assert(
    fc.property(bytes, edits, (old, changes) => {
      const fresh = edited(old, changes);
      const difference = encodeDifference(old, fresh, { space });
      assert.deepEqual(difference, encodeDifference(old, fresh));
      if (difference === undefined) return;
      made += 1;
      assert.ok(difference.length < fresh.length / 2);
      assert.deepEqual(decoded(difference, old, fresh.length), new Uint8Array(fresh));
    }),
    { numRuns: 300 },
  );
  assert.ok(made > 50, `${made} differences`);
});

test("moved addresses take a byte or two each, and carries none", () => {
  const old = noise(60_000, 3);
  const fresh = moved(old);
  const difference = encodeDifference(old, fresh);
  assert.ok(difference !== undefined);
  assert.deepEqual(decoded(difference, old, fresh.length), fresh);
  assert.ok(difference.length < 5 * (fresh.length / 16), `${difference.length} bytes`);
  const hundreds = difference.filter((byte) => byte === 100).length;
  assert.ok(hundreds > 0.9 * (fresh.length / 16), `${hundreds} times 100`);
});

test("equal bytes take a few, however large, wherever they stand", () => {
  const old = noise(100_000, 5);
  const fresh = Buffer.concat([old.subarray(40_000), old.subarray(0, 40_000)]);
  const difference = encodeDifference(old, fresh);
  assert.ok(difference !== undefined && difference.length < 100, `${difference?.length}`);
  assert.deepEqual(decoded(difference, old, fresh.length), new Uint8Array(fresh));
});

test("bytes that are not similar, or none, have no difference", () => {
  assert.equal(encodeDifference(noise(10_000, 1), noise(10_000, 2)), undefined);
  assert.equal(encodeDifference(new Uint8Array(0), noise(1000, 2)), undefined);
  assert.equal(encodeDifference(noise(1000, 1), new Uint8Array(0)), undefined);
});

test("a difference of other sizes or other old bytes is refused or harmless", () => {
  const old = noise(60_000, 3);
  const fresh = moved(old);
  const difference = encodeDifference(old, fresh) ?? new Uint8Array(0);
  assert.equal(decoded(difference, old, fresh.length - 1), undefined);
  assert.equal(decoded(difference, old, fresh.length + 1), undefined);
  assert.equal(decoded(difference, old.subarray(1000), fresh.length), undefined);
  assert.equal(decoded(difference.subarray(1), old, fresh.length), undefined);
  assert.equal(decoded(Buffer.concat([difference, Buffer.alloc(1)]), old, fresh.length), undefined);
});

test("whatever the bytes of a difference are, decoding ends and stays within its bounds", () => {
  const old = noise(3000, 3);
  const fresh = edited(old, [{ at: 1000, remove: 30, insert: noise(50, 9) }]);
  fresh[100] = 1;
  const difference = encodeDifference(old, fresh) ?? new Uint8Array(0);
  assert.ok(difference.length > 0);
  const hits = fc.array(fc.tuple(fc.nat(difference.length - 1), fc.nat(255)), { minLength: 1 });
  fc.assert(
    fc.property(hits, (changes) => {
      const hostile = Uint8Array.from(difference);
      for (const [at, value] of changes) hostile[at] = value;
      const room = new Uint8Array(fresh.length + 64).fill(0xa5);
      decodeDifference(hostile, old, room.subarray(32, 32 + fresh.length));
      assert.ok(room.subarray(0, 32).every((byte) => byte === 0xa5));
      assert.ok(room.subarray(32 + fresh.length).every((byte) => byte === 0xa5));
    }),
    { numRuns: 500 },
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (hostile) => {
      decodeDifference(hostile, old, new Uint8Array(500));
    }),
    { numRuns: 500 },
  );
});

test("bytes that repeat themselves are found in few and long regions, without looking back for ever", () => {
  const [length, before, after] = [2 ** 18, noise(2 ** 18, 1), noise(2 ** 18, 3)];
  const zeros = (times: number): Uint8Array => new Uint8Array(times * length);
  const old = Buffer.concat([before, zeros(1)]);
  const fresh = Buffer.concat([after, zeros(3), noise(length, 5)]);
  const regions = findRegions(old, fresh, 1e6, {}) ?? [];
  assert.ok(regions.length <= 4, `${regions.length} regions`);
  assert.ok(regions.reduce((sum, region) => sum + region.length, 0) >= 3 * length);
});
