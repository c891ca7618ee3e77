import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import type { Assembly } from "#repository";
import { bytesOf, MIB } from "./gather.suite.ts";
import { ImageWriter } from "./image-writer.ts";

const SIZE = 50 * MIB + 12_345;

function turn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

function unused(): never {
  throw new Error("not for the writer");
}

/** An assembly in memory whose reads and writes take their time, by default a turn of the event loop. */
function memoryAssembly(
  delay: () => Promise<unknown> = turn,
): Assembly & { readonly bytes: Buffer; writes: number } {
  const bytes = Buffer.alloc(SIZE);
  return {
    bytes,
    writes: 0,
    blob: { digest: `sha256:${"0".repeat(64)}`, sizeBytes: SIZE },
    state: undefined,
    async write(source, position) {
      this.writes += 1;
      await delay();
      bytes.set(source, position);
    },
    async read(target, position) {
      await delay();
      target.set(bytes.subarray(position, position + target.length));
    },
    settled: unused,
    checkpoint: unused,
    commit: unused,
    release: unused,
    abort: unused,
  };
}

test("writes side by side and in any order, through few large writes", async () => {
  const assembly = memoryAssembly();
  const writer = new ImageWriter(assembly, true);
  const expected = bytesOf("image", SIZE);
  const step = 5000;
  const positions = Array.from({ length: Math.ceil(SIZE / step) }, (_, index) => index * step);
  // Each of six goes through its own part of the image; two of them jump about.
  const shuffled = positions.toSorted((a, b) => ((a * 7919) % 104_729) - ((b * 7919) % 104_729));
  const put = async (part: readonly number[]): Promise<void> => {
    for (const position of part) {
      await writer.put(expected.subarray(position, position + step), position);
    }
  };
  const third = Math.floor(positions.length / 3);
  const chosen = new Set(shuffled.slice(0, third));
  const ordered = positions.filter((position) => !chosen.has(position));
  const quarter = Math.ceil(ordered.length / 4);
  const parts = [0, 1, 2, 3].map((index) => ordered.slice(index * quarter, (index + 1) * quarter));
  const jumping = [...chosen];
  parts.push(jumping.slice(0, third / 2), jumping.slice(Math.floor(third / 2)));
  const flushing = writer.flush();
  await Promise.all([...parts.map(put), flushing]);
  await writer.flush();
  assert.ok(expected.equals(assembly.bytes));
});

test("puts a sequence of small pieces in one write for each chunk", async () => {
  const assembly = memoryAssembly();
  const writer = new ImageWriter(assembly, true);
  const expected = bytesOf("image", SIZE);
  for (let position = 0; position < SIZE; position += 4096) {
    await writer.put(expected.subarray(position, position + 4096), position);
  }
  await writer.flush();
  assert.ok(expected.equals(assembly.bytes));
  assert.ok(assembly.writes <= 52, `${assembly.writes} writes`);
});

test("tells of a failed write to whoever comes next", async () => {
  const assembly = memoryAssembly();
  assembly.write = () => Promise.reject(new Error("the disk is gone"));
  const writer = new ImageWriter(assembly, true);
  await writer.put(bytesOf("a", 100), 0);
  await assert.rejects(writer.flush(), { message: "the disk is gone" });
  await assert.rejects(writer.put(bytesOf("a", 100), 0), { message: "the disk is gone" });
});

test("writes that begin all at once do not wait for each other", async () => {
  const assembly = memoryAssembly();
  const writer = new ImageWriter(assembly, true);
  const expected = bytesOf("image", 24 * MIB);
  await writer.put(expected, 0);
  const late = new Promise((_, reject) => {
    setTimeout(() => reject(new Error("it hangs")), 10_000).unref();
  });
  await Promise.race([writer.flush(), late]);
  assert.ok(expected.equals(assembly.bytes.subarray(0, expected.length)));
});

interface Step {
  readonly megabyte: number;
  readonly bytes: number;
  readonly after: "flush" | "read" | undefined;
}

/** More chunks than are kept, in any order, with pieces that lie across two of them. */
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.record({
    megabyte: fc.integer({ min: 0, max: 47 }),
    bytes: fc.constantFrom(10, MIB / 2, MIB),
    after: fc.oneof(
      { weight: 8, arbitrary: fc.constant(undefined) },
      { weight: 1, arbitrary: fc.constantFrom("flush" as const, "read" as const) },
    ),
  }),
  { minLength: 1, maxLength: 40 },
);

test("in whatever order a disk answers, all that was put is there, and nobody hangs", async () => {
  const run = fc.asyncProperty(
    fc.scheduler(),
    fc.array(steps, { minLength: 1, maxLength: 4 }),
    fc.boolean(),
    async (scheduler, writers, fresh) => {
      const assembly = memoryAssembly(() => scheduler.schedule(Promise.resolve()));
      const writer = new ImageWriter(assembly, fresh);
      const expected = Buffer.alloc(SIZE);
      let left = writers.length;
      const work = async (list: readonly Step[], part: number): Promise<void> => {
        // Each of four has its own quarter of every MiB, so that none overlap.
        for (const { megabyte, bytes, after } of list) {
          const position = megabyte * MIB + (part * MIB) / 4 + 5;
          const piece = Buffer.alloc(Math.min(bytes, MIB / 4), megabyte + part + 1);
          expected.set(piece, position);
          await writer.put(piece, position);
          if (after === "flush") await writer.flush();
          if (after !== "read") continue;
          const target = Buffer.alloc(piece.length);
          await writer.read(target, position);
          assert.ok(target.equals(expected.subarray(position, position + piece.length)));
        }
      };
      const works = writers.map((list, part) => work(list, part).finally(() => (left -= 1)));
      let flushed = false;
      const ended = Promise.all(works)
        .then(() => writer.flush())
        .then(() => (flushed = true));
      for (await turn(); scheduler.count() > 0; await turn()) await scheduler.waitOne();
      assert.equal(left, 0);
      assert.ok(flushed);
      await ended;
      assert.ok(expected.equals(assembly.bytes));
    },
  );
  await fc.assert(run, { numRuns: 25 });
});
