/** A copy that is brought up to date, whatever it held before. */
import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { test } from "node:test";
import * as fc from "fast-check";
import { createMemoryDevice, hashBlocks, userDataDigest, type BlockDevice } from "#block";
import type { ByteRange } from "#core";
import { compareBlocks } from "./compare.ts";

const BLOCK = 65_536;
const BLOCKS = 12;
/** The last block is a short one. */
const SIZE = BLOCKS * BLOCK + 4096;
const never = new AbortController().signal;

/** What each block holds: 0 for nothing, else one of a few contents. */
const contents = fc.array(fc.nat(3), { minLength: BLOCKS + 1, maxLength: BLOCKS + 1 });

async function write(device: BlockDevice, index: number, content: number): Promise<void> {
  const offset = index * BLOCK;
  const length = Math.min(BLOCK, SIZE - offset);
  if (content === 0) await device.zero({ offset, length });
  else await device.write(Buffer.alloc(length, content), offset);
}

async function deviceOf(all: readonly number[]): Promise<BlockDevice> {
  const device = createMemoryDevice(SIZE);
  for (const [index, content] of all.entries()) await write(device, index, content);
  return device;
}

function remoteOf(source: BlockDevice, sent: ByteRange[] = []) {
  const fetch = async (range: ByteRange): Promise<Uint8Array | undefined> => {
    sent.push(range);
    const bytes = Buffer.alloc(range.length);
    await source.read(bytes, range.offset);
    return bytes.every((byte) => byte === 0) ? undefined : bytes;
  };
  const fetchUnless = async (range: ByteRange, known: Uint8Array) => {
    const bytes = Buffer.alloc(range.length);
    await source.read(bytes, range.offset);
    return hash("sha256", bytes, "buffer").equals(known) ? "same" : await fetch(range);
  };
  return { fetch, fetchUnless };
}

async function compare(local: BlockDevice, source: BlockDevice, sent: ByteRange[] = []) {
  const allocated = await source.allocated();
  const remote = remoteOf(source, sent);
  return await compareBlocks({ local, remote, allocated, progress: () => undefined }, never);
}

test("a copy becomes what a source that stands still is, and its digests are true", async () => {
  await fc.assert(
    fc.asyncProperty(contents, contents, async (here, there) => {
      const [local, source] = [await deviceOf(here), await deviceOf(there)];
      const sent: ByteRange[] = [];
      const { digests, changedBytes } = await compare(local, source, sent);
      const wanted = await userDataDigest(source);
      assert.deepEqual(await userDataDigest(local), wanted);
      assert.deepEqual(digests.userDataDigest(), wanted);
      assert.deepEqual((await hashBlocks(local)).encode(), digests.encode());
      assert.ok(sent.every(({ offset }) => here[offset / BLOCK] !== there[offset / BLOCK]));
      if (changedBytes === 0) assert.equal(sent.length, 0);
    }),
    { numRuns: 60 },
  );
});

test("a source that fails ends it with that failure, and another call goes on", async () => {
  const there = Array.from({ length: BLOCKS + 1 }, (_, index) => index % 4);
  const [local, source] = [createMemoryDevice(SIZE), await deviceOf(there)];
  const remote = remoteOf(source);
  let left = 3;
  const fetch: typeof remote.fetch = async (range) => {
    left -= 1;
    if (left < 0) throw new Error("the link broke");
    return await remote.fetch(range);
  };
  const allocated = await source.allocated();
  const broken = { local, remote: { ...remote, fetch }, allocated, progress: () => undefined };
  await assert.rejects(compareBlocks(broken, never), /the link broke/);
  await compare(local, source);
  assert.deepEqual(await userDataDigest(local), await userDataDigest(source));
  const stop = AbortSignal.abort(new Error("enough"));
  await assert.rejects(compareBlocks({ ...broken, remote }, stop), /enough/);
});
