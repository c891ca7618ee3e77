/** Maps of a user data block: their form, and over real sessions. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import * as fc from "fast-check";
import { TesseraError, endOf, totalLength, type ByteRange } from "#core";
import type { DataSource } from "./contract.ts";
import { coarsen, decodeExtents, encodeExtents } from "./extent-map.ts";
import { BLOCK, Clouds, MIB, portOf, soon, sourceOf } from "./fixture.suite.ts";
import { liar, type Script } from "./liar.suite.ts";
import { bytesPrefix, encodeJson } from "./messages.ts";
import { EXTENTS_MAX, MAP_BYTES_MAX, TYPE } from "./protocol.ts";
import { startRelay } from "./relay.suite.ts";
import { compressFrame } from "./solid.ts";
import { VarintWriter } from "./varint.ts";

const SIZE_BYTES = 2 ** 45;
const VIOLATION = { code: "transfer.protocol-violation" };

let clouds: Clouds;
before(async () => {
  clouds = await Clouds.start();
});
after(() => clouds[Symbol.asyncDispose]());

/** Ascending and apart, in units of a byte to 1 MiB. */
const someExtents = fc
  .tuple(
    fc.constantFrom(1, 2, 512, 4096, 65_536, 2 ** 20),
    fc.nat(1000),
    fc.array(fc.tuple(fc.integer({ min: 1, max: 10_000 }), fc.integer({ min: 1, max: 10_000 })), {
      maxLength: 100,
    }),
  )
  .map(([unit, first, runs]) => {
    let end = first;
    return runs.map(([length, gap]): ByteRange => {
      const extent = { offset: end * unit, length: length * unit };
      end += length + gap;
      return extent;
    });
  });

function numbers(...values: readonly number[]): Buffer {
  const writer = new VarintWriter();
  for (const value of values) writer.number(value);
  return writer.bytes();
}

test("extents come out as they went in", () => {
  fc.assert(
    fc.property(someExtents, (extents) => {
      assert.deepEqual(decodeExtents(encodeExtents(extents), SIZE_BYTES), extents);
      const last = extents.at(-1);
      if (last === undefined) return;
      const encoded = encodeExtents(extents);
      assert.deepEqual(decodeExtents(encoded, endOf(last)), extents);
      assert.throws(() => decodeExtents(encoded, endOf(last) - 1), VIOLATION);
    }),
  );
});

test("what is no map of the disk is refused", () => {
  const bad = [
    numbers(),
    numbers(17, 0),
    numbers(0),
    numbers(0, 0, 0),
    numbers(0, 1),
    numbers(0, 1, 5),
    numbers(0, 1, 5, 0),
    numbers(0, 2, 0, 1, 0, 1),
    numbers(0, 1, 0, 101),
    numbers(0, 1, 101, 1),
    numbers(0, 1, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER),
    numbers(16, 1, 0, 1),
    numbers(0, 1, 5, 5, 5),
    numbers(0, Number.MAX_SAFE_INTEGER),
    Buffer.concat([numbers(0, EXTENTS_MAX + 1), Buffer.alloc(2 * EXTENTS_MAX + 2, 1)]),
  ];
  for (const bytes of bad) assert.throws(() => decodeExtents(bytes, 100), VIOLATION);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      try {
        const extents = decodeExtents(bytes, 100_000);
        let end = -1;
        for (const extent of extents) {
          assert.ok(extent.offset > end && extent.length > 0 && endOf(extent) <= 100_000);
          end = endOf(extent);
        }
      } catch (error) {
        assert.ok(error instanceof TesseraError && error.code === VIOLATION.code);
      }
    }),
  );
});

test("a coarse map covers the fine one, has as few extents as asked, and adds the least", () => {
  fc.assert(
    fc.property(someExtents, fc.integer({ min: 1, max: 30 }), (extents, most) => {
      const coarse = coarsen(extents, most);
      assert.equal(coarse.length, Math.min(most, extents.length));
      for (const extent of extents) {
        assert.ok(coarse.some((c) => c.offset <= extent.offset && endOf(c) >= endOf(extent)));
      }
      const gaps = extents.slice(1).map(({ offset }, at) => {
        const before = extents[at];
        return offset - (before === undefined ? 0 : endOf(before));
      });
      const least = gaps.toSorted((a, b) => a - b).slice(0, Math.max(0, extents.length - most));
      const added = totalLength(coarse) - totalLength(extents);
      assert.equal(
        added,
        least.reduce((sum, gap) => sum + gap, 0),
      );
    }),
  );
});

function mapSource(maps: Readonly<Record<string, readonly ByteRange[]>>): DataSource {
  return {
    ...sourceOf([]),
    openMap: (name) => {
      const map = maps[name];
      if (map !== undefined) return Promise.resolve(map);
      return Promise.reject(new TesseraError("peer", "transfer.not-offered", "no such map"));
    },
  };
}

