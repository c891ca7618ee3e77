/** The data plane: frames and each payload. */
import assert from "node:assert/strict";
import { decodeChanges, encodeChanges, type BlockChange } from "../../../src/transfer/changes.ts";
import { decodeExtents, encodeExtents } from "../../../src/transfer/extent-map.ts";
import { FrameDecoder, encodeFrame, type Frame } from "../../../src/transfer/frame.ts";
import {
  BlobEndSchema,
  BlobOpenedSchema,
  ContentsOpenedSchema,
  HelloSchema,
  MapOpenedSchema,
  OpenSchema,
  RecipeOpenedSchema,
  UserDataEndSchema,
  UserDataOpenedSchema,
  WelcomeSchema,
  blocksPrefix,
  bytesPrefix,
  decodeBlocks,
  decodeBytes,
  decodeCredit,
  decodeError,
  decodeJson,
  decodeZeroes,
  encodeCredit,
  encodeZeroes,
} from "../../../src/transfer/messages.ts";
import {
  decodeData,
  decodeRead,
  decodeReadId,
  encodeRead,
  encodeReadId,
} from "../../../src/transfer/block-reads.ts";
import { decodePack, encodePack } from "../../../src/transfer/pack.ts";
import { FRAME_RULES, TYPE, type FrameType } from "../../../src/transfer/protocol.ts";
import { decodeHeld, decodeTokens } from "../../../src/transfer/tokens.ts";
import { decodeWant, encodeWant, wantedIndices } from "../../../src/transfer/want.ts";
import { changedJson } from "../json.ts";
import { mutate, type FuzzRandom } from "../random.ts";
import type { FuzzTarget } from "../target.ts";

const VIOLATION = ["transfer.protocol-violation"];
const DIGEST = `sha256:${"ab".repeat(32)}` as const;
const TOKEN = "t".repeat(43);

const json = (value: object): Buffer => Buffer.from(JSON.stringify(value));

function frameOf(type: FrameType, payload: Buffer): Frame {
  return { type, flags: 0, stream: 1, length: payload.length, payload };
}

/** What the frame decoder would let through. */
function admitted(type: FrameType, payload: Buffer): boolean {
  const rule = FRAME_RULES.get(type);
  return rule !== undefined && payload.length >= rule.lengthMin && payload.length <= rule.lengthMax;
}

function payloadTarget(
  name: string,
  type: FrameType,
  seeds: readonly Buffer[],
  decode: (frame: Frame) => unknown,
  generate?: FuzzTarget["generate"],
): FuzzTarget {
  return {
    name,
    codes: VIOLATION,
    seeds: () => seeds,
    ...(generate === undefined ? {} : { generate }),
    decode: (input) => (admitted(type, input) ? decode(frameOf(type, input)) : undefined),
  };
}

const HELLO = {
  protocol: { min: 4, max: 4 },
  features: ["a"],
  role: "receiver",
  session: "m1",
  token: TOKEN,
  lane: 1,
};
const OPENS = [
  { kind: "blob", digest: DIGEST, offset: 5, credit: 2 ** 22, base: DIGEST, priority: 3 },
  { kind: "recipe", component: DIGEST, bases: [DIGEST], credit: 2 ** 22 },
  { kind: "contents", component: DIGEST, bases: [DIGEST], from: 10, credit: 2 ** 22 },
  { kind: "userData", block: 3, credit: 2 ** 22, lineage: DIGEST, references: true },
  { kind: "memory", credit: 2 ** 22, priority: 2 },
  { kind: "map", name: "stale", credit: 2 ** 22 },
  { kind: "blocks", credit: 2 ** 22, priority: 0 },
];
const OPENED = [
  { sizeBytes: 10, base: DIGEST },
  { sizeBytes: 10, bases: [DIGEST], base: DIGEST },
  { sizeBytes: 10, allocatedBytes: 5, changedBytes: 5, lineage: DIGEST, references: 2 },
  { digest: DIGEST, allocatedBytes: 5 },
];
const OPENED_SCHEMAS = [
  BlobOpenedSchema,
  RecipeOpenedSchema,
  ContentsOpenedSchema,
  MapOpenedSchema,
  UserDataOpenedSchema,
  BlobEndSchema,
  UserDataEndSchema,
];

