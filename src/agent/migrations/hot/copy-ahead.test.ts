/** A disk that is written to while it is read ahead. */
import assert from "node:assert/strict";
import { hash, randomBytes } from "node:crypto";
import { test } from "node:test";
import * as fc from "fast-check";
import { createMemoryDevice, type BlockDevice } from "#block";
import type { ByteRange, StorageMethod } from "#core";
import { realWorld } from "#system";
import type { Clock } from "#core";
import { CopyAhead } from "./copy-ahead.ts";
import { PASSES_MAX } from "./source-data.ts";

const BLOCK = 65_536;
const SIZE = 64 * BLOCK;
const blocks = fc.uniqueArray(fc.nat(63), { maxLength: 12 });
const never = new AbortController().signal;
const block = (index: number): ByteRange => ({ offset: index * BLOCK, length: BLOCK });

/** A time that comes by sleeping alone. */
class Waiting {
  left_ms: number;
  readonly slept_ms: number[] = [];
  readonly clock: Clock;

  constructor(left_ms: number) {
    this.left_ms = left_ms;
    const sleep = async (ms: number, signal?: AbortSignal): Promise<void> => {
      signal?.throwIfAborted();
      this.slept_ms.push(ms);
      this.left_ms -= ms;
    };
    this.clock = { ...realWorld().clock, sleep };
  }
}

/** A source that notes what is written between two passes. */
class Disk {
  readonly content = Buffer.alloc(SIZE);
  readonly asked: string[] = [];
  readonly local: BlockDevice = createMemoryDevice(SIZE);
  /** Blocks written during each pass, the first of all first. */
  readonly #written: readonly (readonly number[])[];
  failing = 0;
  /** Blocks that travelled. */
  readonly sent: number[] = [];

  constructor(written: readonly (readonly number[])[]) {
    this.#written = written;
    for (const index of [0, 1, 2, 40]) this.write(index);
  }

  write(index: number): void {
    randomBytes(BLOCK).copy(this.content, index * BLOCK);
  }

  /** What is here holds these of its blocks, and what nobody knows in others. */
  async keep(same: readonly number[], others: readonly number[]): Promise<void> {
    for (const index of same) {
      await this.local.write(
        this.content.subarray(index * BLOCK, (index + 1) * BLOCK),
        index * BLOCK,
      );
    }
    for (const index of others) await this.local.write(randomBytes(BLOCK), index * BLOCK);
  }

  ahead(method: StorageMethod, earlier = false, waiting?: Waiting): CopyAhead {
    const fetch = async ({ offset, length }: ByteRange): Promise<Uint8Array> => {
      await new Promise((resolve) => setImmediate(resolve));
      if (this.failing > 0) {
        this.failing -= 1;
        throw new Error("the link broke");
      }
      for (let at = offset; at < offset + length; at += BLOCK) this.sent.push(at / BLOCK);
      return Uint8Array.from(this.content.subarray(offset, offset + length));
    };
    const fetchUnless = async (range: ByteRange, known: Uint8Array) => {
      const { offset, length } = range;
      const there = this.content.subarray(offset, offset + length);
      return hash("sha256", there, "buffer").equals(known) ? "same" : await fetch(range);
    };
    return new CopyAhead({
      clock: waiting?.clock ?? realWorld().clock,
      wait_ms: () => waiting?.left_ms ?? 0,
      method,
      local: this.local,
      earlier,
      remote: () => ({ fetch, fetchUnless }),
      fetchMap: (name) => Promise.resolve(this.#map(name)),
      progress: () => undefined,
    });
  }

  #map(name: string): readonly ByteRange[] {
    this.asked.push(name);
    const pass = Number(name.replace("pass-", ""));
    if (pass === 1) return [0, 1, 2, 40].map(block);
    const indices = this.#written[pass - 2] ?? [];
    for (const index of indices) this.write(index);
    return indices.map(block);
  }

  /** What is not known to lack is as at the source. */
  async check(rest: readonly ByteRange[]): Promise<void> {
    const local = Buffer.alloc(SIZE);
    await this.local.read(local, 0);
    for (const { offset, length } of rest)
      this.content.copy(local, offset, offset, offset + length);
    assert.ok(local.equals(this.content));
  }
}

