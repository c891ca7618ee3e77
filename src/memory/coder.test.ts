/** The coder of memory: what goes in comes out, whatever it is; and what travels for it. */
import assert from "node:assert/strict";
import { setImmediate as turn } from "node:timers/promises";
import { test } from "node:test";
import * as fc from "fast-check";
import { TesseraError, type Clock } from "#core";
import {
  precopyStream,
  testPage,
  type TestPage,
} from "../hypervisor/qemu/ram-stream/stream.suite.ts";
import { realWorld } from "#system";
import type { PagePlace } from "./contract.ts";
import { decodeMemory } from "./decoder.ts";
import { MemoryEncoder, type MemoryEncoderOptions } from "./encoder.ts";

const { clock } = realWorld();
const PAGE = 4096;
const conditions = () => ({ bitsPerSecond: 100e6, cores: 1 });

/** A component whose image has these pages. */
function component(pages: readonly Buffer[]) {
  const image = Buffer.concat(pages);
  const find = async (page: Uint8Array): Promise<PagePlace | undefined> => {
    const at = pages.findIndex((one) => one.equals(page));
    return at === -1 ? undefined : { component: 0, page: at };
  };
  const read = async (target: Uint8Array, offset: number): Promise<void> => {
    target.set(image.subarray(offset, offset + target.length));
  };
  return { pages: { count: 1, pages: { find } }, image: { sizeBytes: image.length, read } };
}

const COMPONENT = component([1, 2, 3, 4].map(testPage));

async function* pieces(bytes: Buffer, pieceBytes: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}

async function gather(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const piece of source) all.push(piece);
  return Buffer.concat(all);
}

function encoder(options: Partial<MemoryEncoderOptions> = {}): MemoryEncoder {
  return new MemoryEncoder({ clock, conditions, components: COMPONENT.pages, ...options });
}

const decoded = (encoded: Buffer, pieceBytes = 1000): Promise<Buffer> =>
  gather(decodeMemory(pieces(encoded, pieceBytes), { images: [COMPONENT.image] }));

/** The page, with some bytes of its own. */
function edited(number: number, edit: number): Buffer {
  const page = testPage(number);
  page.writeInt32LE(edit, (edit * 52) % PAGE);
  return page;
}

const anyContent = fc.oneof(
  fc.nat(255),
  fc.integer({ min: 1, max: 9 }).map(testPage),
  fc
    .tuple(fc.integer({ min: 5, max: 7 }), fc.nat(60))
    .map(([number, edit]) => edited(number, edit)),
);
const anyPage: fc.Arbitrary<TestPage> = fc.record(
  {
    block: fc.constantFrom("pc.ram", "\u00ffrom", ""),
    address: fc.nat(12).map((page) => page * PAGE),
    content: anyContent,
  },
  { requiredKeys: ["address", "content"] },
);
const anyParts = fc.array(fc.array(anyPage, { maxLength: 30 }), { maxLength: 4 });

test("any stream comes out as it went in, with stores of any size and in any pieces", async () => {
  const slots = fc.constantFrom(0, 1, 2, 5, 100);
  const sizes = fc.integer({ min: 1, max: 20_000 });
  await fc.assert(
    fc.asyncProperty(anyParts, slots, sizes, sizes, async (parts, slotCount, one, other) => {
      const stream = precopyStream(parts, Buffer.from("state of devices"));
      const encoded = await gather(encoder({ slots: slotCount }).encode(pieces(stream, one)));
      assert.deepEqual(await decoded(encoded, other), stream);
    }),
    { numRuns: 100 },
  );
});

test("bytes that are no migration stream pass, and the encoder says so", async () => {
  for (const stream of [
    Buffer.alloc(0),
    Buffer.from("anything"),
    Buffer.alloc(3_000_000, "text"),
  ]) {
    const coder = encoder();
    assert.deepEqual(await decoded(await gather(coder.encode(pieces(stream, 70_000)))), stream);
    assert.equal(coder.off === undefined, stream.length === 0);
  }
});

const at = (page: number, content: Buffer | number): TestPage => ({
  ...(page === 0 ? { block: "pc.ram" } : {}),
  address: page * PAGE,
  content,
});

