import { createHash } from "node:crypto";
import { join } from "node:path";
import { hexOf, TesseraError, type Digest, type World } from "#core";
import { lastLines, runClean } from "./commands.ts";
import type { BuildPlaces, Lock, LockedPackage } from "./contract.ts";
import { aptSettings } from "./settings.ts";

/** Package files that one download program fetches in turn, and how many of these run at a time. */
const BATCH = 16;
const BATCHES_AT_ONCE = 3;
const CHUNK_BYTES = 2 ** 20;

/** Where a package file of this digest is kept. */
export function packagePath(cacheDirectory: string, sha256: Digest): string {
  return join(cacheDirectory, "packages", `${hexOf(sha256)}.deb`);
}

async function fileDigest(world: World, path: string): Promise<Digest | undefined> {
  if ((await world.files.status(path)) === undefined) return undefined;
  const file = await world.files.open(path, "read");
  try {
    const hash = createHash("sha256");
    const chunk = new Uint8Array(CHUNK_BYTES);
    for (let position = 0; ;) {
      const length = await file.read(chunk, position);
      if (length === 0) return `sha256:${hash.digest("hex")}`;
      hash.update(chunk.subarray(0, length));
      position += length;
    }
  } finally {
    await file.close();
  }
}

async function isHeld(world: World, path: string, entry: LockedPackage): Promise<boolean> {
  const status = await world.files.status(path);
  if (status?.sizeBytes !== entry.sizeBytes) return false;
  return (await fileDigest(world, path)) === entry.sha256;
}

/**
 * Brings every package file of the lock into the cache, each verified by its sha256 and put there
 * under its digest only when whole. Fetching goes through apt's own downloader, so a proxy set
 * for apt is used.
 *
 * @throws `build.package-gone` (environment) when the archive no longer has a locked file
 * @throws `build.download-failed` (environment), `build.package-corrupt` (corrupt)
 */
export async function downloadPackages(
  world: World,
  lock: Lock,
  places: BuildPlaces,
): Promise<void> {
  await world.files.makeDirectory(join(places.cacheDirectory, "packages"));
  const missing: LockedPackage[] = [];
  for (const entry of lock.packages) {
    const path = packagePath(places.cacheDirectory, entry.sha256);
    if (!(await isHeld(world, path, entry))) missing.push(entry);
  }
  if (missing.length === 0) return;
  await fetchBatches(world, lock, missing, places);
}

async function fetchBatches(
  world: World,
  lock: Lock,
  missing: readonly LockedPackage[],
  places: BuildPlaces,
): Promise<void> {
  const queue = missing.filter((_, index) => index % BATCH === 0).map((_, index) => index * BATCH);
  const directory = join(places.workDirectory, `download-${world.random.uuid()}`);
  await world.files.makeDirectory(directory);
  const settings = await aptSettings(world, directory);
  const total = missing.length;
  let done = 0;
  const worker = async (): Promise<void> => {
    for (let start = queue.shift(); start !== undefined; start = queue.shift()) {
      places.signal?.throwIfAborted();
      const batch = missing.slice(start, start + BATCH);
      await fetchBatch(world, lock, batch, directory, settings, places);
      done += batch.length;
      places.progress?.({ step: "download", detail: lock.name, done, total });
    }
  };
  try {
    const results = await Promise.allSettled(Array.from({ length: BATCHES_AT_ONCE }, worker));
    const failure = results.find((result) => result.status === "rejected");
    if (failure !== undefined) throw failure.reason;
  } finally {
    await world.files.removeTree(directory);
  }
}

/** The address of a package file; apt's `copy:` method reads local archives. */
export function packageUri(lock: Lock, entry: LockedPackage): string {
  const root = (lock.sources[entry.source] ?? "").replace(/^file:\/\//, "copy:");
  return `${root}/${entry.file.split("/").map(encodeURIComponent).join("/")}`;
}

async function fetchBatch(
  world: World,
  lock: Lock,
  batch: readonly LockedPackage[],
  directory: string,
  settings: string,
  places: BuildPlaces,
): Promise<void> {
  const targets = batch.map((entry) => join(directory, `${hexOf(entry.sha256)}.deb`));
  const triples = batch.flatMap((entry, index) => [
    packageUri(lock, entry),
    targets[index] ?? "",
    `SHA256:${hexOf(entry.sha256)}`,
  ]);
  const result = await runClean(world, "/usr/lib/apt/apt-helper", ["download-file", ...triples], {
    environment: { APT_CONFIG: settings },
    ...(places.signal && { signal: places.signal }),
  });
  if (result.exitCode !== 0) throw downloadError(lock, batch, result.errorText);
  for (const [index, entry] of batch.entries()) {
    const target = targets[index] ?? "";
    if (!(await isHeld(world, target, entry))) throw corrupt(entry);
    await syncFile(world, target);
    await world.files.rename(target, packagePath(places.cacheDirectory, entry.sha256));
  }
}

async function syncFile(world: World, path: string): Promise<void> {
  const file = await world.files.open(path, "write");
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

/** What apt's complaint means: a file that is gone, that differs, or an archive out of reach. */
export function downloadError(
  lock: Lock,
  batch: readonly LockedPackage[],
  complaint: string,
): TesseraError {
  const fault = (pattern: RegExp): LockedPackage | undefined => {
    const line = complaint.split("\n").find((text) => text.startsWith("E:") && pattern.test(text));
    return batch.find((entry) => line?.includes(`${packageUri(lock, entry)} `));
  };
  const gone = fault(/ (404|410) |File not found|No such file/);
  if (gone !== undefined) {
    const text = `the archive no longer has ${gone.name} ${gone.version}`;
    return new TesseraError("environment", "build.package-gone", text, {
      subject: gone.name,
      remedy: "resolve the recipe anew: tessera component build --relock",
    });
  }
  const different = fault(/Hash Sum mismatch|unexpected size/);
  if (different !== undefined) return corrupt(different);
  const text = `cannot fetch the packages of ${lock.name}: ${lastLines(complaint)}`;
  return new TesseraError("environment", "build.download-failed", text, {
    subject: lock.name,
    remedy: "look whether the archive can be reached, then try again",
  });
}

function corrupt(entry: LockedPackage): TesseraError {
  const text = `what the archive gave for ${entry.name} ${entry.version} is not the locked file`;
  return new TesseraError("corrupt", "build.package-corrupt", text, {
    subject: entry.sha256,
    remedy: "try again; if it stays, make the lock anew: tessera component build --relock",
  });
}
