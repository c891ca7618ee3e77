/** The codec of CHANGES, and what a sender that lies can do with it. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { zstdCompressSync } from "node:zlib";
import * as fc from "fast-check";
import { BLOCK_BYTES } from "#block";
import {
  PAGE_BYTES,
  dataBytesOf,
  decodeChanges,
  encodeChanges,
  type BlockChange,
  type ChangesContext,
  type PageSegment,
} from "./changes.ts";
import { readerOf } from "./fixture.suite.ts";
import type { Frame } from "./frame.ts";
import { PageIndex } from "./page-index.ts";
import { compressPatch, patchDictionary } from "./patch.ts";
import { FLAG_DICTIONARY, FLAG_ZSTD, TYPE } from "./protocol.ts";
import { ChangesDecoder } from "./receive-changes.ts";

const VIOLATION = { code: "transfer.protocol-violation" };
const CONTEXT: ChangesContext = {
  sizeBytes: 5000 * BLOCK_BYTES + 100,
  lineage: true,
  imagePages: [100, 0, 7],
};

const segmentPlace = fc.oneof(
  fc.constantFrom({ kind: "zero" }, { kind: "data" }, { kind: "old" }),
  fc.record({ kind: fc.constant("reference"), component: fc.constant(0), page: fc.nat(84) }),
  fc.record({ kind: fc.constant("reference"), component: fc.constant(2), page: fc.constant(0) }),
) as fc.Arbitrary<PageSegment>;

/** Segments that cover a block: ones of up to seven pages, and the rest as data. */
const segments = fc
  .array(fc.tuple(segmentPlace, fc.integer({ min: 1, max: 7 })), { maxLength: 8 })
  .map((list) => {
    const made: PageSegment[] = [];
    let left = 16;
    for (const [place, count] of list) {
      if (count > left) break;
      made.push({ ...place, count });
      left -= count;
    }
    return left === 0 ? made : [...made, { kind: "data" as const, count: left }];
  });

const legal = fc
  .array(
    fc.tuple(
      fc.nat(200),
      fc.oneof(
        fc.integer({ min: 1, max: 90 }).map((count) => ({ kind: "zero" as const, count })),
        fc.constant({ kind: "whole" as const }),
        segments.map((list) => ({ kind: "pages" as const, segments: list })),
      ),
    ),
    { minLength: 1, maxLength: 16 },
  )
  .map((steps) => {
    let next = 0;
    return steps.map(([gap, step]): BlockChange => {
      const index = next + gap;
      next = index + (step.kind === "zero" ? step.count : 1);
      return { ...step, index };
    });
  });

test("changes come out as they went in", () => {
  fc.assert(
    fc.property(legal, (changes) => {
      const data = Buffer.from("data");
      const head = decodeChanges(Buffer.concat([encodeChanges(changes), data]), CONTEXT, 0);
      assert.deepEqual(head.changes, changes);
      assert.ok(head.data.equals(data));
      const rawBytes = changes.reduce((sum, one) => sum + dataBytesOf(one, CONTEXT.sizeBytes), 0);
      assert.equal(head.rawBytes, rawBytes);
    }),
  );
});

test("any bytes are decoded within bounds or refused", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      const list = Buffer.from(bytes);
      const length = Buffer.alloc(2);
      length.writeUInt16BE(list.length);
      try {
        const head = decodeChanges(Buffer.concat([length, list]), CONTEXT, 3);
        assert.ok(head.rawBytes <= 2 ** 20 && head.nextBlock <= 5001);
        assert.ok(head.changes.every(({ index }) => index >= 3));
      } catch (error) {
        assert.equal((error as { code?: string }).code, VIOLATION.code);
      }
    }),
    { numRuns: 5000 },
  );
});

const whole = (index: number): BlockChange => ({ kind: "whole", index });
const pages = (index: number, ...list: PageSegment[]): BlockChange => ({
  kind: "pages",
  index,
  segments: list,
});

test("what lies outside of the device, of an image or of the order is refused", () => {
  const refused = (changes: readonly BlockChange[], from = 0, context = CONTEXT): void => {
    assert.throws(() => decodeChanges(encodeChanges(changes), context, from), VIOLATION);
  };
  refused([]);
  refused([whole(5001)]);
  refused([whole(4)], 5);
  refused([{ kind: "zero", index: 4990, count: 12 }]);
  refused([{ kind: "zero", index: 1, count: 0 }]);
  refused(Array.from({ length: 17 }, (_, index) => whole(index)));
  refused([pages(0, { kind: "reference", count: 16, component: 0, page: 85 })]);
  refused([pages(0, { kind: "reference", count: 16, component: 1, page: 0 })]);
  refused([pages(0, { kind: "reference", count: 16, component: 3, page: 0 })]);
  refused([pages(0, { kind: "data", count: 17 })]);
  refused([pages(5000, { kind: "data", count: 16 })]);
  refused([pages(0, { kind: "old", count: 16 })], 0, { ...CONTEXT, lineage: false });
  for (const bytes of [[], [0], [0, 5, 1], [0xff, 0xff]]) {
    assert.throws(() => decodeChanges(Buffer.from(bytes), CONTEXT, 0), VIOLATION);
  }
});

