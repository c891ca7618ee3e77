/** WANT, PACK and the plans behind them: codecs, bounds, divisions. */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { hasCode } from "#core";
import type { PackPlan } from "#delta";
import { MemoryBudget } from "./budget.ts";
import { BufferPool } from "./buffers.ts";
import { Coverage } from "./coverage.ts";
import { decodePack, encodePack, type PackHead, type PackScope } from "./pack.ts";
import { halves, plansFrom, slicePlan } from "./pack-plan.ts";
import { PACK_RAW_BYTES_MAX, PACK_REFERENCE_BYTES_MAX, PACK_WIRE_BYTES_MAX } from "./protocol.ts";
import { compressFrame, decompressFrame, dictionaryOf } from "./solid.ts";
import { SOLID_LEVELS, solidParameters } from "#delta";
import { noise } from "./components.suite.ts";
import { VarintReader, VarintWriter } from "./varint.ts";
import { decodeWant, encodeWant, wantedIndices } from "./want.ts";

const violated = { code: "transfer.protocol-violation" };

test("numbers come back, in their shortest form only", () => {
  fc.assert(
    fc.property(fc.array(fc.maxSafeNat()), (numbers) => {
      const writer = new VarintWriter();
      for (const number of numbers) writer.number(number);
      const reader = new VarintReader(writer.bytes());
      assert.deepEqual(
        numbers.map(() => reader.number()),
        numbers,
      );
      assert.equal(reader.remaining, 0);
    }),
  );
  const wrong = [[], [0x80], [0x80, 0], [0xff, 0], Array(8).fill(0xff), Array(9).fill(0x80)];
  for (const bytes of wrong) {
    assert.throws(() => new VarintReader(Uint8Array.from(bytes as number[])).number(), violated);
  }
});

const anyWanted = fc
  .uniqueArray(fc.nat(5000), { minLength: 1, maxLength: 400 })
  .map((indices) => indices.toSorted((a, b) => a - b));

test("what is wanted comes back; too long a list has its gaps filled", () => {
  fc.assert(
    fc.property(anyWanted, fc.integer({ min: 4, max: 600 }), (wanted, bytesMax) => {
      assert.deepEqual(wantedIndices(decodeWant(encodeWant(wanted), 5001)), wanted);
      const bytes = encodeWant(wanted, bytesMax);
      assert.ok(bytes.length <= bytesMax);
      const got = new Set(wantedIndices(decodeWant(bytes, 5001)));
      assert.ok(wanted.every((index) => got.has(index)));
      assert.ok(Math.max(...got) === wanted.at(-1) && Math.min(...got) === wanted[0]);
    }),
  );
  const every = Array.from({ length: 300_000 }, (_, number) => 2 * number);
  assert.ok(encodeWant(every).length <= 2 ** 18);
});

