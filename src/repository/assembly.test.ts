/** Assemblies that are cut off: by a full disk, a reboot, damage. */
import assert from "node:assert/strict";
import { readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import * as fc from "fast-check";
import { hexOf } from "#core";
import { openRepository } from "#repository";
import { realWorld } from "#system";
import { decodeAssembly, encodeAssembly } from "./assembly-state.ts";
import { bytesOf, digestOf, fullDisk, Host, temporary, withCode } from "./fixtures.suite.ts";

const IMAGE = bytesOf("image", 300_000);
const BLOB = { digest: digestOf(IMAGE), sizeBytes: IMAGE.length };

function filesOf(directory: string): { readonly bytes: string; readonly state: string } {
  const path = join(directory, "tessera", "ingest", hexOf(BLOB.digest));
  return { bytes: `${path}.assembly`, state: `${path}.state` };
}

test("no assembly begins without space for it and a reserve", () =>
  temporary(async (directory) => {
    const neededBytes = IMAGE.length + 64 * 2 ** 20;
    const world = { ...realWorld(), files: fullDisk(Infinity, neededBytes - 1) };
    const store = await openRepository(world, directory);
    await assert.rejects(store.assemble(BLOB), withCode("repository.no-space"));
    const enough = { ...realWorld(), files: fullDisk(Infinity, neededBytes) };
    const assembly = await (await openRepository(enough, directory)).assemble(BLOB);
    await assembly?.abort();
    assert.deepEqual(await readdir(join(directory, "tessera", "ingest")), []);
  }));

test("a disk that fills up leaves what was checkpointed", () =>
  temporary(async (directory) => {
    const world = { ...realWorld(), files: fullDisk(120_000) };
    const first = await (await openRepository(world, directory)).assemble(BLOB);
    await first?.write(IMAGE.subarray(200_000), 200_000);
    await first?.checkpoint(Buffer.from("100000"));
    const write = first?.write(IMAGE.subarray(0, 200_000), 0) ?? assert.fail();
    await assert.rejects(write, withCode("repository.no-space"));
    const closed = withCode("repository.ingest-closed");
    await assert.rejects(first?.commit() ?? assert.fail(), closed);
    await assert.rejects(first?.checkpoint(new Uint8Array()) ?? assert.fail(), closed);
    await first?.release();
    const second = await (await openRepository(realWorld(), directory)).assemble(BLOB);
    assert.equal(Buffer.from(second?.state ?? []).toString(), "100000");
    await second?.write(IMAGE.subarray(0, 200_000), 0);
    await second?.commit();
  }));

test("a checkpoint does not say what a write that failed beside it should have left", () =>
  temporary(async (directory) => {
    const world = { ...realWorld(), files: fullDisk(120_000) };
    const assembly = await (await openRepository(world, directory)).assemble(BLOB);
    const write = assembly?.write(IMAGE, 0) ?? assert.fail();
    const checkpoint = assembly?.checkpoint(Buffer.from("all")) ?? assert.fail();
    await assert.rejects(write, withCode("repository.no-space"));
    await assert.rejects(checkpoint, withCode("repository.ingest-closed"));
    await assembly?.release();
    const second = await (await openRepository(realWorld(), directory)).assemble(BLOB);
    assert.equal(second?.state, undefined);
    await second?.abort();
  }));

test("a checkpoint outlives a reboot", () =>
  temporary(async (directory) => {
    await using host = new Host();
    const first = await (await openRepository(host.world(), directory)).assemble(BLOB);
    await first?.write(IMAGE.subarray(1000), 1000);
    await first?.checkpoint(Buffer.from("but for the first 1000"));
    await first?.write(IMAGE.subarray(0, 1000), 0);
    host.bootId = "boot-2";
    const { bytes } = filesOf(directory);
    await writeFile(bytes, (await readFile(bytes)).fill(0, 0, 1000));
    const second = await (await openRepository(host.world(), directory)).assemble(BLOB);
    assert.equal(Buffer.from(second?.state ?? []).toString(), "but for the first 1000");
    await second?.write(IMAGE.subarray(0, 1000), 0);
    await second?.commit();
  }));

test("what does not fit together begins anew", () =>
  temporary(async (directory) => {
    const store = await openRepository(realWorld(), directory);
    const { bytes, state } = filesOf(directory);
    const damages = {
      "the bytes are shorter": () => truncate(bytes, 299_999),
      "the bytes are longer": () => truncate(bytes, 300_001),
      "the bytes are missing": () => rm(bytes),
      "the state is missing": () => rm(state),
      "the state is cut off": () => truncate(state, 200),
      "the state has no end": () => truncate(state, 20),
      "the state is empty": () => truncate(state, 0),
      "the state is too large": () => truncate(state, 5 * 2 ** 20),
      "the state was changed": async () => {
        const content = await readFile(state);
        await writeFile(state, content.fill(content.at(-1) === 7 ? 8 : 7, content.length - 1));
      },
      "the state is another file's": async () => {
        const text = (await readFile(state)).toString("latin1");
        await writeFile(state, Buffer.from(text.replace('"inode":', '"inode":1'), "latin1"));
      },
    };
    for (const [damage, inflict] of Object.entries(damages)) {
      const assembly = (await store.assemble(BLOB)) ?? assert.fail();
      assert.equal(assembly.state, undefined, damage);
      await assembly.write(IMAGE, 0);
      await assembly.checkpoint(bytesOf("state", 1000));
      await assembly.release();
      await inflict();
    }
    const assembly = await store.assemble(BLOB);
    const back = bytesOf("something", 10);
    await assembly?.read(back, 5);
    assert.deepEqual(back, Buffer.alloc(10), "what was there is gone");
    await assembly?.abort();
  }));

test("an assembly that nobody continues is collected", () =>
  temporary(async (directory) => {
    await using host = new Host();
    const dying = host.world();
    const assembly = await (await openRepository(dying, directory)).assemble(BLOB);
    await assembly?.write(IMAGE.subarray(0, 8192), 0);
    await assembly?.checkpoint(new Uint8Array(5));
    const other = await openRepository(host.world(), directory);
    assert.deepEqual((await other.collect({ dryRun: false })).removed, []);
    host.end(dying.id);
    await other.pin("migration:1", [BLOB.digest]);
    assert.deepEqual((await other.collect({ dryRun: false })).removed, []);
    await other.unpin("migration:1");
    const { removed } = await other.collect({ dryRun: false });
    assert.deepEqual(removed, [{ digest: BLOB.digest, sizeBytes: 8192 }]);
    assert.deepEqual(await readdir(join(directory, "tessera", "ingest")), []);
  }));

test("any order of writes, hints, checkpoints and releases gives the blob", () =>
  temporary(async (directory) => {
    const store = await openRepository(realWorld(), directory);
    const step = fc.record({
      position: fc.integer({ min: 0, max: 8000 }),
      length: fc.integer({ min: 0, max: 4000 }),
      right: fc.boolean(),
      next: fc.constantFrom("nothing", "settled", "checkpoint", "release"),
    });
    let run = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 8 }), async (steps) => {
        run += 1;
        const content = bytesOf(`content ${run}`, 8000);
        const blob = { digest: digestOf(content), sizeBytes: content.length };
        let assembly = (await store.assemble(blob)) ?? assert.fail();
        for (const [index, { position, length, right, next }] of steps.entries()) {
          const end = Math.min(position + length, 8000);
          const bytes = content.subarray(position, end);
          await assembly.write(right ? bytes : new Uint8Array(bytes.length), position);
          if (next === "settled") assembly.settled(end);
          if (next === "checkpoint" || next === "release") {
            await assembly.checkpoint(Uint8Array.of(index));
          }
          if (next !== "release") continue;
          await assembly.release();
          assembly = (await store.assemble(blob)) ?? assert.fail();
          assert.deepEqual(assembly.state && [...assembly.state], [index]);
        }
        await assembly.write(content, 0);
        await assembly.commit();
        const path = join(directory, "blobs", "sha256", hexOf(blob.digest));
        assert.equal(digestOf(await readFile(path)), blob.digest);
      }),
      { numRuns: 15 },
    );
  }));

test("any state decodes as it was encoded, and nothing else decodes", () => {
  fc.assert(
    fc.property(fc.nat(), fc.nat(), fc.uint8Array(), fc.nat(), (sizeBytes, inode, state, at) => {
      const record = { sizeBytes, inode, state };
      const encoded = encodeAssembly(record);
      const decoded = decodeAssembly(encoded);
      assert.deepEqual({ ...decoded, state: Uint8Array.from(decoded.state) }, record);
      const refused = withCode("repository.json-invalid");
      assert.throws(() => decodeAssembly(encoded.subarray(0, at % encoded.length)), refused);
    }),
  );
  const refused = withCode("repository.json-invalid");
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => assert.throws(() => decodeAssembly(bytes), refused)),
  );
});
