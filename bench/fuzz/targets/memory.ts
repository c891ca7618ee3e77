/** Memory: QEMU's migration stream, and the stream that stands for it on the wire. */
import assert from "node:assert/strict";
import { eventBytes, RamStreamParser, type RamStreamEvent } from "#hypervisor";
import { decodeMemory, MemoryEncoder } from "#memory";
import { realWorld } from "#system";
import {
  precopyStream,
  testPage,
  type TestPage,
} from "../../../src/hypervisor/qemu/ram-stream/stream.suite.ts";
import { encodeEnd, encodeFrame, encodePreamble } from "../../../src/memory/frames.ts";
import { OPERATIONS } from "../../../src/memory/format.ts";
import { VarintWriter } from "#core";
import { NUMBERS, type FuzzRandom } from "../random.ts";
import type { FuzzTarget } from "../target.ts";

const at = (page: number, content: Buffer | number, block?: string): TestPage => ({
  address: page * 4096,
  content,
  ...(block === undefined ? {} : { block }),
});
const STREAM = precopyStream(
  [
    [at(0, 0, "pc.ram"), at(1, 0), at(2, testPage(1)), at(9, 255)],
    [at(3, testPage(1)), at(0, testPage(1).fill(9, 50, 60), "pc.bios"), at(5, testPage(2))],
  ],
  Buffer.from("state of devices"),
);

function piecesOf(input: Buffer, pieceBytes: number): Buffer[] {
  const count = Math.ceil(input.length / pieceBytes);
  return Array.from({ length: count }, (_, index) =>
    input.subarray(index * pieceBytes, (index + 1) * pieceBytes),
  );
}

function parse(input: Buffer, pieceBytes: number, flushed: boolean): RamStreamEvent[] {
  const parser = new RamStreamParser();
  const events = piecesOf(input, pieceBytes).flatMap((piece) => [
    ...parser.push(piece),
    ...(flushed ? parser.flush() : []),
  ]);
  return [...events, ...parser.flush()];
}

const pages = (events: readonly RamStreamEvent[]): Buffer =>
  Buffer.concat(
    events.map((event) => (event.kind === "opaque" ? Buffer.alloc(0) : eventBytes(event))),
  );
const written = (events: readonly RamStreamEvent[]): Buffer =>
  Buffer.concat(events.map(eventBytes));

const ramStream: FuzzTarget = {
  name: "ram-stream",
  codes: [],
  seeds: () => [STREAM],
  decode(input) {
    const whole = parse(input, 2 ** 20, false);
    const inPieces = parse(input, 777, false);
    assert.ok(written(whole).equals(input), "the events are not the stream");
    assert.ok(written(inPieces).equals(input), "the events of pieces are not the stream");
    assert.ok(pages(whole).equals(pages(inPieces)), "pages depend on the pieces");
    assert.ok(written(parse(input, 1500, true)).equals(input), "flushing changes the stream");
  },
};

const IMAGE = {
  sizeBytes: 3 * 4096,
  read: async (target: Uint8Array) => {
    target.fill(5);
  },
};

async function encoded(bitsPerSecond: number): Promise<Buffer> {
  const found = { component: 0, page: 1 };
  const encoder = new MemoryEncoder({
    clock: realWorld().clock,
    components: {
      count: 1,
      pages: { find: async (page) => (page[50] === 9 ? found : undefined) },
    },
    conditions: () => ({ bitsPerSecond, cores: 1 }),
    slots: 3,
  });
  const frames: Buffer[] = [];
  for await (const frame of encoder.encode(piecesStream([STREAM]))) frames.push(frame);
  return Buffer.concat(frames);
}

async function* piecesStream(pieces: readonly Buffer[]): AsyncGenerator<Buffer> {
  yield* pieces;
}

/** A stream of a frame whose operations are mostly allowed. */
function operations(random: FuzzRandom): Buffer {
  const head = new VarintWriter();
  const number = (): number => (random.chance(0.9) ? random.below(4) : random.pick(NUMBERS));
  head.number(OPERATIONS.indexOf("define"));
  for (let left = random.below(12); left > 0; left -= 1) {
    head.number(Math.min(number(), 2 ** 45) * OPERATIONS.length + random.below(OPERATIONS.length));
    for (let fields = 1 + random.below(3); fields > 0; fields -= 1) head.number(number());
  }
  const length = new VarintWriter();
  length.number(head.length);
  const data = Buffer.alloc(random.pick([0, 1, 4096, 8192, 8193]), 7);
  const body = Buffer.concat([length.bytes(), head.bytes(), data]);
  const preamble = encodePreamble({ components: 1, slots: 3 });
  return Buffer.concat([preamble, encodeFrame(body, undefined), encodeEnd()]);
}

const memoryStream: FuzzTarget = {
  name: "memory-stream",
  codes: ["memory.stream-invalid", "memory.stream-cut"],
  seeds: async () => [await encoded(1e12), await encoded(100e6)],
  generate: operations,
  async decode(input) {
    const source = piecesStream(piecesOf(input, 5000));
    for await (const piece of decodeMemory(source, { images: [IMAGE], slotsMax: 3 })) {
      assert.ok(piece.length > 0 && piece.length <= 2 ** 18);
    }
  },
};

export const MEMORY_TARGETS: readonly FuzzTarget[] = [ramStream, memoryStream];