/** All schemas, as a frame of a stream is decoded by the stream's kind; accepted when one accepts. */
function decodeAny(frame: Frame): void {
  let failure: unknown;
  for (const schema of OPENED_SCHEMAS) {
    try {
      decodeJson(frame, schema);
      return;
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}

const frames: readonly Buffer[] = [
  Buffer.concat([
    encodeFrame(TYPE.HELLO, 0, json(HELLO)),
    encodeFrame(TYPE.READY, 0),
    encodeFrame(TYPE.PING, 0, Buffer.alloc(8)),
  ]),
  Buffer.concat([
    encodeFrame(TYPE.OPEN, 1, json(OPENS[0] ?? {})),
    encodeFrame(TYPE.BYTES, 1, Buffer.concat([bytesPrefix(0, 100), Buffer.alloc(100)])),
    encodeFrame(TYPE.END, 1, json({})),
  ]),
  Buffer.concat([
    encodeFrame(TYPE.CREDIT, 2, encodeCredit({ amountBytes: 5, busyShare: 0 })),
    encodeFrame(TYPE.ERROR, 2, json({})),
  ]),
];

function framesIn(input: Buffer, pieceBytes: number): number {
  let count = 0;
  const decoder = new FrameDecoder();
  for (let at = 0; at < input.length; at += pieceBytes) {
    decoder.push(input.subarray(at, at + pieceBytes), ({ type, length, payload }) => {
      assert.ok(FRAME_RULES.has(type) && length === payload.length);
      count += 1;
    });
  }
  return count;
}

/** Headers whose fields are mostly allowed. */
function headers(random: FuzzRandom): Buffer {
  const types = [...FRAME_RULES.keys()];
  return Buffer.concat(
    Array.from({ length: 1 + random.below(4) }, () => {
      const type = random.chance(0.95) ? random.pick(types) : random.below(256);
      const rule = FRAME_RULES.get(type);
      const least = rule?.lengthMin ?? 0;
      const length = random.chance(0.9) ? least + random.below(40) : random.below(2 ** 32);
      const header = Buffer.alloc(10);
      header.writeUInt32BE(length, 0);
      header.writeUInt8(type, 4);
      header.writeUInt8(random.chance(0.8) ? 0 : random.below(256), 5);
      header.writeUInt32BE(rule?.stream === "connection" ? 0 : random.below(3), 6);
      return Buffer.concat([header, random.bytes(Math.min(length, 100))]);
    }),
  );
}

const frame: FuzzTarget = {
  name: "frame",
  codes: VIOLATION,
  seeds: () => frames,
  generate: (random) => headers(random),
  decode: (input) => assert.equal(framesIn(input, input.length + 1), framesIn(input, 7)),
};

const CONTENTS = { contents: [1, 10, 5000, 2 ** 20, 2 ** 24].map((sizeBytes) => ({ sizeBytes })) };
const SCOPE = { component: CONTENTS, bases: [CONTENTS, CONTENTS] };
const CONTEXT = { sizeBytes: 2 ** 22, lineage: true, imagePages: [100, 5] };
const CHANGES: readonly BlockChange[] = [
  { kind: "zero", index: 1, count: 3 },
  { kind: "whole", index: 6 },
  {
    kind: "pages",
    index: 9,
    segments: [
      { kind: "zero", count: 4 },
      { kind: "reference", count: 5, component: 0, page: 3 },
      { kind: "data", count: 3 },
      { kind: "old", count: 4 },
    ],
  },
];
const PACKS = [
  encodePack(
    {
      kind: "solid",
      level: 19,
      start: 100,
      encodedBytes: 50,
      rawBytes: 5009,
      references: [{ base: 1, content: 2, offset: 0, length: 5000 }],
      segments: [
        { content: 2, offset: 0, length: 5000 },
        { content: 3, offset: 7, length: 9 },
      ],
    },
    SCOPE,
  ),
  encodePack(
    {
      kind: "direct",
      level: 0,
      start: 0,
      encodedBytes: 0,
      rawBytes: 1,
      references: [],
      segments: [{ content: 0, offset: 0, length: 1 }],
    },
    SCOPE,
  ),
];

function checkPack(payload: Buffer): void {
  const head = decodePack(payload, SCOPE);
  assert.ok(encodePack(head, SCOPE).length > 0);
  assert.equal(
    head.segments.reduce((sum, { length }) => sum + length, 0),
    head.rawBytes,
  );
}

function checkWant(payload: Buffer): void {
  const indices = wantedIndices(decodeWant(payload, 1000));
  assert.ok(indices.every((index, at) => index < 1000 && index > (indices[at - 1] ?? -1)));
  assert.deepEqual(wantedIndices(decodeWant(encodeWant(indices), 1000)), indices);
}

const device = { sizeBytes: 100 * 65_536 - 5, nextBlock: 2 };
const runs = blocksPrefix([
  { index: 3, count: 2 },
  { index: 9, count: 1 },
]);

const EXTENTS = [
  { offset: 0, length: 65_536 },
  { offset: 200_704, length: 4096 },
  { offset: 2 ** 40, length: 2 ** 33 },
];

const extentMap: FuzzTarget = {
  name: "extent-map",
  codes: VIOLATION,
  seeds: () => [encodeExtents(EXTENTS), encodeExtents([{ offset: 7, length: 9 }])],
  decode(input) {
    const sizeBytes = 2 ** 41 + 512;
    const extents = decodeExtents(input, sizeBytes);
    let end = -1;
    for (const { offset, length } of extents) {
      assert.ok(offset > end && length > 0 && offset + length <= sizeBytes);
      end = offset + length;
    }
    assert.deepEqual(decodeExtents(encodeExtents(extents), sizeBytes), extents);
  },
};

const state: FuzzTarget = {
  name: "transfer-state",
  codes: ["transfer.state-invalid"],
  seeds: () => [
    json({ accepted: ["0".repeat(64)], lanes: { 1: { accepted: ["1".repeat(64)] } } }),
    json({ lanes: { 0: TOKEN, 1: TOKEN } }),
  ],
  generate: changedJson,
  decode(input) {
    const text = input.toString("utf8");
    if (text.includes("accepted")) decodeTokens(text);
    else decodeHeld(text);
  },
};

export const TRANSFER_TARGETS: readonly FuzzTarget[] = [
  frame,
  payloadTarget(
    "hello",
    TYPE.HELLO,
    [json(HELLO)],
    (it) => decodeJson(it, HelloSchema),
    changedJson,
  ),
  payloadTarget(
    "welcome",
    TYPE.WELCOME,
    [json({ protocol: 4, features: [], token: TOKEN })],
    (it) => decodeJson(it, WelcomeSchema),
    changedJson,
  ),
  payloadTarget(
    "open",
    TYPE.OPEN,
    OPENS.map(json),
    (it) => decodeJson(it, OpenSchema),
    changedJson,
  ),
  payloadTarget("opened-end", TYPE.OPENED, OPENED.map(json), decodeAny, changedJson),
  payloadTarget(
    "error",
    TYPE.ERROR,
    [json({ code: "transfer.not-ready", message: "no" })],
    decodeError,
    changedJson,
  ),
  payloadTarget(
    "credit",
    TYPE.CREDIT,
    [encodeCredit({ amountBytes: 7, busyShare: 1 })],
    decodeCredit,
  ),
  payloadTarget(
    "bytes",
    TYPE.BYTES,
    [Buffer.concat([bytesPrefix(5, 9), Buffer.alloc(9)])],
    decodeBytes,
  ),
  payloadTarget("zeroes", TYPE.ZEROES, [encodeZeroes(5, 9)], decodeZeroes),
  payloadTarget("blocks", TYPE.BLOCKS, [Buffer.concat([runs, Buffer.alloc(9)])], (it) =>
    decodeBlocks(it, device),
  ),
  payloadTarget("read", TYPE.READ, [encodeRead({ id: 1, offset: 65_536, length: 4096 })], (it) => {
    const read = decodeRead(it);
    assert.deepEqual(encodeRead(read), it.payload);
  }),
  payloadTarget("cancel", TYPE.CANCEL, [encodeReadId(7)], decodeReadId),
  payloadTarget("data", TYPE.DATA, [Buffer.concat([encodeReadId(7), Buffer.alloc(9)])], (it) =>
    assert.equal((decodeData(it)?.length ?? 0) + 4, it.payload.length),
  ),
  payloadTarget("want", TYPE.WANT, [encodeWant([1, 2, 3, 50, 51, 999])], ({ payload }) =>
    checkWant(payload),
  ),
  payloadTarget("pack", TYPE.PACK, PACKS, ({ payload }) => checkPack(payload)),
  payloadTarget(
    "changes",
    TYPE.CHANGES,
    [Buffer.concat([encodeChanges(CHANGES), Buffer.alloc(50)])],
    ({ payload }) => decodeChanges(payload, CONTEXT, 1),
    (random, seeds) =>
      mutate(
        random,
        seeds.map((seed) => seed.subarray(0, 40)),
      ),
  ),
  extentMap,
  state,
];
