import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { hasCode } from "#core";
import { FrameDecoder, encodeFrame, encodeHeader, type Frame } from "./frame.ts";
import {
  FLAG_MORE,
  FRAGMENT_BYTES_MIN,
  FRAME_RULES,
  HEADER_BYTES,
  RAW_BYTES_MAX,
  TYPE,
  type FrameType,
} from "./protocol.ts";

/** Any frame that the header rules allow, with a payload of at most 2 KiB. */
const anyFrame = fc.constantFrom(...FRAME_RULES.keys()).chain((type) => {
  const rule = FRAME_RULES.get(type);
  assert.ok(rule);
  const streams = {
    connection: fc.constant(0),
    stream: fc.integer({ min: 1, max: 2 ** 32 - 1 }),
    any: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  };
  return fc.record({
    type: fc.constant(type as FrameType),
    stream: streams[rule.stream],
    flags: fc.constantFrom(0, rule.flags),
    payload: fc.uint8Array({
      minLength: rule.lengthMin,
      maxLength: Math.min(rule.lengthMax, 2048),
      size: "max",
    }),
  });
});

function decodeAll(bytes: Uint8Array, cuts: readonly number[]): Frame[] {
  const frames: Frame[] = [];
  const decoder = new FrameDecoder();
  let at = 0;
  for (const cut of cuts) {
    decoder.push(bytes.subarray(at, at + cut), (frame) => frames.push(frame));
    at += cut;
  }
  decoder.push(bytes.subarray(at), (frame) => frames.push(frame));
  return frames;
}

test("frames come out as they went in, however the bytes are cut", () => {
  const cuts = fc.array(fc.integer({ min: 0, max: 300 }), { maxLength: 40 });
  fc.assert(
    fc.property(fc.array(anyFrame, { maxLength: 6 }), cuts, (frames, cuts) => {
      const encoded = frames.map((f) => encodeFrame(f.type, f.stream, f.payload, f.flags));
      const decoded = decodeAll(Buffer.concat(encoded), cuts);
      assert.deepEqual(
        decoded.map(({ type, stream, flags, payload }) => ({
          type,
          stream,
          flags,
          payload: new Uint8Array(payload),
        })),
        frames.map((frame) => ({ ...frame })),
      );
    }),
  );
});

test("random bytes give frames within the rules or an error, and nothing after the error", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 4096, size: "max" }), (bytes) => {
      const decoder = new FrameDecoder();
      const frames: Frame[] = [];
      const take = (frame: Frame): void => void frames.push(frame);
      try {
        decoder.push(bytes, take);
      } catch (error) {
        assert.ok(hasCode(error, "transfer.protocol-violation"));
        const before = frames.length;
        decoder.push(encodeFrame(TYPE.READY, 0), take);
        assert.equal(frames.length, before);
      }
      for (const { type, payload } of frames) {
        assert.ok(payload.length <= (FRAME_RULES.get(type)?.lengthMax ?? -1));
      }
    }),
    { numRuns: 2000 },
  );
});

test("a header with one wrong byte is refused before its payload is allocated", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 32 - 1 }), fc.nat(255), (length, type) => {
      const rule = FRAME_RULES.get(type);
      const legal = rule !== undefined && length >= rule.lengthMin && length <= rule.lengthMax;
      const stream = rule?.stream === "connection" ? 0 : 1;
      let admitted = 0;
      const decoder = new FrameDecoder(() => (admitted += 1));
      const push = () =>
        decoder.push(encodeHeader({ length, type, flags: 0, stream }), () => undefined);
      if (legal) push();
      else assert.throws(push, { code: "transfer.protocol-violation" });
      assert.equal(admitted, legal ? 1 : 0);
    }),
    {
      examples: [
        [4097, TYPE.HELLO],
        [2 ** 20 + 12, TYPE.BYTES],
        [2 ** 20 + 13, TYPE.BYTES],
      ],
    },
  );
});

function push(type: number, flags: number, stream: number): void {
  const header = encodeHeader({ length: 12, type, flags, stream });
  new FrameDecoder().push(header, () => undefined);
}

