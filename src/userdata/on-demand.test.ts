import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import * as fc from "fast-check";
import { hasCode, mergeRanges } from "#core";
import {
  BLOCK_BYTES,
  createFileDevice,
  createMemoryDevice,
  faultyDevice,
  openFileDevice,
} from "#block";
import { realWorld } from "#system";
import type { OnDemandDevice, StaleRanges } from "./contract.ts";
import { FragileFiles, Life, Source, blockRange, blocksFilled, worldOf } from "./fixture.suite.ts";
import { decodeMapFile, encodeRecord, encodeSnapshot, seedOf } from "./map-format.ts";
import { BlockMap } from "./block-map.ts";
import { openOnDemandDevice } from "./on-demand.ts";

const code = (expected: string) => (error: unknown) => hasCode(error, expected);

/** A device over files in memory whose local disk is all 0xee. */
async function deviceFor(source: Source, ranges?: StaleRanges) {
  const files = new FragileFiles();
  files.put("disk", Buffer.alloc(source.content.length, 0xee));
  const life = new Life();
  const open = async (): Promise<OnDemandDevice> =>
    await openOnDemandDevice(worldOf(files, life), {
      local: files.device("disk", life),
      mapPath: "map",
      remote: source,
    });
  const device = await open();
  if (ranges !== undefined) await device.arm(ranges);
  return { device, files, open };
}

async function readOf(device: OnDemandDevice, offset: number, length: number): Promise<Buffer> {
  const target = Buffer.alloc(length, 0x55);
  await device.read(target, offset);
  return target;
}

