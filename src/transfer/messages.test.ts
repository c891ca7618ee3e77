import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { TesseraError } from "#core";
import { BLOCK_BYTES } from "#block";
import type { Frame } from "./frame.ts";
import {
  HelloSchema,
  OpenSchema,
  blocksPrefix,
  bytesPrefix,
  decodeBlocks,
  decodeBytes,
  decodeError,
  decodeJson,
  decodeZeroes,
  encodeError,
  encodeZeroes,
  type BytesHead,
} from "./messages.ts";
import { TYPE, type FrameType } from "./protocol.ts";

const VIOLATION = { code: "transfer.protocol-violation" };

function frameOf(type: FrameType, payload: Uint8Array): Frame {
  return { type, flags: 0, stream: 1, length: payload.length, payload: Buffer.from(payload) };
}

function decodeEmpty(rawBytes: number): BytesHead {
  return decodeBytes(frameOf(TYPE.BYTES, bytesPrefix(0, rawBytes)));
}

function json(value: object): Frame {
  return frameOf(TYPE.HELLO, Buffer.from(JSON.stringify(value)));
}

const size = fc.maxSafeNat();

test("BYTES and ZEROES come out as they went in", () => {
  fc.assert(
    fc.property(size, fc.integer({ min: 1, max: 2 ** 20 }), (offset, length) => {
      const data = Buffer.from("data");
      const bytes = frameOf(TYPE.BYTES, Buffer.concat([bytesPrefix(offset, length), data]));
      assert.deepEqual(decodeBytes(bytes), { offset, rawBytes: length, data });
      const zeroes = frameOf(TYPE.ZEROES, encodeZeroes(offset, length));
      assert.deepEqual(decodeZeroes(zeroes), { offset, length });
    }),
  );
});

test("raw lengths of nothing or of more than 1 MiB, and sizes above 2^53, are refused", () => {
  assert.throws(() => decodeEmpty(0), VIOLATION);
  assert.throws(() => decodeEmpty(2 ** 20 + 1), VIOLATION);
  assert.throws(() => decodeZeroes(frameOf(TYPE.ZEROES, encodeZeroes(0, 0))), VIOLATION);
  assert.throws(() => decodeBytes(frameOf(TYPE.BYTES, Buffer.alloc(12, 0xff))), VIOLATION);
});

/** Runs of up to 16 blocks in all, ascending from block 5 on. */
const legalRuns = fc
  .array(fc.record({ gap: fc.nat(1000), count: fc.integer({ min: 1, max: 4 }) }), {
    minLength: 1,
    maxLength: 4,
  })
  .map((steps) => {
    let next = 5;
    return steps.map(({ gap, count }) => {
      const index = next + gap;
      next = index + count;
      return { index, count };
    });
  });

test("runs of blocks come out as they went in, the last block may be short", () => {
  fc.assert(
    fc.property(legalRuns, fc.nat(BLOCK_BYTES - 1), (runs, missing) => {
      const last = runs.at(-1);
      assert.ok(last);
      const nextBlock = last.index + last.count;
      const sizeBytes = nextBlock * BLOCK_BYTES - missing;
      const total = runs.reduce((sum, { count }) => sum + count, 0);
      const head = decodeBlocks(frameOf(TYPE.BLOCKS, blocksPrefix(runs)), {
        sizeBytes,
        nextBlock: 5,
      });
      assert.deepEqual(head.runs, runs);
      assert.equal(head.nextBlock, nextBlock);
      assert.equal(head.rawBytes, total * BLOCK_BYTES - missing);
    }),
  );
});

test("runs that go back, overlap, leave the device, or are too many are refused", () => {
  const device = { sizeBytes: 100 * BLOCK_BYTES, nextBlock: 10 };
  const decode = (runs: { index: number; count: number }[]) =>
    decodeBlocks(frameOf(TYPE.BLOCKS, blocksPrefix(runs)), device);
  decode([{ index: 10, count: 16 }]);
  for (const runs of [
    [],
    [{ index: 9, count: 1 }],
    [{ index: 10, count: 0 }],
    [{ index: 10, count: 17 }],
    [{ index: 99, count: 2 }],
    [{ index: 2 ** 52, count: 1 }],
    [
      { index: 20, count: 2 },
      { index: 21, count: 1 },
    ],
    Array.from({ length: 17 }, (_, n) => ({ index: 10 + 2 * n, count: 1 })),
  ]) {
    assert.throws(() => decode(runs), VIOLATION, JSON.stringify(runs));
  }
  const short = frameOf(TYPE.BLOCKS, Buffer.from([0, 3, ...Buffer.alloc(12)]));
  assert.throws(() => decodeBlocks(short, device), VIOLATION);
});

test("random payloads give a message or a violation, nothing else", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 300 }), (payload) => {
      const frame = frameOf(TYPE.BLOCKS, payload);
      for (const decode of [
        () => decodeBlocks(frame, { sizeBytes: 2 ** 30, nextBlock: 0 }),
        () => decodeBytes(frame),
        () => decodeZeroes(frame),
        () => decodeJson(frame, OpenSchema),
        () => decodeError(frame),
      ]) {
        try {
          decode();
        } catch (error) {
          assert.ok(error instanceof TesseraError && error.code === VIOLATION.code);
        }
      }
    }),
    { numRuns: 1000 },
  );
});

test("unknown members are ignored, unknown roles and kinds are errors", () => {
  const hello = {
    protocol: { min: 1, max: 3, later: true },
    features: ["files"],
    role: "receiver",
    session: "m-1",
    token: "A".repeat(43),
    later: {},
  };
  assert.deepEqual(decodeJson(json(hello), HelloSchema).protocol, { min: 1, max: 3 });
  assert.throws(() => decodeJson(json({ ...hello, role: "other" }), HelloSchema), VIOLATION);
  assert.throws(() => decodeJson(json({ ...hello, token: "short" }), HelloSchema), VIOLATION);
  assert.throws(() => decodeJson(json({ ...hello, session: "a\nb" }), HelloSchema), VIOLATION);
  const open = { kind: "tree", digest: `sha256:${"0".repeat(64)}`, offset: 0, credit: 2 ** 22 };
  assert.throws(() => decodeJson(json(open), OpenSchema), VIOLATION);
  assert.ok(decodeJson(json({ ...open, kind: "blob" }), OpenSchema));
  assert.throws(
    () => decodeJson(json({ ...open, kind: "blob", credit: 1 }), OpenSchema),
    VIOLATION,
  );
});

test("an error tells the peer no path of ours, and the peer's text cannot move the cursor", () => {
  const disk = new TesseraError("environment", "system.io", "cannot read /var/lib/secret");
  const sent = encodeError(disk).toString();
  assert.ok(!sent.includes("/var/lib"));
  assert.ok(sent.includes("transfer.source-failed"));
  const evil = { code: "transfer.not-offered", message: "a\u001b[2Jb\u202ec" };
  const error = decodeError(frameOf(TYPE.ERROR, Buffer.from(JSON.stringify(evil))));
  assert.equal(error.code, "transfer.not-offered");
  assert.equal(error.fault, "peer");
  assert.match(error.message, /a \[2Jb c$/);
  const foreign = { code: "repository.gone", message: "x" };
  const other = decodeError(frameOf(TYPE.ERROR, Buffer.from(JSON.stringify(foreign))));
  assert.equal(other.code, VIOLATION.code);
});
