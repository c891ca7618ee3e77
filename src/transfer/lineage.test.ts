/** User data that go back to where an earlier copy of them is. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { test } from "node:test";
import { TesseraError, type ByteRange, type Digest, type FileSystem, type World } from "#core";
import {
  createMemoryDevice,
  hashBlocks,
  isZero,
  loadBlockDigests,
  saveBlockDigests,
  userDataDigest,
  type BlockDevice,
  type UserDataDigest,
} from "#block";
import type { DataSource, UserDataReport } from "./contract.ts";
import { BLOCK, Clouds, MIB, digestOf, portOf, readerOf, soon, sourceOf } from "./fixture.suite.ts";
import { UserDataTarget, blocksPath } from "./user-data-target.ts";

const SIZE = 9 * MIB + 12_345;

async function deviceOf(bytes: Uint8Array): Promise<BlockDevice> {
  const device = createMemoryDevice(bytes.length);
  for (let at = 0; at < bytes.length; at += BLOCK) {
    const block = bytes.subarray(at, at + BLOCK);
    if (!isZero(block)) await device.write(block, at);
  }
  return device;
}

async function digestOfBytes(bytes: Uint8Array): Promise<Digest> {
  return (await userDataDigest(await deviceOf(bytes))).digest;
}

/** Random numbers by a seed, so that a failure can be repeated. */
function seeded(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** A copy with changes of every kind: pages, runs, blocks that go, blocks that come, the tail. */
function changed(old: Buffer, random: (below: number) => number): Buffer {
  const bytes = Buffer.from(old);
  for (let step = random(12); step > 0; step -= 1) {
    const offset = random(bytes.length);
    const kind = random(4);
    if (kind === 0) bytes.fill(0, offset, offset + random(5 * BLOCK));
    else if (kind === 1) bytes.set(randomBytes(Math.min(300, bytes.length - offset)), offset);
    else if (kind === 2) bytes.fill("some text ", offset, offset + random(4 * BLOCK));
    else bytes.copy(bytes, offset, 0, Math.min(random(3 * BLOCK), bytes.length - offset));
  }
  if (random(2) === 0) bytes.write("end", bytes.length - 3);
  return bytes;
}

function oldBytes(): Buffer {
  const bytes = randomBytes(SIZE);
  bytes.fill(0, 20 * BLOCK, 60 * BLOCK);
  bytes.fill("a text that repeats itself ", 70 * BLOCK, 90 * BLOCK);
  return bytes;
}

interface Lent {
  readonly changed?: readonly ByteRange[];
  readonly withDigests?: boolean;
}

async function sourceWith(old: Buffer, now: Buffer, lent: Lent = {}): Promise<DataSource> {
  const digest = await digestOfBytes(old);
  const device = await deviceOf(old);
  return {
    ...sourceOf([], await deviceOf(now)),
    openLineage: async (asked) =>
      asked !== digest
        ? undefined
        : {
            old: { ...device, close: () => Promise.resolve() },
            ...(lent.changed === undefined ? {} : { changed: lent.changed }),
            ...(lent.withDigests === true ? { digests: await hashBlocks(device) } : {}),
          },
  };
}

interface Fetched {
  readonly report: UserDataReport;
  readonly path: string;
}

/** Fetches what `source` has, with `kept` as the copy that the receiver offers as `old`. */
async function fetchWith(
  clouds: Clouds,
  source: DataSource,
  kept: { readonly bytes: Buffer; readonly digest: Digest; readonly blocks?: boolean },
): Promise<Fetched> {
  const server = await clouds.serving(source);
  const receiver = clouds.receiving(portOf(server));
  const lineage = { path: clouds.path("kept.raw"), digest: kept.digest };
  await writeFile(lineage.path, kept.bytes);
  if (kept.blocks === true) {
    const digests = await hashBlocks(await deviceOf(kept.bytes));
    await saveBlockDigests(clouds.world, blocksPath(lineage.path), digests);
  }
  const path = clouds.path("disk.raw");
  return { report: await receiver.fetchUserData(path, soon(), { lineage }), path };
}

async function assertWhole({ report, path }: Fetched, expected: Buffer, clouds: Clouds) {
  assert.ok((await readFile(path)).equals(expected));
  const digest = await digestOfBytes(expected);
  assert.equal(report.digest, digest);
  const of = { sizeBytes: expected.length, digest };
  assert.ok((await loadBlockDigests(clouds.world, blocksPath(path), of)) !== undefined);
  const names = await readdir(clouds.directory);
  assert.deepEqual(
    names.filter((name) => /\.(part|resume|redo|new)$/.test(name)),
    [],
  );
}

test("only what differs moves, and the result is equal, whatever changed", async () => {
  for (let seed = 1; seed <= 8; seed += 1) {
    await using clouds = await Clouds.start();
    const old = oldBytes();
    const now = changed(old, seeded(seed));
    const digest = await digestOfBytes(old);
    const lent = seed % 2 === 0 ? { withDigests: true } : {};
    const source = await sourceWith(old, now, lent);
    const kept = { bytes: old, digest, blocks: seed % 3 === 0 };
    const fetched = await fetchWith(clouds, source, kept);
    assert.equal(fetched.report.lineage, true);
    await assertWhole(fetched, now, clouds);
    // The kept copy was consumed, and its digests with it.
    const names = await readdir(clouds.directory);
    assert.deepEqual(
      names.filter((name) => name.startsWith("kept")),
      [],
    );
  }
});

test("known changes are all that is read, and hardly anything moves", async () => {
  await using clouds = await Clouds.start();
  const old = oldBytes();
  const now = Buffer.from(old);
  now.write("a little", 5 * BLOCK + 77);
  const known = [{ offset: 5 * BLOCK, length: BLOCK }];
  const source = await sourceWith(old, now, { changed: known, withDigests: true });
  const reads: number[] = [];
  const openUserData = async (): Promise<BlockDevice> => {
    const device = await source.openUserData();
    return {
      ...device,
      read: (target, offset) => {
        reads.push(offset);
        return device.read(target, offset);
      },
    };
  };
  const kept = { bytes: old, digest: await digestOfBytes(old), blocks: true };
  const fetched = await fetchWith(clouds, { ...source, openUserData }, kept);
  await assertWhole(fetched, now, clouds);
  assert.deepEqual(reads, [5 * BLOCK]);
  assert.ok(fetched.report.wireBytes < 6000, `${fetched.report.wireBytes} bytes moved`);
});

test("where the sender has another copy or none, all blocks travel and the copy stays", async () => {
  const old = oldBytes();
  const now = changed(old, seeded(77));
  for (const source of [sourceOf([], await deviceOf(now)), await sourceWith(now, now)]) {
    await using clouds = await Clouds.start();
    const kept = { bytes: old, digest: await digestOfBytes(old) };
    const fetched = await fetchWith(clouds, source, kept);
    assert.equal(fetched.report.lineage, false);
    await assertWhole(fetched, now, clouds);
    assert.ok((await readFile(clouds.path("kept.raw"))).equals(old));
  }
});

test("a copy that is not what it is said to be is given up, and all blocks travel", async () => {
  const old = oldBytes();
  const now = changed(old, seeded(5));
  now.write("changed", 3 * BLOCK);
  const inChanged = Buffer.from(old);
  inChanged.fill(1, 3 * BLOCK, 4 * BLOCK);
  const elsewhere = Buffer.from(old);
  elsewhere.fill(1, 130 * BLOCK, 131 * BLOCK);
  const short = old.subarray(0, SIZE - 100);
  for (const bytes of [inChanged, elsewhere, short]) {
    await using clouds = await Clouds.start();
    const kept = { bytes, digest: await digestOfBytes(old) };
    const fetched = await fetchWith(clouds, await sourceWith(old, now), kept);
    assert.equal(fetched.report.lineage, false);
    await assertWhole(fetched, now, clouds);
  }
});

test("a sender that says too little is found out by the digest", async () => {
  await using clouds = await Clouds.start();
  const old = oldBytes();
  const now = Buffer.from(old);
  now.write("told", BLOCK);
  now.write("not told", 100 * BLOCK);
  const known = [{ offset: BLOCK, length: BLOCK }];
  const source = await sourceWith(old, now, { changed: known, withDigests: true });
  const kept = { bytes: old, digest: await digestOfBytes(old), blocks: true };
  // Sender and receiver agree on what is not the machine's data: the sender alone can know.
  const told = Buffer.from(old);
  told.write("told", BLOCK);
  const fetched = await fetchWith(clouds, source, kept);
  assert.equal(fetched.report.digest, await digestOfBytes(told));
});

test("pages of the components' images are named, not sent, where the line is slow", async () => {
  await using clouds = await Clouds.start();
  const image = randomBytes(8 * MIB);
  const now = randomBytes(SIZE);
  image.copy(now, 10 * BLOCK + 4096, 3 * 4096, 7 * MIB);
  const source = sourceOf([image], await deviceOf(now));
  const server = await clouds.serving(
    { ...source, components: [digestOf(image)] },
    { bytesPerSecondMax: MIB },
  );
  const receiver = clouds.receiving(portOf(server));
  const images = [() => Promise.resolve(readerOf(image))];
  const path = clouds.path("disk.raw");
  const report = await receiver.fetchUserData(path, soon(), { images });
  await assertWhole({ report, path }, now, clouds);
  const saved = SIZE - report.wireBytes;
  assert.ok(saved > 6.9 * MIB, `only ${saved} bytes were saved`);
});

/** A file system that dies at its nth change, as at a power cut; reads still work. */
function dying(world: World, changes: number): World {
  let left = changes;
  const pass = (): void => {
    left -= 1;
    if (left < 0) throw new TesseraError("environment", "system.io", "the power is gone");
  };
  const { files } = world;
  const mortal: FileSystem = {
    ...files,
    open: async (path, mode, permissions) => {
      if (mode !== "read" && mode !== "write") pass();
      const file = await files.open(path, mode, permissions);
      const write = async (source: Uint8Array, position: number): Promise<void> => {
        pass();
        await file.write(source, position);
      };
      return { ...file, write };
    },
    rename: async (from, to) => {
      pass();
      await files.rename(from, to);
    },
    remove: async (path) => {
      pass();
      await files.remove(path);
    },
    writeFileAtomic: async (path, content, permissions) => {
      pass();
      await files.writeFileAtomic(path, content, permissions);
    },
  };
  return { ...world, files: mortal };
}

interface Copies {
  readonly old: Buffer;
  /** Of the old one. */
  readonly digest: Digest;
  readonly now: Buffer;
  readonly end: UserDataDigest;
}

/** Receives the changes as frames of single blocks; every block must still have its old content. */
async function receiveInto(
  target: UserDataTarget,
  { digest, old, now, end }: Copies,
): Promise<void> {
  const lineage = target.offer?.digest === digest ? digest : undefined;
  const opened = { sizeBytes: now.length, allocatedBytes: now.length, lineage };
  if (!(await target.opened(opened))) assert.fail("the copy was offered");
  for (let index = target.nextBlock; index * BLOCK < now.length; index += 1) {
    const [before, after] = [old, now].map((bytes) =>
      bytes.subarray(index * BLOCK, (index + 1) * BLOCK),
    ) as [Buffer, Buffer];
    if (lineage !== undefined && after.equals(before)) continue;
    const held = Buffer.alloc(before.length);
    await target.readOld(held, index * BLOCK);
    if (lineage !== undefined) assert.ok(held.equals(before), `block ${index} is not the old one`);
    const zero = isZero(after);
    const offset = index * BLOCK;
    const write = zero ? { offset, zeroBytes: after.length } : { offset, bytes: after };
    await target.write([write], index + 1);
  }
  await target.finish(end);
}

/** True when it did not come to its end; whatever would be saved then is not. */
async function diesIn(target: UserDataTarget, copies: Copies): Promise<boolean> {
  try {
    await receiveInto(target, copies);
    return false;
  } catch (error) {
    if (error instanceof assert.AssertionError) throw error;
    await target.keep().catch(() => undefined);
    return true;
  }
}

test("killed at any change to the disk, it goes on with the copy and comes out equal", async () => {
  const old = oldBytes();
  const now = Buffer.from(old.map((byte, at) => (at % 97 === 0 ? byte ^ 1 : byte)));
  now.fill(0, 100 * BLOCK, 110 * BLOCK);
  const digest = await digestOfBytes(old);
  const copies = { old, digest, now, end: await userDataDigest(await deviceOf(now)) };
  await using clouds = await Clouds.start();
  const path = clouds.path("disk.raw");
  const kept = clouds.path("kept.raw");
  let deaths = 0;
  for (let changes = 0; ; changes += changes < 25 ? 1 : 61) {
    for (const name of await readdir(clouds.directory)) {
      if (/^(disk|kept)/.test(name)) await clouds.world.files.remove(clouds.path(name));
    }
    await writeFile(kept, old);
    const lineage = { path: kept, digest };
    const open = (world: World) => UserDataTarget.open(world, path, "m1", lineage);
    const mortal = dying(clouds.world, changes);
    const died = await open(mortal).then(
      (target) => diesIn(target, copies),
      () => true,
    );
    if (died) {
      deaths += 1;
      const target = await open(clouds.world);
      if ((await clouds.world.files.status(path)) === undefined) {
        assert.equal(target.offer?.digest, digest, `no copy after ${changes} changes`);
      }
      await receiveInto(target, copies);
    }
    assert.ok((await readFile(path)).equals(now), `another result after ${changes} changes`);
    if (!died) break;
  }
  assert.ok(deaths > 26);
});

test("a part of another session is no copy, and the sender may lose its copy midway", async () => {
  await using clouds = await Clouds.start();
  const old = oldBytes();
  const digest = await digestOfBytes(old);
  const kept = clouds.path("kept.raw");
  await writeFile(kept, old);
  const path = clouds.path("disk.raw");
  const lineage = { path: kept, digest };
  const opened = { sizeBytes: SIZE, allocatedBytes: SIZE, lineage: digest };
  const first = await UserDataTarget.open(clouds.world, path, "m1", lineage);
  assert.equal(await first.opened(opened), true);
  await first.write([{ offset: 0, bytes: randomBytes(BLOCK) }], 1);
  await first.keep();

  const again = await UserDataTarget.open(clouds.world, path, "m1", lineage);
  assert.equal(again.nextBlock, 1);
  assert.equal(await again.opened({ sizeBytes: SIZE, allocatedBytes: SIZE }), false);
  assert.deepEqual([again.nextBlock, again.offer], [0, undefined]);

  const other = await UserDataTarget.open(clouds.world, path, "m2", lineage);
  assert.equal(other.offer, undefined);
  await assert.rejects(other.opened(opened), { code: "transfer.protocol-violation" });
});