test("a map is fetched by its name; ranges in any order come sorted and joined", async () => {
  const stale = [
    { offset: 10 * BLOCK, length: BLOCK },
    { offset: 0, length: BLOCK },
    { offset: BLOCK, length: 5 },
  ];
  const receiver = clouds.receiving(portOf(await clouds.serving(mapSource({ stale, none: [] }))));
  assert.deepEqual(await receiver.fetchMap("stale", 11 * BLOCK, soon()), [
    { offset: 0, length: BLOCK + 5 },
    { offset: 10 * BLOCK, length: BLOCK },
  ]);
  assert.deepEqual(await receiver.fetchMap("none", 1, soon()), []);
  await assert.rejects(receiver.fetchMap("stale", 11 * BLOCK - 1, soon()), VIOLATION);
  await assert.rejects(receiver.fetchMap("other", BLOCK, soon()), {
    code: "transfer.not-offered",
  });
  const none = clouds.receiving(portOf(await clouds.serving(sourceOf([]))));
  await assert.rejects(none.fetchMap("stale", BLOCK, soon()), { code: "transfer.not-offered" });
  await assert.rejects(none.fetchMap("Not/a name", BLOCK, soon()), VIOLATION);
});

test("a map of too many extents comes coarser, over a link that breaks", async () => {
  const random = randomBytes(4 * EXTENTS_MAX);
  const many = Array.from({ length: EXTENTS_MAX + 3 }, (_, at) => ({
    offset: at * 8192 + (at % 5) * 512,
    length: 1 + (random.readUInt16LE(2 * at) % 4096),
  }));
  const sizeBytes = many.length * 8192;
  const server = await clouds.serving(mapSource({ allocated: many }));
  const relay = await startRelay({ target: { host: "127.0.0.1", port: portOf(server) } });
  clouds.onDispose(() => relay.close());
  relay.cutAfter(200_000);
  const came = await clouds.receiving(relay.port).fetchMap("allocated", sizeBytes, soon());
  assert.ok(relay.connections() >= 2);
  assert.equal(came.length, EXTENTS_MAX);
  const same = coarsen(many).every(
    ({ offset, length }, at) => came[at]?.offset === offset && came[at]?.length === length,
  );
  assert.ok(same);
});

test("a fetch that is given up ends at once", async () => {
  const source = { ...sourceOf([]), openMap: () => new Promise<never>(() => undefined) };
  const receiver = clouds.receiving(portOf(await clouds.serving(source)));
  const stop = new AbortController();
  const fetching = receiver.fetchMap("stale", BLOCK, stop.signal);
  const reason = new Error("enough");
  setImmediate(() => stop.abort(reason));
  await assert.rejects(fetching, reason);
});

async function pack(raw: Uint8Array): Promise<Buffer> {
  const packed = await compressFrame(raw, { compressionLevel: 3 }, { bytesMax: MAP_BYTES_MAX });
  return packed ?? assert.fail();
}

function bytes(data: Buffer, offset = 0) {
  return [TYPE.BYTES, Buffer.concat([bytesPrefix(offset, data.length), data])] as const;
}

function opened(sizeBytes: number) {
  return [TYPE.OPENED, encodeJson({ sizeBytes })] as const;
}

test("a lying sender's map is refused, however large it says that it is", async () => {
  const good = encodeExtents([{ offset: 0, length: 100 }]);
  const end = [TYPE.END, encodeJson({})] as const;
  const bomb = await pack(Buffer.alloc(2 * MAP_BYTES_MAX));
  const answers = [
    [bytes(await pack(good)), opened(good.length), end],
    [opened(good.length), end],
    [opened(good.length), bytes(good), end],
    [opened(good.length + 1), bytes(await pack(good)), end],
    [opened(good.length - 1), bytes(await pack(good)), end],
    [opened(good.length), bytes(await pack(good), 1), end],
    [opened(0), end],
    [opened(MAP_BYTES_MAX + 1), end],
    [opened(MAP_BYTES_MAX), bytes(bomb), end],
    [opened(good.length), bytes(await pack(Buffer.from([0, 1, 0, 101]))), end],
    [opened(good.length), ...Array.from({ length: 3 }, (_, at) => bytes(Buffer.alloc(MIB), at))],
  ];
  for (const answer of answers) {
    const script: Script = (send) => {
      for (const [type, payload] of answer) send(type, payload);
    };
    const receiver = clouds.receiving(await liar(clouds, script));
    await assert.rejects(receiver.fetchMap("stale", 100, soon()), VIOLATION);
  }
});
