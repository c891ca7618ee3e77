import assert from "node:assert/strict";
import { test } from "node:test";
import { randomBytes } from "node:crypto";
import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import * as fc from "fast-check";
import {
  chooseEncoding,
  ENCODING_OPTIONS,
  EQUAL_SHARE,
  forecastEncoding,
  PATCHED_LIMITS,
  SOLID_LEVELS,
  solidMemoryBytes,
  solidParameters,
} from "#delta";

const MIB = 2 ** 20;
const ADDITION = { rawBytes: 300e6, patchableBytes: 0 };
const UPDATE = { rawBytes: 200e6, patchableBytes: 200e6 };

test("a slow line squeezes, a fast one does not compress", () => {
  for (const facts of [ADDITION, UPDATE]) {
    const slow = chooseEncoding({ bitsPerSecond: 120e3, cores: 2 }, facts);
    assert.deepEqual(slow, { kind: "solid", level: 19 });
  }
  const fast = chooseEncoding({ bitsPerSecond: 10e9, cores: 2 }, ADDITION);
  assert.deepEqual(fast, { kind: "direct", level: undefined });
});

test("where there are many packs, what each of them takes counts", () => {
  const conditions = { bitsPerSecond: 200e6, cores: 1.5 };
  const [few, many] = [5, 500].map((packs) => chooseEncoding(conditions, { ...UPDATE, packs }));
  assert.equal(few?.kind, "solid");
  assert.equal(many?.kind, "direct");
});

test("an unknown rate counts as 100 Mbit/s", () => {
  for (const facts of [ADDITION, UPDATE]) {
    const known = chooseEncoding({ bitsPerSecond: 100e6, cores: 2 }, facts);
    assert.deepEqual(chooseEncoding({ cores: 2 }, facts), known);
  }
});

test("packs that were made before cost no processor time", () => {
  const conditions = { bitsPerSecond: 1e9, cores: 1 };
  const cachedShares = new Map([[19, 1]]);
  assert.notDeepEqual(chooseEncoding(conditions, UPDATE), { kind: "solid", level: 19 });
  const chosen = chooseEncoding(conditions, { ...UPDATE, cachedShares });
  assert.deepEqual(chosen, { kind: "solid", level: 19 });
});

test("no option ends much sooner than the chosen one, and a faster link never squeezes more", () => {
  const any = fc.record({
    cores: fc.double({ min: 0.25, max: 64, noNaN: true }),
    rawBytes: fc.integer({ min: 1, max: 2 ** 31 - 1 }),
    share: fc.double({ min: 0, max: 1, noNaN: true }),
  });
  fc.assert(
    fc.property(any, ({ cores, rawBytes, share }) => {
      const facts = { rawBytes, patchableBytes: Math.floor(rawBytes * share) };
      let leastBytes = 0;
      for (let bitsPerSecond = 1e4; bitsPerSecond < 1e11; bitsPerSecond *= 3) {
        const conditions = { bitsPerSecond, cores };
        const chosen = chooseEncoding(conditions, facts);
        const forecasts = ENCODING_OPTIONS.map((choice) => ({
          choice,
          ...forecastEncoding(choice, conditions, facts),
        }));
        const own = forecasts.find(({ choice }) => choice.encoding === chosen);
        assert.ok(own && forecasts.every((other) => own.seconds <= EQUAL_SHARE * other.seconds));
        assert.ok(own.wireBytes >= leastBytes);
        leastBytes = own.wireBytes;
      }
    }),
  );
});

test("one encoder stays below 110 MiB, at the highest levels below 220 MiB", () => {
  const { rawBytesMax, referenceBytesMax } = PATCHED_LIMITS;
  for (const level of SOLID_LEVELS) {
    const most = (level < 18 ? 110 : 220) * MIB;
    assert.ok(solidMemoryBytes(level, rawBytesMax, referenceBytesMax) <= most, String(level));
    assert.ok(solidMemoryBytes(level, 16 * MIB, 0) <= most, String(level));
    assert.ok(solidMemoryBytes(level, 65_536, 0) < 8 * MIB, String(level));
  }
});

test("at every level a pack finds what its dictionary has, at the beginning too", () => {
  for (const level of SOLID_LEVELS) {
    for (const [rawBytes, referenceBytes] of SIZES) {
      const dictionary = Buffer.concat([Buffer.alloc(1), randomBytes(referenceBytes)]);
      const raw = Buffer.from(dictionary.subarray(1_000, 1_000 + rawBytes));
      for (let at = 500; at < raw.length; at += 10_000) raw[at] = (raw[at] ?? 0) ^ 0x55;
      const encoded = encode(level, raw, dictionary);
      const label = [level, rawBytes, referenceBytes, encoded.length].join(" ");
      assert.ok(encoded.length < rawBytes / 50, label);
      assert.ok(zstdDecompressSync(encoded, { dictionary }).equals(raw), label);
    }
  }
});

const SIZES: readonly (readonly [number, number])[] = [
  [50_000, 60_000],
  [400_000, 500_000],
  [90_000, PATCHED_LIMITS.referenceBytesMax],
  [2 * MIB, 5 * MIB],
];

function encode(level: number, raw: Buffer, dictionary: Buffer): Buffer {
  const params: Record<number, number> = {};
  const chosen = solidParameters(level, raw.length, dictionary.length);
  for (const [name, value] of Object.entries(chosen)) {
    const key = Object.entries(constants).find(([each]) => each === `ZSTD_c_${name}`)?.[1];
    assert.ok(typeof key === "number", name);
    params[key] = Number(value);
  }
  return zstdCompressSync(raw, { params, dictionary });
}

test("packs that refer to their own component take more work and leave less, unless direct", () => {
  for (const option of ENCODING_OPTIONS) {
    const conditions = { bitsPerSecond: 1e6, cores: 1 };
    const plain = forecastEncoding(option, conditions, ADDITION);
    const own = forecastEncoding(option, conditions, { ...ADDITION, ownBytes: ADDITION.rawBytes });
    const share = option.encoding.kind === "direct" ? 1 : 0.5;
    assert.equal(own.wireBytes, plain.wireBytes * share);
    const swift = { bitsPerSecond: 1e15, cores: 1 };
    const work = forecastEncoding(option, swift, { ...ADDITION, ownBytes: ADDITION.rawBytes });
    const less = forecastEncoding(option, swift, ADDITION);
    assert.equal(work.seconds, less.seconds * (share === 1 ? 1 : 2));
  }
});