test("each page travels in the cheapest way", async () => {
  const first = [at(0, 0), at(1, testPage(2)), at(2, testPage(3)), at(3, testPage(50))];
  const second = [
    at(4, testPage(50)),
    at(3, edited(50, 7)),
    at(5, testPage(50)),
    at(6, edited(50, 7)),
  ];
  const coder = encoder();
  const stream = precopyStream([first, second], Buffer.alloc(50));
  const encoded = await gather(coder.encode(pieces(stream, 5000)));
  assert.deepEqual(await decoded(encoded), stream);
  const { figures } = coder;
  assert.equal(figures.fillPages, 1);
  assert.equal(figures.componentPages, 2);
  assert.equal(figures.patchedPages, 1, "the changed page as a patch of its earlier version");
  assert.equal(figures.repeatedPages, 2, "page 4 as page 3 was, page 6 as page 3 is");
  assert.equal(figures.literalPages, 2, "page 3, and page 5, whose content is kept no longer");
  assert.equal(figures.rawBytes, stream.length);
  assert.equal(figures.encodedBytes, encoded.length);
  assert.ok(encoded.length < 2 * PAGE + 1000);
});

test("an index that answers wrongly in place of not at all would be seen", async () => {
  const wrong = { count: 1, pages: { find: async () => ({ component: 0, page: 0 }) } };
  const stream = precopyStream([[at(0, testPage(60))]], Buffer.alloc(0));
  const encoded = await gather(encoder({ components: wrong }).encode(pieces(stream, 9000)));
  assert.notDeepEqual(await decoded(encoded), stream);
});

/** A clock whose pauses pass when they are told to. */
function handClock() {
  const waiting = new Set<() => void>();
  const after = (_ms: number, callback: () => void): (() => void) => {
    waiting.add(callback);
    return () => waiting.delete(callback);
  };
  const pass = (): void => {
    for (const callback of waiting) callback();
  };
  const own: Clock = { ...clock, after };
  return { own, pass };
}

test("what is there is sent when the source pauses, even half a record", async () => {
  const { own, pass } = handClock();
  const stream = precopyStream([[at(0, testPage(60)), at(1, testPage(61))]], Buffer.alloc(0));
  const end = Promise.withResolvers<void>();
  async function* halting(): AsyncGenerator<Buffer> {
    yield stream.subarray(0, 6000);
    await end.promise;
    yield stream.subarray(6000);
  }
  const received: Buffer[] = [];
  const source = decodeMemory(encoder({ clock: own }).encode(halting()), {
    images: [COMPONENT.image],
  });
  const whole = (async () => {
    for await (const piece of source) received.push(piece);
  })();
  while (Buffer.concat(received).length < 6000) {
    pass();
    await turn();
  }
  assert.deepEqual(Buffer.concat(received), stream.subarray(0, 6000));
  end.resolve();
  await whole;
  assert.deepEqual(Buffer.concat(received), stream);
});

test("the source is read only as quickly as frames are taken", async () => {
  let readBytes = 0;
  async function* endless(): AsyncGenerator<Buffer> {
    for (;;) {
      readBytes += 2 ** 16;
      yield Buffer.alloc(2 ** 16, readBytes);
    }
  }
  const frames = encoder().encode(endless());
  for (let count = 0; count < 3; count += 1) await frames.next();
  for (let count = 0; count < 1000; count += 1) await turn();
  assert.ok(readBytes < 8 * 2 ** 20, `${readBytes} bytes were read`);
  await frames.return();
});

test("errors of the source reach the reader at both ends", async () => {
  const failure = new TesseraError("environment", "test.broken", "the source broke");
  async function* broken(): AsyncGenerator<Buffer> {
    yield precopyStream([[at(0, 1)]], Buffer.alloc(0));
    throw failure;
  }
  await assert.rejects(gather(encoder().encode(broken())), failure);
  const encoded = decodeMemory(encoder().encode(broken()), { images: [COMPONENT.image] });
  await assert.rejects(gather(encoded), failure);
});

test("a source that breaks while nobody reads is met by the next who does", async () => {
  const { own, pass } = handClock();
  const gates = Array.from({ length: 3 }, () => Promise.withResolvers<void>());
  async function* breaking(): AsyncGenerator<Buffer> {
    for (const gate of gates) {
      yield Buffer.from("not yet broken");
      await gate.promise;
    }
  }
  const frames = encoder({ clock: own }).encode(breaking());
  await frames.next();
  const arrived: unknown[] = [];
  const first = frames.next().then(({ value }) => arrived.push(value));
  // A frame is made on another thread: how many turns that takes is not known.
  for (; arrived.length === 0; pass()) await turn();
  await first;
  for (const gate of gates.slice(0, 2)) {
    gate.resolve();
    for (let count = 0; count < 20; count += 1, pass()) await turn();
  }
  gates[2]?.reject(new Error("broken"));
  for (let count = 0; count < 20; count += 1) await turn();
  const rest = async (): Promise<void> => {
    for await (const frame of frames) assert.ok(frame.length > 0);
  };
  await assert.rejects(rest(), /^Error: broken$/);
});
