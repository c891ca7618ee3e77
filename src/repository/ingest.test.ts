/** Ingests that are cut off: by a full disk, a reboot, damage, or their owner. */
import assert from "node:assert/strict";
import { readFile, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import * as fc from "fast-check";
import { hexOf } from "#core";
import { openRepository } from "#repository";
import { realWorld } from "#system";
import { bytesOf, digestOf, fullDisk, Host, temporary, withCode } from "./fixtures.suite.ts";

const IMAGE = bytesOf("image", 300_000);

test("no ingest begins without space for it and a reserve", () =>
  temporary(async (directory) => {
    const blob = { digest: digestOf(IMAGE), sizeBytes: IMAGE.length };
    const neededBytes = IMAGE.length + 64 * 2 ** 20;
    const world = { ...realWorld(), files: fullDisk(Infinity, neededBytes - 1) };
    const store = await openRepository(world, directory);
    await assert.rejects(store.ingest(blob), withCode("repository.no-space"));
    const enough = { ...realWorld(), files: fullDisk(Infinity, neededBytes) };
    const ingest = await (await openRepository(enough, directory)).ingest(blob);
    assert.equal(ingest?.writtenBytes, 0);
    await ingest.abort();
  }));

test("a disk that fills up leaves a part that goes on", () =>
  temporary(async (directory) => {
    const blob = { digest: digestOf(IMAGE), sizeBytes: IMAGE.length };
    const world = { ...realWorld(), files: fullDisk(120_000) };
    const first = await (await openRepository(world, directory)).ingest(blob);
    await first?.append(IMAGE.subarray(0, 100_000));
    const appended = first?.append(IMAGE.subarray(100_000)) ?? assert.fail();
    await assert.rejects(appended, withCode("repository.no-space"));
    await assert.rejects(first?.commit() ?? assert.fail(), withCode("repository.ingest-closed"));
    await first?.release();
    const second = await (await openRepository(realWorld(), directory)).ingest(blob);
    assert.equal(second?.writtenBytes, 120_000);
    await second.append(IMAGE.subarray(120_000));
    await second.commit();
  }));

test("after a reboot only what was checkpointed counts", () =>
  temporary(async (directory) => {
    await using host = new Host();
    const blob = { digest: digestOf(IMAGE), sizeBytes: IMAGE.length };
    const first = host.world();
    const ingest = await (await openRepository(first, directory)).ingest(blob);
    await ingest?.append(IMAGE.subarray(0, 1000));
    await ingest?.checkpoint();
    await ingest?.append(IMAGE.subarray(1000, 5000));
    host.end(first.id);
    const same = await (await openRepository(host.world(), directory)).ingest(blob);
    assert.equal(same?.writtenBytes, 5000, "a killed process loses nothing that it has written");
    await same.append(IMAGE.subarray(5000, 6000));
    host.bootId = "boot-2";
    const part = join(directory, "tessera", "ingest", `${hexOf(blob.digest)}.part`);
    const content = await readFile(part);
    await writeFile(part, content.fill(0, 5500));
    const after = await (await openRepository(host.world(), directory)).ingest(blob);
    assert.equal(after?.writtenBytes, 5000, "opening was a checkpoint");
    await after.append(IMAGE.subarray(5000));
    await after.commit();
  }));

test("a part whose checkpointed bytes changed begins anew", () =>
  temporary(async (directory) => {
    const blob = { digest: digestOf(IMAGE), sizeBytes: IMAGE.length };
    const store = await openRepository(realWorld(), directory);
    const part = join(directory, "tessera", "ingest", `${hexOf(blob.digest)}.part`);
    for (const damage of [
      () => writeFile(part, bytesOf("other", 1000)),
      () => truncate(part, 999),
      () => rm(part.replace(".part", ".json")),
      () => writeFile(part.replace(".part", ".json"), '{"sizeBytes":'),
    ]) {
      const ingest = await store.ingest(blob);
      assert.equal(ingest?.writtenBytes, 0);
      await ingest.append(IMAGE.subarray(0, 1000));
      await ingest.release();
      await damage();
    }
    const ingest = await store.ingest(blob);
    assert.equal(ingest?.writtenBytes, 0);
    await ingest.abort();
  }));

test("any split of the bytes, with releases and checkpoints between, gives the blob", () =>
  temporary(async (directory) => {
    const store = await openRepository(realWorld(), directory);
    const plan = fc.array(
      fc.record({
        length: fc.integer({ min: 0, max: 3000 }),
        next: fc.constantFrom("append", "checkpoint", "release"),
      }),
      { maxLength: 8 },
    );
    let run = 0;
    await fc.assert(
      fc.asyncProperty(plan, async (steps) => {
        run += 1;
        const content = bytesOf(`content ${run}`, 8000);
        const blob = { digest: digestOf(content), sizeBytes: content.length };
        let written = 0;
        let ingest = await store.ingest(blob);
        for (const { length, next } of steps) {
          const bytes = content.subarray(written, written + length);
          await ingest?.append(bytes);
          written += bytes.length;
          assert.equal(ingest?.writtenBytes, written);
          if (next === "checkpoint") await ingest.checkpoint();
          if (next !== "release") continue;
          await ingest.release();
          ingest = await store.ingest(blob);
          assert.equal(ingest?.writtenBytes, written);
        }
        await ingest?.append(content.subarray(written));
        await ingest?.commit();
        assert.equal(
          digestOf(await readFile(join(directory, "blobs", "sha256", hexOf(blob.digest)))),
          blob.digest,
        );
      }),
      { numRuns: 15 },
    );
  }));