test("a WANT that is not of the recipe is refused before anything is allocated", () => {
  const refuse = (...numbers: number[]): void => {
    const writer = new VarintWriter();
    for (const number of numbers) writer.number(number);
    assert.throws(() => decodeWant(writer.bytes(), 10), violated);
  };
  refuse(0, 11);
  refuse(10, 1);
  refuse(0, 0);
  refuse(0, 2, 0, 2);
  refuse(3);
  refuse(0, Number.MAX_SAFE_INTEGER);
  refuse(Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
  assert.throws(() => decodeWant(Buffer.alloc(0), 10), violated);
});

const SCOPE: PackScope = {
  component: { contents: Array.from({ length: 50 }, (_, n) => ({ sizeBytes: 1 + n * 1000 })) },
  bases: [
    { contents: Array.from({ length: 20 }, (_, n) => ({ sizeBytes: 5 + n })) },
    { contents: [{ sizeBytes: 2 ** 40 }] },
  ],
};

const anyRange = (sizes: PackScope["component"]) =>
  fc.nat(sizes.contents.length - 1).chain((content) => {
    const sizeBytes = Math.min(sizes.contents[content]?.sizeBytes ?? 0, 2 ** 16);
    return fc
      .nat(sizeBytes - 1)
      .chain((offset) =>
        fc
          .integer({ min: 1, max: sizeBytes - offset })
          .map((length) => ({ content, offset, length })),
      );
  });
const anyReference = fc
  .nat(1)
  .chain((base) =>
    anyRange(SCOPE.bases[base] ?? SCOPE.component).map((range) => ({ base, ...range })),
  );
const anyHead: fc.Arbitrary<PackHead> = fc
  .record({
    segments: fc.array(anyRange(SCOPE.component), { minLength: 1, maxLength: 30 }),
    references: fc.array(anyReference, { maxLength: 30 }),
    start: fc.maxSafeNat(),
    level: fc.nat(22),
    kind: fc.constantFrom("direct", "solid", "difference"),
    encodedBytes: fc.integer({ min: 1, max: PACK_WIRE_BYTES_MAX }),
  })
  .map(({ kind, references, segments, encodedBytes, ...rest }) => ({
    ...rest,
    segments,
    references: kind === "direct" ? [] : references,
    kind: kind === "difference" && references.length === 0 ? "solid" : kind,
    encodedBytes: kind === "direct" ? 0 : encodedBytes,
    rawBytes: segments.reduce((sum, { length }) => sum + length, 0),
  }));

test("a PACK comes back", () => {
  fc.assert(
    fc.property(anyHead, (head) => {
      assert.deepEqual(decodePack(encodePack(head, SCOPE), SCOPE), head);
    }),
  );
});

test("a PACK that was changed is refused or stays within what there is", () => {
  const changes = fc.array(fc.tuple(fc.nat(200), fc.nat(255)), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(anyHead, changes, (head, edits) => {
      const bytes = encodePack(head, SCOPE);
      for (const [at, value] of edits) bytes[at % bytes.length] = value;
      try {
        const { segments, references, rawBytes } = decodePack(bytes, SCOPE);
        assert.ok(rawBytes <= PACK_RAW_BYTES_MAX);
        for (const { content, offset, length } of segments) {
          assert.ok(length > 0);
          assert.ok(offset + length <= (SCOPE.component.contents[content]?.sizeBytes ?? 0));
        }
        for (const { base, content, offset, length } of references) {
          assert.ok(offset + length <= (SCOPE.bases[base]?.contents[content]?.sizeBytes ?? 0));
        }
      } catch (error) {
        assert.ok(hasCode(error, violated.code), String(error));
      }
    }),
    { numRuns: 2000 },
  );
});

test("a PACK beyond the limits is refused", () => {
  const head: PackHead = {
    kind: "solid",
    level: 3,
    start: 0,
    encodedBytes: 10,
    rawBytes: 1001,
    segments: [{ content: 1, offset: 0, length: 1001 }],
    references: [],
  };
  const refuse = (change: Partial<PackHead>): void => {
    const bytes = encodePack({ ...head, ...change }, SCOPE);
    assert.throws(() => decodePack(bytes, SCOPE), violated);
  };
  const big = { base: 1, content: 0, offset: 0, length: PACK_REFERENCE_BYTES_MAX };
  decodePack(encodePack({ ...head, references: [big] }, SCOPE), SCOPE);
  refuse({ references: [big, { ...big, length: 1 }] });
  refuse({ references: [{ ...big, offset: 2 ** 40, length: 1 }] });
  refuse({ segments: [] });
  refuse({ segments: [{ content: 50, offset: 0, length: 1 }] });
  refuse({ segments: [{ content: 1, offset: 1000, length: 2 }] });
  refuse({ segments: [{ content: 1, offset: 1, length: 0 }] });
  refuse({ encodedBytes: 0 });
  refuse({ encodedBytes: PACK_WIRE_BYTES_MAX + 1 });
  refuse({ kind: "direct" });
  refuse({ kind: "difference" });
  refuse({ kind: "difference", encodedBytes: 0, references: [big] });
  refuse({ kind: "direct", encodedBytes: 0, references: [big] });
  refuse({
    segments: Array.from({ length: 400 }, () => ({ content: 49, offset: 0, length: 49_001 })),
  });
  const whole = encodePack(head, SCOPE);
  assert.throws(() => decodePack(Buffer.concat([whole, Buffer.alloc(1)]), SCOPE), violated);
  assert.throws(() => decodePack(whole.subarray(0, -1), SCOPE), violated);
  whole.writeUInt8(3, 12);
  assert.throws(() => decodePack(whole, SCOPE), violated);
});

const anyPlan: fc.Arbitrary<PackPlan> = fc
  .array(anyRange(SCOPE.component), { minLength: 1, maxLength: 12 })
  .map((segments) => ({
    segments,
    references: [{ base: 0, content: 0, offset: 0, length: 5 }],
    rawBytes: segments.reduce((sum, { length }) => sum + length, 0),
  }));

/** Content and offset of every byte. */
function bytesOf(plans: readonly PackPlan[]): string[] {
  return plans.flatMap(({ segments }) =>
    segments.flatMap(({ content, offset, length }) =>
      Array.from({ length }, (_, step) => `${content}:${offset + step}`),
    ),
  );
}

test("divided packs have every byte once and in order, wherever they go on", () => {
  const short = anyPlan.filter(({ rawBytes }) => rawBytes < 60_000);
  fc.assert(
    fc.property(
      fc.array(short, { minLength: 1, maxLength: 4 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (plans, share) => {
        const all = bytesOf(plans);
        const from = Math.floor(share * all.length);
        const rest = plansFrom(plans, from);
        assert.deepEqual(bytesOf(rest.map(({ plan }) => plan)), all.slice(from));
        assert.equal(rest[0]?.start ?? all.length, from);
        const [plan] = plans;
        if (plan === undefined || plan.rawBytes < 2) return;
        const parts = halves(plan);
        assert.ok(parts.every((part) => part.rawBytes > 0 && part.references.length === 1));
        assert.deepEqual(bytesOf(parts), bytesOf([plan]));
        assert.equal(parts[0].rawBytes + parts[1].rawBytes, plan.rawBytes);
        assert.deepEqual(bytesOf([slicePlan(plan, 1, 2)]), bytesOf([plan]).slice(1, 2));
      },
    ),
    { numRuns: 50 },
  );
});

test("coverage knows what is missing, whatever the order and the overlaps", () => {
  const range = fc.record({
    content: fc.nat(3),
    offset: fc.nat(20),
    length: fc.integer({ min: 1, max: 12 }),
  });
  fc.assert(
    fc.property(fc.array(range, { maxLength: 40 }), (ranges) => {
      const sizes = new Map([0, 1, 2].map((content) => [content, 8 + content] as const));
      const coverage = new Coverage(sizes);
      const seen = new Set<string>();
      for (const { content, offset, length } of ranges) {
        const size = sizes.get(content);
        if (size !== undefined && offset + length > size) continue;
        coverage.add(content, offset, length);
        for (let at = offset; at < offset + length; at += 1) seen.add(`${content}:${at}`);
      }
      const missing = [...sizes].flatMap(([content, size]) =>
        Array.from({ length: size }, (_, at) => `${content}:${at}`).every((at) => seen.has(at))
          ? []
          : [content],
      );
      assert.deepEqual(coverage.missing(), missing);
    }),
  );
});

test("dictionaries work at every level, magic or not, and for tiny packs", async () => {
  const large = noise("reference", 6 * 2 ** 20);
  // The dictionary magic of zstd, which must not be looked at.
  large.writeUInt32LE(0xec30a437, 0);
  const end = large.length;
  for (const level of SOLID_LEVELS) {
    const reference = level > 9 ? large.subarray(0, 2 ** 20) : large;
    const dictionary = dictionaryOf(reference.length);
    dictionary.set(reference, 1);
    for (const [from, to] of [
      [0, 2 ** 20],
      [end - 2 ** 20, end],
      [500_000, 500_300],
    ] as const) {
      const raw = reference.subarray(from, to);
      if (raw.length === 0) continue;
      const parameters = solidParameters(level, raw.length, reference.length);
      const frame = await compressFrame(raw, parameters, { bytesMax: 2 ** 23, dictionary });
      assert.ok(frame !== undefined && frame.length < 700, `level ${level}: ${frame?.length}`);
      assert.ok((await decompressFrame(frame, raw.length, dictionary))?.equals(raw));
      assert.equal(await decompressFrame(frame, raw.length - 1, dictionary), undefined);
      assert.equal(await decompressFrame(frame, raw.length + 1, dictionary), undefined);
      assert.equal(await decompressFrame(frame, raw.length), undefined);
    }
  }
  const tight = { bytesMax: 1000 };
  assert.equal(await compressFrame(large, solidParameters(6, end, 0), tight), undefined);
});

test("memory is given in line, and back; who gives up leaves the line", async () => {
  const budget = new MemoryBudget(100);
  const first = await budget.take(60);
  const stop = new AbortController();
  const order: string[] = [];
  const second = budget.take(60, stop.signal).catch(() => order.push("second gave up"));
  const third = budget.take(30).then((free) => (order.push("third"), free));
  await Promise.resolve();
  assert.deepEqual(order, [], "nobody overtakes");
  stop.abort(new Error("enough"));
  await second;
  const free = await third;
  assert.deepEqual(order, ["second gave up", "third"]);
  first();
  first();
  free();
  const whole = await budget.take(1000);
  let ran = false;
  const waiting = budget.take(1).then((release) => ((ran = true), release));
  await Promise.resolve();
  assert.equal(ran, false);
  whole();
  (await waiting)();
});

test("buffers are used again, within a bound", () => {
  const pool = new BufferPool(10 * 2 ** 20);
  const first = pool.lend(3_000_000);
  assert.equal(first.length, 3_000_000);
  pool.giveBack(first);
  const second = pool.lend(2_900_000);
  assert.equal(second.buffer, first.buffer);
  assert.equal(second.length, 2_900_000);
  assert.notEqual(pool.lend(2_900_000).buffer, first.buffer);
  pool.giveBack(second);
  pool.giveBack(pool.lend(11 * 2 ** 20));
  assert.notEqual(pool.lend(2_900_000).buffer, first.buffer, "too much was spare");
  assert.equal(pool.lend(5).length, 5);
  pool.giveBack(Buffer.from("a small one is not kept"));
});
