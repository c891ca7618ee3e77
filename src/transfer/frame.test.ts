import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { hasCode } from "#core";
import { FrameDecoder, encodeFrame, encodeHeader, type Frame } from "./frame.ts";
import { FRAME_RULES, HEADER_BYTES, TYPE, type FrameType } from "./protocol.ts";

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
  assert.throws(() => push(TYPE.BYTES, 2, 1), { code: "transfer.protocol-violation" });
  assert.throws(() => push(TYPE.END, 1, 1), { code: "transfer.protocol-violation" });
  assert.throws(() => push(TYPE.BYTES, 0, 0), { code: "transfer.protocol-violation" });
  assert.throws(() => push(TYPE.HELLO, 0, 1), { code: "transfer.protocol-violation" });
});

test("the header stands on the wire as specified", () => {
  const bytes = encodeFrame(TYPE.CREDIT, 7, Buffer.from([0, 0, 1, 0]));
  assert.equal(bytes.toString("hex"), "0000000412000000000700000100");
  assert.equal(HEADER_BYTES, 10);
});