test("flags and streams must fit the type", () => {
  push(TYPE.BYTES, 1, 1);
  assert.throws(() => push(TYPE.BYTES, 4, 1), { code: "transfer.protocol-violation" });
  assert.throws(() => push(TYPE.END, 1, 1), { code: "transfer.protocol-violation" });
  assert.throws(() => push(TYPE.BYTES, 0, 0), { code: "transfer.protocol-violation" });
  assert.throws(() => push(TYPE.HELLO, 0, 1), { code: "transfer.protocol-violation" });
});

test("the header stands on the wire as specified", () => {
  const bytes = encodeFrame(TYPE.CREDIT, 7, Buffer.from([0, 0, 1, 0, 0]));
  assert.equal(bytes.toString("hex"), "000000051200000000070000010000");
  assert.equal(HEADER_BYTES, 10);
});

test("a frame in pieces comes out as one, with frames of other streams between", () => {
  const piece = fc.record({ stream: fc.integer({ min: 1, max: 4 }), turn: fc.nat(9) });
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (order) => {
      const expected: { stream: number; payload: Buffer }[] = [];
      const wire: Buffer[] = [];
      const begun = new Map<number, Buffer[]>();
      for (const { stream, turn } of order) {
        const bytes = Buffer.alloc(FRAGMENT_BYTES_MIN + turn, stream * 16 + turn);
        const last = turn > 4;
        wire.push(encodeFrame(TYPE.BYTES, stream, bytes, last ? 1 : 1 | FLAG_MORE));
        const pieces = [...(begun.get(stream) ?? []), bytes];
        begun.set(stream, last ? [] : pieces);
        if (last) expected.push({ stream, payload: Buffer.concat(pieces) });
      }
      const frames = decodeAll(Buffer.concat(wire), [1, 7, 5000]);
      assert.deepEqual(
        frames.map(({ stream, payload }) => ({ stream, payload })),
        expected,
      );
      assert.ok(
        frames.every(({ flags, length, payload }) => flags === 1 && length === payload.length),
      );
    }),
  );
});

function begin(stream = 1): Buffer {
  return encodeFrame(TYPE.BYTES, stream, Buffer.alloc(5000), FLAG_MORE);
}

test("pieces that do not fit together are refused", () => {
  const refused = (...frames: readonly Buffer[]): void => {
    const push = () => decodeAll(Buffer.concat(frames), []);
    assert.throws(push, { code: "transfer.protocol-violation" });
  };
  refused(encodeFrame(TYPE.BYTES, 1, Buffer.alloc(FRAGMENT_BYTES_MIN - 1), FLAG_MORE));
  refused(begin(), encodeFrame(TYPE.BLOCKS, 1, Buffer.alloc(5000)));
  refused(begin(), encodeFrame(TYPE.BYTES, 1, Buffer.alloc(5000), 1));
  refused(begin(), encodeFrame(TYPE.END, 1, Buffer.from("{}")));
  refused(begin(), encodeFrame(TYPE.BYTES, 1, Buffer.alloc(RAW_BYTES_MAX)));
  refused(...Array.from({ length: 9 }, (_, stream) => begin(stream + 1)));
  refused(encodeFrame(TYPE.ERROR, 1, Buffer.from("{}"), FLAG_MORE));
  // An error of the stream ends its frame; what follows is another.
  decodeAll(Buffer.concat([begin(), encodeFrame(TYPE.ERROR, 1, Buffer.from("{}")), begin()]), []);
});

test("the memory of a payload is used again only when it was given back", () => {
  const decoder = new FrameDecoder();
  const payloads: Buffer[] = [];
  const push = (fill: number): void =>
    decoder.push(encodeFrame(TYPE.BYTES, 1, Buffer.alloc(RAW_BYTES_MAX, fill)), ({ payload }) =>
      payloads.push(payload),
    );
  push(1);
  push(2);
  const [first, second] = payloads;
  assert.ok(first !== undefined && second !== undefined);
  assert.notEqual(first.buffer, second.buffer);
  decoder.recycle(first);
  push(3);
  assert.equal(payloads[2]?.buffer, first.buffer);
  assert.ok(second.equals(Buffer.alloc(RAW_BYTES_MAX, 2)));
  decoder.recycle(Buffer.alloc(100));
  push(4);
  assert.equal(new Set(payloads.map(({ buffer }) => buffer)).size, 3);
});
