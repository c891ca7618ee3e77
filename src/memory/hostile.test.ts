/** What a source could send that it should not: each is refused by name, before it costs anything. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { zstdCompressSync } from "node:zlib";
import * as fc from "fast-check";
import { hasCode, TesseraError, VarintWriter } from "#core";
import { decodeMemory, type MemoryDecoderOptions } from "./decoder.ts";
import { BLOCKS_MAX, BODY_BYTES_MAX, OPERATIONS, PAGES_MAX, type OperationKind } from "./format.ts";
import { encodeEnd, encodeFrame, encodePreamble } from "./frames.ts";
import { applyPatch, makePatch } from "./patch.ts";
import { RunReader } from "./run-reader.ts";

const INVALID = "memory.stream-invalid";
const CUT = "memory.stream-cut";
const PREAMBLE = encodePreamble({ components: 1, slots: 2 });
const IMAGE = { sizeBytes: 8192, read: async () => undefined };

/** Kind, count and fields of an operation. */
type Written = readonly [OperationKind, number, ...number[]];

function bodyOf(operations: readonly Written[], dataBytes = 0): Buffer {
  const head = new VarintWriter();
  for (const [kind, count, ...fields] of operations) {
    head.number(count * OPERATIONS.length + OPERATIONS.indexOf(kind));
    for (const field of fields) head.number(field);
  }
  const length = new VarintWriter();
  length.number(head.length);
  return Buffer.concat([length.bytes(), head.bytes(), Buffer.alloc(dataBytes, 7)]);
}

async function decode(
  pieces: readonly Buffer[],
  options: MemoryDecoderOptions = { images: [IMAGE] },
): Promise<number> {
  let bytes = 0;
  for await (const piece of decodeMemory(
    (async function* () {
      yield* pieces;
    })(),
    options,
  )) {
    bytes += piece.length;
  }
  return bytes;
}

const stream = (body: Buffer): Buffer[] => [PREAMBLE, encodeFrame(body, undefined), encodeEnd()];
const refused = (pieces: readonly Buffer[], reason: RegExp, options?: MemoryDecoderOptions) =>
  assert.rejects(
    decode(pieces, options),
    (error) => hasCode(error, INVALID) && error.fault === "peer" && reason.test(error.message),
    String(reason),
  );

const BLOCK: Written = ["define", 0];
/** The place of a page that follows the one before. */
const NEXT = 0;
const KEPT = 1;

test("what is right is taken", async () => {
  const right: readonly Written[] = [
    BLOCK,
    ["literal", 2, NEXT, KEPT],
    ["repeat", 2, NEXT, 0],
    ["patch", 0, NEXT, 1],
    ["component", 2, NEXT, 0, 0],
    ["fill", PAGES_MAX - 7, NEXT, 0],
    ["opaque", 5],
  ];
  assert.equal(await decode(stream(bodyOf(right, 8197))), 7 * 4104 + (PAGES_MAX - 7) * 9 + 5);
});

test("operations that refer to nothing, or to too much, are refused", async () => {
  const cases: readonly (readonly [readonly Written[], number, RegExp])[] = [
    [[["fill", 1, NEXT, 0]], 0, /no block/],
    [[["block", 0]], 0, /block 0 is not defined/],
    [[BLOCK, ["fill", 0, NEXT, 0]], 0, /none/],
    [[BLOCK, ["fill", PAGES_MAX + 1, NEXT, 0]], 0, /too many pages/],
    [[BLOCK, ["fill", PAGES_MAX, NEXT, 0], ["fill", 1, NEXT, 0]], 0, /too many pages/],
    [[BLOCK, ["fill", 1, NEXT, 256]], 0, /no byte/],
    [[BLOCK, ["fill", 1, 2, 0]], 0, /out of range/],
    [[BLOCK, ["fill", 1, 2 ** 43, 0]], 0, /out of range/],
    [[["opaque", 0]], 0, /no bytes/],
    [[["opaque", 5]], 4, /less data/],
    [[["opaque", 5]], 6, /nothing takes/],
    [[BLOCK, ["literal", 1, NEXT, 0]], 4095, /less data/],
    [[BLOCK, ["literal", 1, NEXT, 3]], 4096, /slot 1 is not the next/],
    [[BLOCK, ["literal", 3, NEXT, KEPT]], 12_288, /slot 2 is not the next/],
    [[BLOCK, ["literal", 1, NEXT, 2]], 4096, /out of range/],
    [[BLOCK, ["repeat", 1, NEXT, 0]], 0, /slot 0 has no page/],
    [[BLOCK, ["repeat", 1, NEXT, 2 ** 40]], 0, /out of range/],
    [[BLOCK, ["patch", 0, NEXT, 0]], 0, /slot 0 has no page/],
    [[BLOCK, ["component", 1, NEXT, 1, 0]], 0, /no component 1/],
    [[BLOCK, ["component", 3, NEXT, 0, 0]], 0, /no such page/],
    [[BLOCK, ["component", 1, NEXT, 0, 1]], 0, /no such page/],
    [[["define", 256]], 0, /too long/],
    [[["define", 5]], 0, /too long/],
    [Array.from({ length: BLOCKS_MAX + 1 }, () => BLOCK), 0, /too many blocks/],
    [[BLOCK, ["fill", 1]], 0, /cut short/],
  ];
  for (const [operations, dataBytes, reason] of cases) {
    await refused(stream(bodyOf(operations, dataBytes)), reason);
  }
  await refused(stream(Buffer.from([5, 0])), /longer than the frame/);
  await refused(stream(Buffer.from([1, 0x80])), /cut short/);
});

