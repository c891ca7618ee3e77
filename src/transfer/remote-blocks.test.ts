import assert from "node:assert/strict";
import { hash, randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import * as fc from "fast-check";
import type { ByteRange } from "#core";
import { createMemoryDevice, type BlockDevice } from "#block";
import { decodeData, decodeRead, decodeReadId, encodeRead, encodeReadId } from "./block-reads.ts";
import type { DataSource } from "./contract.ts";
import { BLOCK, Clouds, MIB, portOf, soon, sourceOf } from "./fixture.suite.ts";
import type { Frame } from "./frame.ts";
import { liar, type Script } from "./liar.suite.ts";
import { encodeJson } from "./messages.ts";
import { FLAG_SAME, FLAG_ZSTD, READS_MAX, TYPE, type FrameType } from "./protocol.ts";
import type { Receiver } from "./receiver-streams.ts";
import { startRelay } from "./relay.suite.ts";
import { SessionBlocks } from "./remote-blocks.ts";
import { ReadQueue } from "./send-reads.ts";

const SIZE_BYTES = 8 * MIB + 12_345;
/** Random, zeroes, text: what does not compress, what is not sent, what does. */
const CONTENT = Buffer.concat([
  randomBytes(3 * MIB),
  Buffer.alloc(3 * MIB),
  Buffer.alloc(SIZE_BYTES - 6 * MIB, "all work and no play makes a dull boy. "),
]);

let clouds: Clouds;
before(async () => {
  clouds = await Clouds.start();
});
after(() => clouds[Symbol.asyncDispose]());

async function contentDevice(): Promise<BlockDevice> {
  const device = createMemoryDevice(SIZE_BYTES);
  await device.write(CONTENT, 0);
  return device;
}

/** A source of single reads; `slow` holds up reads until it resolves. */
function blocksSource(slow: (range: ByteRange) => Promise<void> = async () => undefined) {
  const closed: number[] = [];
  const source: DataSource = {
    ...sourceOf([]),
    openBlocks: async () => {
      const device = await contentDevice();
      return {
        ...device,
        read: async (target, offset) => {
          await slow({ offset, length: target.length });
          await device.read(target, offset);
        },
        close: async () => void closed.push(1),
      };
    },
  };
  return { source, closed };
}

function expected({ offset, length }: ByteRange): Buffer {
  return CONTENT.subarray(offset, offset + length);
}

function check(range: ByteRange, bytes: Uint8Array | undefined): void {
  if (bytes === undefined) assert.ok(expected(range).every((byte) => byte === 0));
  else assert.ok(expected(range).equals(bytes), `${range.length} at ${range.offset}`);
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

const someRange = fc
  .tuple(fc.nat(SIZE_BYTES - 1), fc.integer({ min: 1, max: MIB }))
  .map(([offset, length]) => ({ offset, length: Math.min(length, SIZE_BYTES - offset) }));

test("reads of any range come, whatever their order and priority", async () => {
  const { source, closed } = blocksSource();
  const server = await clouds.serving(source);
  const blocks = clouds.receiving(portOf(server)).readBlocks(SIZE_BYTES);
  const reads = fc.sample(fc.tuple(someRange, fc.boolean()), 120);
  await Promise.all(
    reads.map(async ([range, demanded]) => {
      check(range, await blocks.fetch(range, demanded ? "demanded" : "background", soon()));
    }),
  );
  const zeroes = { offset: 4 * MIB, length: BLOCK };
  assert.equal(await blocks.fetch(zeroes, "demanded", soon()), undefined);
  const outside = { offset: SIZE_BYTES - 1, length: 2 };
  await assert.rejects(blocks.fetch(outside, "demanded", soon()), RangeError);
  const long = { offset: 0, length: MIB + 1 };
  await assert.rejects(blocks.fetch(long, "demanded", soon()), RangeError);
  const waiting = blocks.fetch({ offset: 0, length: MIB }, "background", soon());
  blocks.close();
  await assert.rejects(waiting, { code: "transfer.cancelled" });
  while (closed.length < 2) await turn();
});

const sha256 = (bytes: Uint8Array): Buffer => hash("sha256", bytes, "buffer");

test("what is here and is the same there does not travel", async () => {
  const { source } = blocksSource();
  const receiver = clouds.receiving(portOf(await clouds.serving(source)));
  const blocks = receiver.readBlocks(SIZE_BYTES);
  const noise = { offset: 0, length: MIB };
  await blocks.fetch({ offset: 0, length: 1 }, "background", soon());
  const before = receiver.wireBytes();
  const same = await blocks.fetchUnless(noise, sha256(expected(noise)), "background", soon());
  assert.equal(same, "same");
  assert.ok(receiver.wireBytes() - before < MIB / 4);
  const other = await blocks.fetchUnless(noise, sha256(Buffer.alloc(9)), "background", soon());
  assert.ok(other !== "same");
  check(noise, other);
  const zeroes = { offset: 4 * MIB, length: BLOCK };
  const known = sha256(expected(zeroes));
  assert.equal(await blocks.fetchUnless(zeroes, known, "demanded", soon()), undefined);
  blocks.close();
});

test("a sender that cannot compare is not told what is here, and sends it", async () => {
  const told: Buffer[] = [];
  const asked = Promise.withResolvers<void>();
  const frames = [frameOf(TYPE.OPENED, encodeJson({ sizeBytes: SIZE_BYTES }))];
  frames.push(frameOf(TYPE.DATA, Buffer.concat([encodeReadId(0), Buffer.alloc(10, 7)])));
  const stream = {
    send: (_type: FrameType, payload: Buffer) => {
      told.push(payload);
      asked.resolve();
    },
    next: async () => {
      await asked.promise;
      return frames.shift() ?? (await new Promise<never>(() => undefined));
    },
    release: () => undefined,
    fail: () => undefined,
  };
  const receiver = { features: [], open: () => stream } as unknown as Receiver;
  const blocks = new SessionBlocks(SIZE_BYTES, (_signal, work) => work(receiver));
  const range = { offset: 0, length: 10 };
  const known = sha256(Buffer.alloc(10, 7));
  const came = await blocks.fetchUnless(range, known, "background", soon());
  assert.deepEqual(came, Buffer.alloc(10, 7));
  assert.deepEqual(told, [encodeRead({ id: 0, ...range })]);
});

test("more reads than a sender takes at a time wait at the receiver", async () => {
  const { source } = blocksSource();
  const blocks = clouds.receiving(portOf(await clouds.serving(source))).readBlocks(SIZE_BYTES);
  const ranges = Array.from({ length: 3 * READS_MAX }, (_, at) => ({
    offset: at * 97,
    length: 50,
  }));
  const answers = await Promise.all(ranges.map((range) => blocks.fetch(range, "demanded", soon())));
  ranges.forEach((range, at) => check(range, answers[at]));
  blocks.close();
});

test("what is asked for is asked again over the next connection", async () => {
  const { source } = blocksSource();
  const server = await clouds.serving(source);
  const relay = await startRelay({ target: { host: "127.0.0.1", port: portOf(server) } });
  clouds.onDispose(() => relay.close());
  const blocks = clouds.receiving(relay.port).readBlocks(SIZE_BYTES);
  const ranges = Array.from({ length: 40 }, (_, at) => ({ offset: at * 70_000, length: BLOCK }));
  relay.cutAfter(200_000);
  const first = ranges.map(async (range, at) => {
    check(range, await blocks.fetch(range, at % 3 === 0 ? "demanded" : "background", soon()));
  });
  await Promise.all(first);
  assert.ok(relay.connections() >= 2);
  // Idle, then cut: the next read finds its way by itself.
  relay.cutAll();
  check({ offset: 5, length: 5 }, await blocks.fetch({ offset: 5, length: 5 }, "demanded", soon()));
  blocks.close();
});

test("a demanded read goes before what waits in the background", async () => {
  const { source } = blocksSource();
  const server = await clouds.serving(source, { bytesPerSecondMax: 2 * MIB });
  const blocks = clouds.receiving(portOf(server)).readBlocks(SIZE_BYTES);
  await blocks.fetch({ offset: 0, length: 1 }, "demanded", soon());
  const progress = { done: 0 };
  const background = Array.from({ length: 32 }, async (_, at) => {
    await blocks.fetch({ offset: at * BLOCK, length: BLOCK }, "background", soon());
    progress.done += 1;
  });
  while (progress.done < 2) await turn();
  const before = progress.done;
  await blocks.fetch({ offset: MIB, length: BLOCK }, "demanded", soon());
  const passed = progress.done - before;
  assert.ok(passed <= 6, `${passed} of the background came first`);
  await Promise.all(background);
  blocks.close();
});

test("a read that is cancelled before its turn is not answered", async () => {
  const held = Promise.withResolvers<void>();
  const reads: ByteRange[] = [];
  const { source } = blocksSource(async (range) => {
    reads.push(range);
    await held.promise;
  });
  const blocks = clouds.receiving(portOf(await clouds.serving(source))).readBlocks(SIZE_BYTES);
  const stop = new AbortController();
  const reason = new Error("not any more");
  const kept = Array.from({ length: 4 }, (_, at) =>
    blocks.fetch({ offset: at * BLOCK, length: BLOCK }, "background", soon()),
  );
  const given = Array.from({ length: 20 }, (_, at) =>
    blocks.fetch({ offset: at * BLOCK, length: BLOCK }, "background", stop.signal),
  );
  while (reads.length < 4) await turn();
  stop.abort(reason);
  await Promise.all(given.map((read) => assert.rejects(read, reason)));
  // What one connection carries is taken in order: when this read has begun, so have the CANCELs.
  const last = blocks.fetch({ offset: 9 * BLOCK, length: 10 }, "demanded", soon());
  while (reads.length < 5) await turn();
  held.resolve();
  await Promise.all([...kept, last]);
  assert.equal(reads.length, 5);
  blocks.close();
});

test("a session without blocks, and a disk of another size, are refused", async () => {
  const none = clouds.receiving(portOf(await clouds.serving(sourceOf([])))).readBlocks(SIZE_BYTES);
  const range = { offset: 0, length: 10 };
  await assert.rejects(none.fetch(range, "demanded", soon()), { code: "transfer.not-offered" });
  none.close();
  const { source } = blocksSource();
  const other = clouds.receiving(portOf(await clouds.serving(source))).readBlocks(SIZE_BYTES + 1);
  await assert.rejects(other.fetch(range, "demanded", soon()), { code: "transfer.size-mismatch" });
  other.close();
});

test("a source that cannot read says so, and is asked again when it can", async () => {
  let broken = true;
  const { source } = blocksSource(async () => {
    if (broken) throw new Error("EIO /srv/secret");
  });
  const blocks = clouds.receiving(portOf(await clouds.serving(source))).readBlocks(SIZE_BYTES);
  const range = { offset: 100, length: 10 };
  await assert.rejects(
    blocks.fetch(range, "demanded", soon()),
    (error: { code?: string; message?: string }) =>
      error.code === "transfer.source-failed" && !error.message?.includes("secret"),
  );
  broken = false;
  check(range, await blocks.fetch(range, "demanded", soon()));
  blocks.close();
});

/** An answer to the first read. */
function data(bytes: Uint8Array, flags = 0) {
  return [TYPE.DATA, Buffer.concat([encodeReadId(0), bytes]), flags] as const;
}

test("a lying sender's answers end the work by a violation", async () => {
  const opened = [TYPE.OPENED, encodeJson({ sizeBytes: SIZE_BYTES }), 0] as const;
  const answers = [
    [opened, data(Buffer.alloc(9))],
    [opened, data(Buffer.alloc(11))],
    [opened, data(Buffer.from("no frame"), FLAG_ZSTD)],
    [opened, data(new Uint8Array(0), FLAG_ZSTD)],
    [opened, data(new Uint8Array(0), FLAG_SAME)],
    [opened, [TYPE.END, encodeJson({}), 0] as const],
    [data(Buffer.alloc(10))],
  ];
  for (const answer of answers) {
    const script: Script = (send) => {
      for (const [type, payload, flags] of answer) send(type, payload, flags);
    };
    const port = await liar(clouds, script);
    const blocks = clouds.receiving(port).readBlocks(SIZE_BYTES);
    await assert.rejects(blocks.fetch({ offset: 0, length: 10 }, "demanded", soon()), {
      code: "transfer.protocol-violation",
    });
    blocks.close();
  }
});

function frameOf(type: FrameType, payload: Buffer): Frame {
  return { type, flags: 0, stream: 1, length: payload.length, payload };
}

test("READ, CANCEL and DATA come out as they went in; bad ones are refused", () => {
  fc.assert(
    fc.property(
      fc.nat(2 ** 32 - 1),
      fc.maxSafeNat(),
      fc.integer({ min: 1, max: MIB }),
      fc.boolean(),
      (id, offset, length, knows) => {
        fc.pre(Number.isSafeInteger(offset + length));
        const known = Buffer.alloc(32, id);
        const read = { id, offset, length, ...(knows ? { known } : {}) };
        assert.deepEqual(decodeRead(frameOf(TYPE.READ, encodeRead(read))), read);
        assert.equal(decodeReadId(frameOf(TYPE.CANCEL, encodeReadId(id))), id);
      },
    ),
  );
  const zero = frameOf(TYPE.DATA, encodeReadId(1));
  assert.equal(decodeData(zero), undefined);
  for (const read of [
    { id: 0, offset: 0, length: 0 },
    { id: 0, offset: 0, length: MIB + 1 },
    { id: 0, offset: Number.MAX_SAFE_INTEGER, length: 1 },
  ]) {
    assert.throws(() => decodeRead(frameOf(TYPE.READ, encodeRead(read))), {
      code: "transfer.protocol-violation",
    });
  }
});

test("a READ with half a digest is refused", () => {
  const read = encodeRead({ id: 0, offset: 0, length: 1, known: Buffer.alloc(31) });
  assert.throws(() => decodeRead(frameOf(TYPE.READ, read)), {
    code: "transfer.protocol-violation",
  });
});

test("a receiver cannot ask twice by one name, nor for more than is bounded", async () => {
  const queue = new ReadQueue();
  const ask = (id: number): void =>
    queue.take(frameOf(TYPE.READ, encodeRead({ id, offset: 0, length: 1 })));
  ask(0);
  assert.throws(() => ask(0), { code: "transfer.protocol-violation" });
  const { id } = await queue.next(soon());
  assert.throws(() => ask(id), { code: "transfer.protocol-violation" });
  queue.answered(id);
  for (let next = 0; next < READS_MAX; next += 1) ask(next);
  assert.throws(() => ask(READS_MAX), { code: "transfer.protocol-violation" });
  for (let next = 0; next < READS_MAX; next += 1) {
    queue.take(frameOf(TYPE.CANCEL, encodeReadId(next)));
  }
  const gone = new AbortController();
  const waits = [queue.next(gone.signal), queue.next(gone.signal)];
  ask(7);
  assert.equal((await Promise.race(waits)).id, 7);
  const reason = new Error("gone");
  gone.abort(reason);
  const results = await Promise.allSettled(waits);
  assert.equal(results.filter(({ status }) => status === "rejected").length, 1);
});