const OLD = randomBytes(8 * BLOCK_BYTES);

function decoder(lineage = true, image = Buffer.alloc(0)): ChangesDecoder {
  const place = {
    context: { sizeBytes: OLD.length, lineage, imagePages: [image.length / PAGE_BYTES] },
    images: [readerOf(image)],
    readOld: (target: Uint8Array, offset: number) => {
      target.set(OLD.subarray(offset, offset + target.length));
      return Promise.resolve();
    },
  };
  return new ChangesDecoder(place, 0);
}

function frame(changes: readonly BlockChange[], data: Uint8Array, flags = 0): Frame {
  const payload = Buffer.concat([encodeChanges(changes), data]);
  return { type: TYPE.CHANGES, flags, stream: 1, length: payload.length, payload };
}

test("a block is composed of pages of four kinds, and frames build on the one before", async () => {
  const image = randomBytes(9 * PAGE_BYTES);
  const fresh = randomBytes(2 * PAGE_BYTES);
  const one = decoder(true, image);
  const change = pages(
    2,
    { kind: "old", count: 3 },
    { kind: "data", count: 2 },
    { kind: "zero", count: 4 },
    { kind: "reference", count: 7, component: 0, page: 1 },
  );
  const first = await one.decode(frame([change], fresh));
  const old = OLD.subarray(2 * BLOCK_BYTES, 2 * BLOCK_BYTES + 3 * PAGE_BYTES);
  const expected = Buffer.concat([
    old,
    fresh,
    Buffer.alloc(4 * PAGE_BYTES),
    image.subarray(PAGE_BYTES, 8 * PAGE_BYTES),
  ]);
  assert.deepEqual(first.writes, [{ offset: 2 * BLOCK_BYTES, bytes: expected }]);
  // The second frame repeats the first one's data and the old block: both are in its dictionary.
  const block = Buffer.concat([fresh, OLD.subarray(3 * BLOCK_BYTES, 4 * BLOCK_BYTES)]).subarray(
    0,
    BLOCK_BYTES,
  );
  const dictionary = patchDictionary(fresh, [OLD.subarray(3 * BLOCK_BYTES, 4 * BLOCK_BYTES)]);
  const packed = await compressPatch(block, 3, dictionary);
  assert.ok(packed !== undefined && packed.length < 200);
  const second = await one.decode(frame([whole(3)], packed, FLAG_ZSTD | FLAG_DICTIONARY));
  assert.deepEqual(second.writes, [{ offset: 3 * BLOCK_BYTES, bytes: block }]);
});

test("bombs, patches that do not fit and data of another length are refused", async () => {
  const bomb = zstdCompressSync(Buffer.alloc(2 ** 26));
  await assert.rejects(decoder().decode(frame([whole(0)], bomb, FLAG_ZSTD)), VIOLATION);
  await assert.rejects(
    decoder().decode(frame([whole(0)], Buffer.alloc(BLOCK_BYTES - 1))),
    VIOLATION,
  );
  const zero: BlockChange = { kind: "zero", index: 0, count: 1 };
  await assert.rejects(decoder().decode(frame([zero], bomb, FLAG_ZSTD)), VIOLATION);
  await assert.rejects(decoder().decode(frame([zero], Buffer.alloc(1))), VIOLATION);
  await assert.rejects(
    decoder().decode(frame([zero], Buffer.alloc(0), FLAG_DICTIONARY)),
    VIOLATION,
  );
  const other = await compressPatch(
    OLD.subarray(0, BLOCK_BYTES),
    3,
    patchDictionary(Buffer.alloc(0), [OLD.subarray(0, BLOCK_BYTES)]),
  );
  assert.ok(other !== undefined);
  const flags = FLAG_ZSTD | FLAG_DICTIONARY;
  await assert.rejects(decoder().decode(frame([whole(1)], other, flags)), {
    code: "transfer.lineage-mismatch",
  });
  await assert.rejects(decoder(false).decode(frame([whole(0)], other, flags)), VIOLATION);
});

test("the index finds pages of images, and only what is equal", async () => {
  const images = [randomBytes(50 * PAGE_BYTES + 17), randomBytes(70 * PAGE_BYTES)];
  images[1]?.fill(0, PAGE_BYTES, 2 * PAGE_BYTES);
  const readers = images.map((bytes) => readerOf(bytes));
  const index = await PageIndex.build(readers, new AbortController().signal);
  for (const [component, bytes] of images.entries()) {
    for (let page = 0; page < Math.floor(bytes.length / PAGE_BYTES); page += 1) {
      const content = bytes.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
      const zero = content.every((byte) => byte === 0);
      assert.deepEqual(await index.find(content), zero ? undefined : { component, page });
    }
  }
  const almost = Buffer.from(images[0]?.subarray(0, PAGE_BYTES) ?? []);
  almost[100] = (almost[100] ?? 0) ^ 1;
  assert.equal(await index.find(almost, { component: 0, page: 0 }), undefined);
});
