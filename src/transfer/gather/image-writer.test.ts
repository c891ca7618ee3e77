import assert from "node:assert/strict";
import { test } from "node:test";
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

/** An assembly in memory whose reads and writes take a turn of the event loop. */
function memoryAssembly(): Assembly & { readonly bytes: Buffer; writes: number } {
  const bytes = Buffer.alloc(SIZE);
  return {
    bytes,
    writes: 0,
    blob: { digest: `sha256:${"0".repeat(64)}`, sizeBytes: SIZE },
    state: undefined,
    async write(source, position) {
      this.writes += 1;
      await turn();
      bytes.set(source, position);
    },
    async read(target, position) {
      await turn();
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