/** Lets everything run that waits for nothing but its turn. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

test("before the switch reads pass through and writes are refused", async () => {
  const source = new Source(blocksFilled(1, 2));
  const { device, files } = await deviceFor(source);
  assert.deepEqual(await readOf(device, 5, 10), Buffer.alloc(10, 1));
  source.content.fill(7, 0, 100);
  assert.deepEqual(await readOf(device, 5, 10), Buffer.alloc(10, 7));
  await assert.rejects(device.write(Buffer.alloc(1), 0), code("userdata.not-armed"));
  await assert.rejects(device.zero(blockRange(0, 1)), code("userdata.not-armed"));
  assert.throws(() => device.startCopy(), code("userdata.not-armed"));
  assert.deepEqual(await device.allocated(), [blockRange(0, 2)]);
  assert.equal(device.state().armed, false);
  assert.ok(files.content("disk").every((byte) => byte === 0xee));
  await device.arm({ stale: [] });
  await assert.rejects(device.arm({ stale: [] }), code("userdata.armed-twice"));
  await device.complete;
  await device.close();
  await assert.rejects(readOf(device, 0, 1), code("block.closed"));
});

test("what is stale is fetched once for all who wait, by pages, and nothing else", async () => {
  const source = new Source(blocksFilled(1, 2, 3));
  const { device } = await deviceFor(source, { stale: [blockRange(1, 1)] });
  source.hold();
  const reads = [readOf(device, BLOCK_BYTES - 2, 4), readOf(device, BLOCK_BYTES, 10)];
  await turns();
  assert.equal(device.state().waitingReads, 2);
  source.letGo();
  assert.deepEqual((await Promise.all(reads))[0], Buffer.from([0xee, 0xee, 2, 2]));
  const page = { offset: BLOCK_BYTES, length: 4096 };
  assert.deepEqual(source.asked, [{ range: page, priority: "demanded" }]);
  assert.deepEqual(await readOf(device, 2 * BLOCK_BYTES, 1), Buffer.from([0xee]));
  assert.equal(device.state().demandedBytes, 4096);
  assert.equal(device.state().remoteBytes, BLOCK_BYTES - 4096);
  await readOf(device, BLOCK_BYTES, BLOCK_BYTES);
  const rest = { offset: BLOCK_BYTES + 4096, length: BLOCK_BYTES - 4096 };
  assert.deepEqual(source.asked.at(-1), { range: rest, priority: "demanded" });
  assert.equal(device.state().demandedBytes, BLOCK_BYTES);
  await device.complete;
  await device.close();
});

test("what the guest writes counts, before, during and after its block is fetched", async () => {
  const source = new Source(blocksFilled(1, 2));
  const { device } = await deviceFor(source, { stale: [blockRange(0, 2)] });
  await device.write(Buffer.alloc(1000, 9), 10);
  assert.deepEqual(await readOf(device, 10, 1000), Buffer.alloc(1000, 9), "without the source");
  assert.equal(source.asked.length, 0);
  source.hold();
  const read = readOf(device, 0, BLOCK_BYTES);
  await turns();
  await device.write(Buffer.alloc(5, 8), 2000);
  await device.zero({ offset: 3000, length: 5 });
  source.letGo();
  const seen = await read;
  const expected = Buffer.alloc(BLOCK_BYTES, 1).fill(9, 10, 1010).fill(8, 2000, 2005);
  assert.ok(seen.equals(expected.fill(0, 3000, 3005)));
  // Only what lacks is asked for: the block's head is there.
  await device.write(Buffer.alloc(4096, 7), BLOCK_BYTES);
  await readOf(device, BLOCK_BYTES, BLOCK_BYTES);
  const length = BLOCK_BYTES - 4096;
  assert.deepEqual(source.asked.at(-1)?.range, { offset: BLOCK_BYTES + 4096, length });
  assert.equal(device.state().supersededBytes, 1000 + 10 + 4096);
  await device.close();
});

test("blocks that are overwritten, discarded or zero at the source never cross the link", async () => {
  const source = new Source(blocksFilled(1, 2, 0, 0, 5));
  const stale = [blockRange(0, 5)];
  const { device, files } = await deviceFor(source, { stale, zeroes: [blockRange(2, 1)] });
  await device.write(blocksFilled(9), 0);
  await device.zero(blockRange(1, 1));
  assert.equal(device.state().pendingZeroBytes, BLOCK_BYTES);
  assert.deepEqual(await readOf(device, 2 * BLOCK_BYTES, 10), Buffer.alloc(10));
  device.startCopy();
  await device.complete;
  assert.deepEqual(mergeRanges(source.asked.map(({ range }) => range)), [blockRange(3, 2)]);
  const { supersededBytes, zeroBytes, backgroundBytes, demandedBytes } = device.state();
  assert.deepEqual(
    [supersededBytes, zeroBytes, backgroundBytes, demandedBytes],
    [2 * BLOCK_BYTES, 2 * BLOCK_BYTES, BLOCK_BYTES, 0],
  );
  await device.finish();
  assert.ok(files.content("disk").equals(blocksFilled(9, 0, 0, 0, 5)));
  assert.throws(() => files.content("map"), code("system.not-found"));
  await device.close();
});

test("while the link is cut reads wait without an error, and writes and flushes go on", async () => {
  const source = new Source(blocksFilled(1, 2));
  const { device } = await deviceFor(source, { stale: [blockRange(0, 2)] });
  device.setRemote(undefined);
  const read = readOf(device, 0, 10);
  const failing = new Source(source.content);
  failing.failing = new Error("no route");
  device.setRemote(failing);
  await turns();
  assert.equal(device.state().failure, failing.failing);
  device.setRemote(undefined);
  await device.write(Buffer.alloc(10, 9), BLOCK_BYTES);
  await device.flush();
  assert.equal(device.state().waitingReads, 1);
  assert.equal(device.state().remoteBytes, 2 * BLOCK_BYTES - 10);
  await assert.rejects(device.finish(), code("userdata.not-complete"));
  device.setRemote(source);
  assert.deepEqual(await read, Buffer.alloc(10, 1));
  assert.equal(device.state().failure, undefined);
  await device.close();
});

test("given up, what is at the source fails and what is local stays", async () => {
  const source = new Source(blocksFilled(1, 2));
  const { device } = await deviceFor(source, { stale: [blockRange(1, 1)] });
  source.hold();
  device.startCopy();
  const read = readOf(device, BLOCK_BYTES, 10);
  await turns();
  const reason = new Error("given up");
  device.abandon(reason);
  await assert.rejects(read, reason);
  await assert.rejects(readOf(device, BLOCK_BYTES, 10), reason);
  await assert.rejects(device.complete, reason);
  assert.deepEqual(await readOf(device, 0, 2), Buffer.from([0xee, 0xee]));
  await device.write(blocksFilled(4), BLOCK_BYTES);
  assert.deepEqual(await readOf(device, BLOCK_BYTES, 2), Buffer.from([4, 4]));
  await device.flush();
  await device.close();
});

test("the copier begins with hints; what the guest waits for overtakes it", async () => {
  const source = new Source(blocksFilled(...Array.from({ length: 40 }, (_, block) => block + 1)));
  const { device } = await deviceFor(source, { stale: [blockRange(0, 40)] });
  source.hold();
  device.startCopy([blockRange(20, 2)]);
  await turns();
  const piece = 16_384;
  assert.deepEqual(
    source.asked.map(({ range }) => range),
    Array.from({ length: 8 }, (_, at) => ({
      offset: (at < 2 ? 20 + at : at - 2) * BLOCK_BYTES,
      length: piece,
    })),
  );
  const read = readOf(device, 30 * BLOCK_BYTES, 1);
  await turns();
  const page = { offset: 30 * BLOCK_BYTES, length: 4096 };
  assert.deepEqual(source.asked.at(-1), { range: page, priority: "demanded" });
  source.letGo();
  await read;
  await device.complete;
  assert.equal(source.bytes("demanded"), 4096);
  assert.equal(source.bytes("background"), 40 * BLOCK_BYTES - 4096);
  // What else is in the block comes soon: after the rest of the hints.
  const after = source.asked.findIndex(({ range }) => range.offset === page.offset + 4096);
  assert.ok(after > 8 && after <= 32, String(after));
  await device.close();
});

test("a block that the copier waits for too long is asked for again, as demanded", async () => {
  const source = new Source(blocksFilled(1));
  const { device } = await deviceFor(source, { stale: [blockRange(0, 1)] });
  source.hold();
  device.startCopy();
  const read = readOf(device, 0, 1);
  while (source.asked.length < 2) await turns();
  assert.deepEqual(
    source.asked.map(({ priority, range }) => [priority, range.length]),
    [
      ["background", 16_384],
      ["demanded", 4096],
    ],
  );
  source.letGo();
  assert.deepEqual(await read, Buffer.from([1]));
  await device.complete;
  await device.close();
});

test("a sequential reader finds blocks there before it asks", async () => {
  const source = new Source(blocksFilled(...Array.from({ length: 64 }, (_, block) => block + 1)));
  const { device } = await deviceFor(source, { stale: [blockRange(0, 64)] });
  for (let block = 0; block < 64; block += 1) {
    const target = Buffer.alloc(4096);
    if (!device.readNow?.(target, block * BLOCK_BYTES)) {
      await device.read(target, block * BLOCK_BYTES);
    }
    assert.ok(target.equals(Buffer.alloc(4096, block + 1)), `block ${block}`);
    await turns();
  }
  assert.ok(source.bytes("demanded") <= 4 * BLOCK_BYTES, String(source.bytes("demanded")));
  await device.close();
});

test("everything comes, once the guest and the copier are done with each other", async () => {
  const blocks = 12;
  interface Act {
    readonly write: boolean;
    readonly offset: number;
    readonly length: number;
    readonly turns: number;
  }
  const act: fc.Arbitrary<Act> = fc.record({
    write: fc.boolean(),
    offset: fc.nat(blocks * BLOCK_BYTES - 1),
    length: fc.oneof(fc.integer({ min: 1, max: 9000 }), fc.integer({ min: 1, max: 200_000 })),
    turns: fc.nat(3),
  });
  const holds = async (acts: readonly Act[], failures: number): Promise<void> => {
    const source = new Source(Buffer.alloc(blocks * BLOCK_BYTES));
    for (let at = 0; at < source.content.length; at += 1) source.content[at] = 1 + (at % 97);
    const expected = Buffer.from(source.content);
    const { device, files } = await deviceFor(source, { stale: [blockRange(0, blocks)] });
    device.startCopy();
    const reads: Promise<unknown>[] = [];
    for (const [at, { write, offset, length, turns: wait }] of acts.entries()) {
      if (at % 3 === 0) source.hold();
      const end = Math.min(expected.length, offset + length);
      if (write) {
        await device.write(Buffer.alloc(end - offset, 200), offset);
        expected.fill(200, offset, end);
      } else reads.push(readOf(device, offset, end - offset));
      if (at < failures) device.setRemote(source);
      for (let turn = 0; turn < wait; turn += 1) await turns();
      if (at % 3 === 2) source.letGo();
    }
    source.letGo();
    await Promise.all(reads);
    await device.complete;
    await device.finish();
    assert.ok(files.content("disk").equals(expected));
    await device.close();
  };
  const scenario = fc.asyncProperty(fc.array(act, { maxLength: 20 }), fc.nat(5), holds);
  await fc.assert(scenario, { numRuns: 60 });
});

test("a failing disk fails the write, and nothing is taken for local that is not", async () => {
  const source = new Source(blocksFilled(1, 2));
  const files = new FragileFiles();
  const full = new Error("full");
  const inner = createMemoryDevice(2 * BLOCK_BYTES);
  const local = faultyDevice(inner, [{ operation: "write", range: blockRange(0, 1), error: full }]);
  const options = { local, mapPath: "map", remote: source };
  const device = await openOnDemandDevice(worldOf(files, new Life()), options);
  await device.arm({ stale: [blockRange(0, 2)] });
  await assert.rejects(device.write(Buffer.alloc(5, 9), 0), full);
  await assert.rejects(readOf(device, 0, 5), full);
  assert.equal(device.state().remoteBytes, 2 * BLOCK_BYTES);
  assert.deepEqual(await readOf(device, BLOCK_BYTES, 2), Buffer.from([2, 2]));
  await device.close();
});

test("on real files: goes on after a restart, rewrites its map, leaves holes and nothing beside", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tessera-userdata-"));
  try {
    const world = realWorld();
    const [path, mapPath] = [join(folder, "disk"), join(folder, "disk.stale")];
    const blocks = 320;
    const source = new Source(Buffer.alloc(blocks * BLOCK_BYTES));
    for (let block = 0; block < blocks; block += 2) {
      source.content.fill(block % 251 || 1, block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
    }
    const local = await createFileDevice(world, path, source.content.length);
    const device = await openOnDemandDevice(world, { local, mapPath, remote: source });
    await device.arm({ stale: [blockRange(0, blocks)] });
    await device.write(Buffer.alloc(700, 0xaa), 3 * BLOCK_BYTES + 11);
    await device.write(Buffer.alloc(9, 0xab), 4 * BLOCK_BYTES);
    await readOf(device, 8 * BLOCK_BYTES, 1);
    await device.close();

    const again = await openOnDemandDevice(world, {
      local: await openFileDevice(world, path, { readOnly: false }),
      mapPath,
      remote: source,
    });
    assert.equal(again.state().remoteBytes, blocks * BLOCK_BYTES - 4096 - 709);
    assert.equal(again.state().supersededBytes, 709);
    again.startCopy();
    await again.complete;
    await again.finish();
    await again.close();
    const expected = Buffer.from(source.content);
    expected.fill(0xaa, 3 * BLOCK_BYTES + 11, 3 * BLOCK_BYTES + 711);
    expected.fill(0xab, 4 * BLOCK_BYTES, 4 * BLOCK_BYTES + 9);
    assert.ok((await readFile(path)).equals(expected));
    assert.ok((await stat(path)).blocks * 512 <= (blocks / 2 + 2) * BLOCK_BYTES, "holes stay");
    await assert.rejects(stat(mapPath), { code: "ENOENT" });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

test("many records make a new map, and writes go on meanwhile", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tessera-userdata-"));
  const mapPath = join(folder, "map");
  const open = async (): Promise<OnDemandDevice> =>
    await openOnDemandDevice(realWorld(), {
      local: createMemoryDevice(750 * BLOCK_BYTES),
      mapPath,
    });
  try {
    const device = await open();
    await device.arm({ stale: [blockRange(0, 750)] });
    const inodes = new Set<number>();
    let largest = 0;
    // Each record has 24 bytes; every second sector of every block, so no block becomes local.
    for (let count = 0; count < 48_000; count += 500) {
      const writes = Array.from({ length: 500 }, (_, at) =>
        device.write(Buffer.alloc(512, 9), (count + at) * 1024),
      );
      await Promise.all(writes);
      const { size, ino } = await stat(mapPath);
      largest = Math.max(largest, size);
      inodes.add(ino);
    }
    await device.close();
    assert.ok(largest > 2 ** 19 && largest < 2 ** 21, String(largest));
    assert.ok(inodes.size > 1);
    const again = await open();
    assert.equal(again.state().supersededBytes, 48_000 * 512);
    assert.equal(again.state().remoteBytes, 750 * BLOCK_BYTES - 48_000 * 512);
    await again.close();
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

const map = (): BlockMap =>
  BlockMap.of(5 * BLOCK_BYTES - 7, [blockRange(1, 3)], [blockRange(2, 1)]);
const snapshot = (): Buffer => {
  const arrivals = { demanded: 1, background: 2, superseded: 3, zero: 4 };
  const partial = map();
  partial.markLocal({ offset: BLOCK_BYTES + 5, length: 50 });
  return encodeSnapshot({
    map: partial,
    bootId: "01234567-89ab-4cde-8f01-23456789abcd",
    arrivals,
  });
};

test("a map comes out as it went in", () => {
  const decoded = decodeMapFile(snapshot(), "map", 5 * BLOCK_BYTES - 7);
  assert.equal(decoded.bootId, "01234567-89ab-4cde-8f01-23456789abcd");
  assert.equal(decoded.map.remoteBytes, 2 * BLOCK_BYTES - 50);
  assert.equal(decoded.map.zeroBytes, BLOCK_BYTES);
  assert.deepEqual(decoded.arrivals, { demanded: 1, background: 2, superseded: 3, zero: 4 });
  assert.deepEqual(decoded.map.partials(), [{ offset: BLOCK_BYTES + 5, length: 50 }]);
});

test("a damaged map is refused; records count up to the first that is damaged", () => {
  const good = snapshot();
  const first = encodeRecord({ kind: "demanded", range: blockRange(1, 1) }, seedOf(good));
  const second = encodeRecord({ kind: "zero", range: blockRange(2, 1) }, first.seed);
  const whole = Buffer.concat([good, first.bytes, second.bytes]);
  const sizeBytes = 5 * BLOCK_BYTES - 7;
  assert.equal(decodeMapFile(whole, "map", sizeBytes).records.length, 2);
  assert.throws(() => decodeMapFile(whole, "map", sizeBytes + 1), code("userdata.map-invalid"));
  fc.assert(
    fc.property(fc.nat(whole.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const bad = Buffer.from(whole);
      bad.writeUInt8(bad.readUInt8(at) ^ change, at);
      if (at < good.length) {
        assert.throws(() => decodeMapFile(bad, "map", sizeBytes), code("userdata.map-invalid"));
      } else {
        const expected = at < good.length + first.bytes.length ? 0 : 1;
        assert.equal(decodeMapFile(bad, "map", sizeBytes).records.length, expected);
      }
    }),
  );
  for (let length = 0; length < whole.length; length += 1) {
    const cut = whole.subarray(0, length);
    if (length < good.length) {
      assert.throws(() => decodeMapFile(cut, "map", sizeBytes), code("userdata.map-invalid"));
    } else {
      const count = Math.floor((length - good.length) / first.bytes.length);
      assert.equal(decodeMapFile(cut, "map", sizeBytes).records.length, count);
    }
  }
});

test("a map of another disk is refused when it is opened", async () => {
  const files = new FragileFiles();
  files.put("map", snapshot());
  const local = createMemoryDevice(10 * BLOCK_BYTES);
  await assert.rejects(
    openOnDemandDevice(worldOf(files, new Life()), { local, mapPath: "map" }),
    code("userdata.map-invalid"),
  );
});
