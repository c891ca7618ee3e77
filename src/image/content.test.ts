import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { hasCode } from "#core";
import { realWorld } from "#system";
import { contentHash, contentMd5, knownHash, sameContent, sliceSource } from "./content.ts";
import { bufferSource, fileSource, readAll } from "./index.ts";
import { patternBytes } from "./trees.suite.ts";
import { windowReader } from "./window.ts";

const world = realWorld();
const code = (expected: string) => (error: unknown) => hasCode(error, expected);
let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "tessera-content-"));
});
after(async () => {
  await rm(folder, { recursive: true, force: true });
});

test("a file source reads at any position and tells when the file has shrunk", async () => {
  const path = join(folder, "file");
  const bytes = patternBytes(100_000, 1);
  await writeFile(path, bytes);
  const source = await fileSource(world, path);
  assert.equal(source.sizeBytes, bytes.length);
  const target = Buffer.alloc(1000);
  await source.read(target, 54_321);
  assert.ok(target.equals(bytes.subarray(54_321, 55_321)));
  await truncate(path, 55_000);
  await assert.rejects(source.read(target, 54_321), code("image.content-short"));
  await source.close();
  await assert.rejects(fileSource(world, join(folder, "none")), code("system.not-found"));
});

test("readAll refuses more than its limit before it takes memory", async () => {
  const source = bufferSource(patternBytes(100, 1));
  assert.equal((await readAll(source, 100)).length, 100);
  await assert.rejects(readAll(source, 99), code("image.too-large"));
  const endless = { sizeBytes: 2 ** 50, read: async () => undefined };
  await assert.rejects(readAll(endless, 2 ** 20), code("image.too-large"));
});

test("contents of several chunks are hashed and compared as one", async () => {
  const bytes = patternBytes(2_500_000, 1);
  const source = bufferSource(bytes);
  assert.ok((await contentHash(source)).equals(createHash("sha256").update(bytes).digest()));
  assert.ok(await sameContent(source, bufferSource(Buffer.from(bytes))));
  const again = bufferSource(bytes);
  assert.equal(await contentMd5(again), createHash("md5").update(bytes).digest("hex"));
  assert.ok(knownHash(again).equals(await contentHash(source)));
  const other = Buffer.from(bytes);
  other[2_400_000] = (other[2_400_000] ?? 0) ^ 1;
  assert.ok(!(await sameContent(source, bufferSource(other))));
  assert.ok(!(await sameContent(source, sliceSource(source, 1, bytes.length - 1))));
});

test("a window reader gives the same bytes across and beyond its windows", async () => {
  const bytes = patternBytes(66 * 65_536 + 10, 1);
  const reader = windowReader(bufferSource(bytes));
  for (const [position, length] of [
    [0, 10],
    [65_530, 20],
    [10, 200_000],
    [66 * 65_536 - 5, 15],
    [0, bytes.length],
    [65_530, 20],
  ] as const) {
    const read = await reader.read(position, length);
    assert.ok(read.equals(bytes.subarray(position, position + length)));
  }
});