test("preambles that ask for what is not there are refused", async () => {
  await refused([Buffer.from("HTTP/1.1 200")], /begin as one/);
  const newer = Buffer.from(PREAMBLE);
  newer.writeUInt8(2, 4);
  await refused([newer], /version is 2/);
  await refused([encodePreamble({ components: 2, slots: 0 }), encodeEnd()], /2 components, not 1/);
  await refused([encodePreamble({ components: 1, slots: 2 ** 17 }), encodeEnd()], /more than/);
  await refused([PREAMBLE, encodeEnd()], /asks for 2 slots/, { images: [IMAGE], slotsMax: 1 });
});

function head(kind: number, raw: number, content: number): Buffer {
  const bytes = Buffer.alloc(9);
  bytes.writeUInt8(kind, 0);
  bytes.writeUInt32BE(raw, 1);
  bytes.writeUInt32BE(content, 5);
  return bytes;
}

test("frames that are not what they say are refused before memory is taken for them", async () => {
  await refused([PREAMBLE, head(3, 1, 1)], /contradicts/);
  await refused([PREAMBLE, head(2, 1, 1)], /contradicts/);
  await refused([PREAMBLE, head(0, 2, 1)], /contradicts/);
  await refused([PREAMBLE, head(1, 2, 2)], /contradicts/);
  await refused([PREAMBLE, head(1, 2, 0)], /frame of 2/);
  await refused([PREAMBLE, head(0, 0, 0)], /frame of 0/);
  await refused([PREAMBLE, head(0, 2 ** 32 - 1, 2 ** 32 - 1)], /frame of 4294967295/);
  const packed = zstdCompressSync(Buffer.alloc(BODY_BYTES_MAX));
  await refused([PREAMBLE, head(1, 1000, packed.length), packed], /do not decompress/);
  await refused([PREAMBLE, head(1, BODY_BYTES_MAX, 20), Buffer.alloc(20)], /do not decompress/);
  const short = zstdCompressSync(Buffer.alloc(900));
  await refused([PREAMBLE, head(1, 1000, short.length), short], /900 bytes/);
  await refused([PREAMBLE, encodeEnd(), Buffer.alloc(1)], /follow its end/);
});

test("a stream that ends before its end is told from one that is whole", async () => {
  const whole = Buffer.concat(stream(bodyOf([["opaque", 5]], 5)));
  for (let length = 0; length < whole.length; length += 1) {
    await assert.rejects(decode([whole.subarray(0, length)]), (error) => hasCode(error, CUT));
  }
  assert.equal(await decode([whole]), 5);
});

const anyPage = fc.array(fc.tuple(fc.nat(4095), fc.nat(255)), { maxLength: 60 }).map((bytes) => {
  const page = Buffer.alloc(4096, 1);
  for (const [at, value] of bytes) page[at] = value;
  return page;
});

test("patches make the new page of the old one, and never write beyond it", () => {
  fc.assert(
    fc.property(anyPage, anyPage, (old, page) => {
      const patch = makePatch(old, page, 8192);
      assert.ok(patch !== undefined);
      assert.deepEqual(applyPatch(old, patch), page);
      assert.equal(makePatch(old, page, patch.length - 1), undefined);
    }),
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 20 }), (patch) => {
      try {
        assert.equal(applyPatch(Buffer.alloc(4096), Buffer.from(patch)).length, 4096);
      } catch (error) {
        assert.ok(error instanceof TesseraError && error.code === INVALID);
      }
    }),
  );
});

test("bodies of chance are refused or taken, and nothing else", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      try {
        for (const operation of new RunReader().read(Buffer.from(bytes))) assert.ok(operation.kind);
      } catch (error) {
        assert.ok(error instanceof TesseraError && error.code === INVALID, String(error));
      }
    }),
    { numRuns: 2000 },
  );
});
