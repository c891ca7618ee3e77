import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { hasCode, type Digest } from "#core";
import { realWorld } from "#system";
import { downloadError, downloadPackages, packagePath, packageUri } from "./archive.ts";
import type { Lock, LockedPackage } from "./contract.ts";

const CONTENT = "a package file";
const SHA256: Digest = `sha256:${createHash("sha256").update(CONTENT).digest("hex")}`;

async function place(t: TestContext) {
  const root = await mkdtemp(join(tmpdir(), "tessera-archive-"));
  t.after(() => rm(root, { recursive: true, force: true }));
  await mkdir(join(root, "archive/pool"), { recursive: true });
  await writeFile(join(root, "archive/pool/a+b_1.deb"), CONTENT);
  return {
    root,
    archive: join(root, "archive"),
    cacheDirectory: join(root, "cache"),
    workDirectory: join(root, "work"),
  };
}

function entry(change: Partial<LockedPackage> = {}): LockedPackage {
  return {
    name: "a+b",
    version: "1",
    architecture: "all",
    file: "pool/a+b_1.deb",
    source: "local",
    sizeBytes: CONTENT.length,
    sha256: SHA256,
    ...change,
  };
}

function lockOf(archive: string, ...packages: LockedPackage[]): Lock {
  const sources = { local: `file://${archive}` };
  return { name: "x", architecture: "amd64", epoch_s: 0, sources, packages };
}

test("a package file is fetched, verified and kept under its digest", async (t) => {
  const places = await place(t);
  const lock = lockOf(places.archive, entry());
  const seen: number[] = [];
  await downloadPackages(realWorld(), lock, {
    ...places,
    progress: ({ done }) => seen.push(done ?? -1),
  });
  assert.deepEqual(seen, [1]);
  assert.deepEqual(await readdir(join(places.cacheDirectory, "packages")), [
    `${SHA256.slice(7)}.deb`,
  ]);
  await rm(places.archive, { recursive: true });
  await downloadPackages(realWorld(), lock, places);
  assert.deepEqual(await readdir(places.workDirectory), []);
});

test("a cached file that was damaged is fetched anew", async (t) => {
  const places = await place(t);
  const lock = lockOf(places.archive, entry());
  const path = packagePath(places.cacheDirectory, SHA256);
  await mkdir(join(places.cacheDirectory, "packages"), { recursive: true });
  await writeFile(path, CONTENT.toUpperCase());
  await downloadPackages(realWorld(), lock, places);
  const hash = createHash("sha256").update(await realWorld().files.readFile(path, 1000));
  assert.equal(`sha256:${hash.digest("hex")}`, SHA256);
});

test("another file than the locked one is refused and not kept", async (t) => {
  const places = await place(t);
  const other = entry({ sha256: `sha256:${"0".repeat(64)}` });
  await assert.rejects(
    downloadPackages(realWorld(), lockOf(places.archive, other), places),
    (error) => hasCode(error, "build.package-corrupt"),
  );
  assert.deepEqual(await readdir(join(places.cacheDirectory, "packages")), []);
});

test("a file that has left the archive is named, with the remedy", async (t) => {
  const places = await place(t);
  const gone = entry({ name: "gone", file: "pool/gone_1.deb" });
  await assert.rejects(
    downloadPackages(realWorld(), lockOf(places.archive, entry(), gone), places),
    (error) =>
      hasCode(error, "build.package-gone") &&
      error.subject === "gone" &&
      error.remedy?.includes("tessera component build --relock") === true,
  );
});

test("apt's complaints are told apart", () => {
  const lock: Lock = { ...lockOf("/x", entry()), sources: { local: "http://h/debian" } };
  const uri = packageUri(lock, entry());
  assert.equal(uri, "http://h/debian/pool/a%2Bb_1.deb");
  const codeOf = (complaint: string): string => downloadError(lock, [entry()], complaint).code;
  assert.equal(
    codeOf(`E: Failed to fetch ${uri}  404  Not Found [IP: 192.0.2.1 80]`),
    "build.package-gone",
  );
  assert.equal(codeOf(`E: Failed to fetch ${uri}  Hash Sum mismatch`), "build.package-corrupt");
  assert.equal(codeOf(`E: Failed to fetch ${uri}  Could not connect`), "build.download-failed");
  assert.equal(
    codeOf("E: Failed to fetch http://h/other  404  Not Found"),
    "build.download-failed",
  );
});