test("what was written during the last pass is told, the rest is here", async () => {
  const disk = new Disk([[1, 7]]);
  const ahead = disk.ahead("hybrid");
  await ahead.run(never);
  assert.deepEqual(disk.asked.slice(0, 2), ["pass-1", "pass-2"]);
  assert.ok(ahead.passes >= 1);
  await disk.check(ahead.rest);
});

test("a pull reads nothing ahead, and knows nothing to lack but what it is told", async () => {
  const disk = new Disk([]);
  const ahead = disk.ahead("pull");
  await ahead.run(never);
  assert.deepEqual([disk.asked, ahead.passes, ahead.bytes], [[], 0, 0]);
});

test("after a failure it goes on where it was, without a new first pass", async () => {
  const disk = new Disk([[2]]);
  disk.failing = 2;
  const ahead = disk.ahead("hybrid");
  await assert.rejects(ahead.run(never), /the link broke/);
  await ahead.run(never);
  assert.equal(disk.asked.filter((name) => name === "pass-1").length, 1);
  await disk.check(ahead.rest);
});

test("a push that is outrun ends as well", async () => {
  const all = Array.from({ length: 64 }, (_, index) => index);
  const disk = new Disk(Array.from({ length: 50 }, () => all));
  const ahead = disk.ahead("push");
  await ahead.run(never);
  assert.ok(ahead.passes < 5, `${ahead.passes} passes`);
  await disk.check(ahead.rest);
});

test("of an earlier copy only what differs travels, and what is zero there becomes zero", async () => {
  const disk = new Disk([[2]]);
  await disk.keep([0, 1, 40], [2, 50, 63]);
  const ahead = disk.ahead("hybrid", true);
  await ahead.run(never);
  assert.deepEqual(disk.sent, [2]);
  assert.equal(ahead.bytes, BLOCK);
  await disk.check(ahead.rest);
  assert.deepEqual(await disk.local.allocated(), [{ offset: 0, length: 3 * BLOCK }, block(40)]);
});

test("whatever an earlier copy holds, and wherever it is left and begun anew, the disk is right", async () => {
  await fc.assert(
    fc.asyncProperty(blocks, blocks, blocks, fc.nat(5), async (same, others, written, failing) => {
      const disk = new Disk([written, []]);
      await disk.keep(same, others);
      disk.failing = failing;
      await disk
        .ahead("hybrid", true)
        .run(never)
        .catch(() => undefined);
      disk.failing = 0;
      // The agent has died: all that it knew is lost, and the file is taken as it lies.
      const again = disk.ahead("hybrid", true);
      await again.run(never);
      await disk.check(again.rest);
    }),
    { numRuns: 50 },
  );
});

test("before its time it reads on what is written, with shorter and shorter pauses", async () => {
  const disk = new Disk([[], [3], [4, 5], [6]]);
  const waiting = new Waiting(60_000);
  const ahead = disk.ahead("hybrid", false, waiting);
  await ahead.run(never);
  assert.deepEqual(waiting.slept_ms, [30_000, 15_000, 10_000, 5_000]);
  assert.ok(waiting.left_ms <= 0);
  assert.equal(ahead.passes, 5);
  assert.deepEqual(
    disk.asked,
    [1, 2, 3, 4, 5, 6].map((pass) => `pass-${pass}`),
  );
  await disk.check(ahead.rest);
});

test("before a time that is years away passes never run out, and a pull waits too", async () => {
  const years_ms = 5 * 365 * 86_400_000;
  for (const method of ["hybrid", "push", "pull", "shared"] as const) {
    const disk = new Disk(Array.from({ length: 200 }, (_, pass) => [pass % 64]));
    const waiting = new Waiting(years_ms);
    const ahead = disk.ahead(method, false, waiting);
    await ahead.run(never);
    assert.ok(waiting.left_ms <= 0);
    assert.ok(ahead.passes <= PASSES_MAX - 1);
    assert.ok(Math.max(...waiting.slept_ms) < 2 ** 31);
    if (ahead.passes > 0) await disk.check(ahead.rest);
  }
});

test("an abort ends it", async () => {
  const disk = new Disk([]);
  const stop = AbortSignal.abort(new Error("enough"));
  await assert.rejects(disk.ahead("hybrid").run(stop), /enough/);
});
