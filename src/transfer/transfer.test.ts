/** Blobs and user data between two clouds over real TLS, into a real repository. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { stat, readdir, writeFile } from "node:fs/promises";
import { test } from "node:test";
import { openFileDevice, userDataDigest } from "#block";
import { handClock } from "./clock.suite.ts";
import type { TransferProgress } from "./contract.ts";
import {
  BLOCK,
  Clouds,
  MIB,
  deviceWith,
  portOf,
  referenceTo,
  sampleBytes,
  soon,
  sourceOf,
} from "./fixture.suite.ts";

test("blobs of every size and kind arrive, side by side", async () => {
  await using clouds = await Clouds.start();
  const blobs = [
    Buffer.alloc(0),
    Buffer.from("x"),
    randomBytes(MIB),
    sampleBytes(3 * MIB + 17),
    Buffer.alloc(5 * MIB),
    sampleBytes(12 * MIB),
    ...Array.from({ length: 12 }, (_, number) => randomBytes(1000 + number)),
  ];
  const server = await clouds.serving(sourceOf(blobs));
  const seen: TransferProgress[] = [];
  const receiver = clouds.receiving(portOf(server), { onProgress: (p) => seen.push(p) });
  const wire = await Promise.all(blobs.map((b) => receiver.fetchBlob(referenceTo(b), soon())));
  for (const bytes of blobs) {
    const { digest, sizeBytes } = referenceTo(bytes);
    assert.ok((await clouds.held(digest)).equals(bytes));
    const last = seen.findLast(({ stream }) => stream === digest);
    assert.deepEqual([last?.doneBytes, last?.totalBytes], [sizeBytes, sizeBytes]);
  }
  assert.ok((wire[4] ?? 0) < 200, "zeroes travel as a number");
  const payload = wire.reduce((sum, bytes) => sum + bytes, 0);
  assert.ok(receiver.wireBytes() > payload);
  assert.ok(receiver.wireBytes() < payload * 1.02 + 20_000);
  assert.equal(await receiver.fetchBlob(referenceTo(blobs[3] ?? Buffer.alloc(0)), soon()), 0);
});

test("user data arrive sparse, whole, and only what is not zero", async () => {
  await using clouds = await Clouds.start();
  // The size is no multiple of a block; single blocks, runs, written zeroes, and the short tail.
  const sizeBytes = 200 * MIB + 12_345;
  const device = await deviceWith(sizeBytes, [
    { offset: 0, bytes: randomBytes(10) },
    { offset: 5 * BLOCK + 7, bytes: sampleBytes(3 * MIB) },
    { offset: 100 * MIB, bytes: Buffer.alloc(2 * MIB) },
    ...Array.from({ length: 40 }, (_, n) => ({
      offset: 120 * MIB + 2 * n * BLOCK,
      bytes: randomBytes(BLOCK),
    })),
    { offset: sizeBytes - 5, bytes: Buffer.from("tail!") },
  ]);
  const server = await clouds.serving(sourceOf([], device));
  const seen: TransferProgress[] = [];
  const receiver = clouds.receiving(portOf(server), { onProgress: (p) => seen.push(p) });
  const path = clouds.path("disk.raw");
  const report = await receiver.fetchUserData(path, soon());
  const expected = await userDataDigest(device);
  assert.equal(report.digest, expected.digest);
  assert.equal(report.allocatedBytes, expected.allocatedBytes);
  assert.equal(report.sizeBytes, sizeBytes);
  const copy = await openFileDevice(clouds.world, path, { readOnly: true });
  assert.deepEqual(await userDataDigest(copy), expected);
  await copy.close();
  const { size, blocks, mode } = await stat(path);
  assert.equal(size, sizeBytes);
  assert.ok(blocks * 512 <= expected.allocatedBytes + MIB, "holes stay holes");
  assert.equal(mode & 0o777, 0o600);
  assert.deepEqual(await leftovers(clouds), []);
  assert.equal(seen.at(-1)?.doneBytes, seen.at(-1)?.totalBytes);

  // Asked again, as after a crash before the answer was noted: compared, not fetched.
  const again = await clouds
    .receiving(portOf(await clouds.serving(sourceOf([], device))))
    .fetchUserData(path, soon());
  assert.equal(again.digest, expected.digest);
  assert.ok(again.wireBytes < 1000);
});

async function leftovers(clouds: Clouds): Promise<string[]> {
  const names = await readdir(clouds.directory);
  return names.filter((name) => /\.(part|resume|new)$/.test(name));
}

test("an empty disk arrives", async () => {
  await using clouds = await Clouds.start();
  const device = await deviceWith(10 * MIB, []);
  const server = await clouds.serving(sourceOf([], device));
  const path = clouds.path("disk.raw");
  const report = await clouds.receiving(portOf(server)).fetchUserData(path, soon());
  assert.equal(report.allocatedBytes, 0);
  assert.equal(report.digest, (await userDataDigest(device)).digest);
  assert.equal((await stat(path)).size, 10 * MIB);
});

test("another disk of that name is not touched", async () => {
  await using clouds = await Clouds.start();
  const device = await deviceWith(4 * MIB, [{ offset: 0, bytes: Buffer.from("new") }]);
  const server = await clouds.serving(sourceOf([], device));
  const receiver = clouds.receiving(portOf(server));
  for (const sizeBytes of [2 * MIB, 4 * MIB]) {
    const path = clouds.path(`disk-${sizeBytes}`);
    const content = Buffer.alloc(sizeBytes, "old");
    await writeFile(path, content);
    await assert.rejects(receiver.fetchUserData(path, soon()), { code: "transfer.target-exists" });
    assert.equal((await stat(path)).size, sizeBytes);
  }
  assert.deepEqual(await leftovers(clouds), []);
});

test("a disk larger than agreed on is refused", async () => {
  await using clouds = await Clouds.start();
  const server = await clouds.serving(sourceOf([], await deviceWith(4 * MIB, [])));
  const receiver = clouds.receiving(portOf(server), { userDataBytesMax: 3 * MIB });
  const path = clouds.path("disk.raw");
  await assert.rejects(receiver.fetchUserData(path, soon()), { code: "transfer.size-mismatch" });
  assert.deepEqual(await leftovers(clouds), []);
});

test("the limit holds over all streams within a tenth", async () => {
  await using clouds = await Clouds.start();
  const blobs = [randomBytes(4 * MIB), randomBytes(4 * MIB), randomBytes(4 * MIB)];
  const bytesPerSecondMax = 6 * MIB;
  // The sender's time passes only while it holds bytes back, however slow the machine is.
  const clock = handClock();
  const server = await clouds.serving(sourceOf(blobs), { bytesPerSecondMax }, {}, clock);
  const receiver = clouds.receiving(portOf(server));
  await receiver.fetchBlob(referenceTo(Buffer.alloc(0)), soon()).catch(() => undefined);
  const start_ms = clock.monotonic();
  const wire = await Promise.all(blobs.map((b) => receiver.fetchBlob(referenceTo(b), soon())));
  const seconds = (clock.monotonic() - start_ms) / 1000;
  const rate = wire.reduce((sum, bytes) => sum + bytes, 0) / seconds;
  assert.ok(rate < bytesPerSecondMax * 1.1, `${rate} is above the limit`);
  assert.ok(rate > bytesPerSecondMax * 0.9, `${rate} leaves the limit unused`);
});

test("what is not offered, not ready or withdrawn is refused, and the rest still works", async () => {
  await using clouds = await Clouds.start();
  const bytes = randomBytes(1000);
  const server = await clouds.serving(sourceOf([bytes]));
  const receiver = clouds.receiving(portOf(server));
  const other = referenceTo(Buffer.from("other"));
  await assert.rejects(receiver.fetchBlob(other, soon()), { code: "transfer.not-offered" });
  const path = clouds.path("disk.raw");
  await assert.rejects(receiver.fetchUserData(path, soon()), { code: "transfer.not-ready" });
  const unknown = clouds.receiving(portOf(server), { session: "m2" });
  await assert.rejects(unknown.fetchBlob(other, soon()), { code: "transfer.not-offered" });
  await receiver.fetchBlob(referenceTo(bytes), soon());
  await assert.rejects(
    server.offer({
      id: "m1",
      token: clouds.token,
      peerCertificate: clouds.receiver.certificate,
      source: sourceOf([]),
    }),
    { code: "transfer.session-exists" },
  );
  await server.withdraw("m1");
  const code = /transfer\.(not-offered|certificate-mismatch)/;
  await assert.rejects(receiver.fetchBlob(other, soon()), (error: { code?: string }) =>
    code.test(error.code ?? ""),
  );
});

test("a source that cannot be read is told without its paths", async () => {
  await using clouds = await Clouds.start();
  const bytes = sampleBytes(3 * MIB);
  const source = sourceOf([bytes]);
  const server = await clouds.serving({
    ...source,
    openBlob: async (digest) => {
      const reader = await source.openBlob(digest);
      return {
        ...reader,
        read: (target, position) =>
          position < MIB
            ? reader.read(target, position)
            : Promise.reject(new Error("EIO /srv/secret")),
      };
    },
  });
  const receiver = clouds.receiving(portOf(server));
  await assert.rejects(
    receiver.fetchBlob(referenceTo(bytes), soon()),
    (error: { code?: string; message?: string }) =>
      error.code === "transfer.source-failed" && !error.message?.includes("secret"),
  );
  assert.equal(await clouds.store.hasBlob(referenceTo(bytes).digest), false);
});

test("a full disk at the receiver ends the work with its own error and leaves no whole file", async () => {
  await using clouds = await Clouds.start();
  const bytes = randomBytes(6 * MIB);
  const device = await deviceWith(8 * MIB, [{ offset: 0, bytes }]);
  const server = await clouds.serving(sourceOf([], device));
  const full = new Error("ENOSPC");
  const files = clouds.world.files;
  const world = {
    ...clouds.world,
    files: {
      ...files,
      open: async (...args: Parameters<typeof files.open>) => {
        const file = await files.open(...args);
        return {
          ...file,
          write: (source: Uint8Array, position: number) =>
            position < 3 * MIB ? file.write(source, position) : Promise.reject(full),
        };
      },
    },
  };
  Object.assign(clouds, { world });
  const receiver = clouds.receiving(portOf(server));
  const path = clouds.path("disk.raw");
  await assert.rejects(receiver.fetchUserData(path, soon()), full);
  await assert.rejects(stat(path), { code: "ENOENT" });
  Object.assign(world, { files });
  const report = await receiver.fetchUserData(path, soon());
  assert.equal(report.digest, (await userDataDigest(device)).digest);
});
