/** The user data of machines on disk, and what is kept of them; whatever dies, a copy is whole. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { hashBlocks, openFileDevice, saveBlockDigests, userDataDigest } from "#block";
import { TesseraError, type Digest, type World } from "#core";
import { realWorld } from "#system";
import {
  beginRun,
  diskOf,
  formatArrived,
  joinKept,
  keepArrived,
  keptDigest,
  keptSize,
  noteSent,
  openArrived,
  openKept,
  openMachineData,
  placeArrived,
  removeKept,
  unformatKept,
} from "./machine-data.ts";

const world = realWorld();
const SIZE = 4 * 2 ** 20;
const EVERYTHING = Number.MAX_SAFE_INTEGER;

async function scene() {
  const root = await mkdtemp(join(tmpdir(), "tessera-data-"));
  const directory = join(root, "machine");
  const incoming = join(root, "data.raw");
  await mkdir(directory);
  return {
    directory,
    incoming,
    [Symbol.asyncDispose]: () => rm(root, { recursive: true }),
  };
}

/** Puts a whole user data block where it arrives, as the transfer does. */
async function arrive(path: string, blocks = true): Promise<Digest> {
  await writeFile(path, randomBytes(SIZE));
  const device = await openFileDevice(world, path, { readOnly: true });
  const digests = await hashBlocks(device);
  await device.close();
  if (blocks) await saveBlockDigests(world, `${path}.blocks`, digests);
  return digests.userDataDigest().digest;
}

function guestWrites(directory: string): void {
  execFileSync("qemu-io", ["-c", "write -P 7 131072 70000", join(directory, "data.qcow2")]);
}

async function digestOf(directory: string): Promise<Digest> {
  const device = await openMachineData(world, directory);
  try {
    return (await userDataDigest(device)).digest;
  } finally {
    await device.close();
  }
}

/** Hands the machine over: what was read is noted. */
async function handOver(directory: string): Promise<Digest> {
  const device = await openMachineData(world, directory);
  const digests = await hashBlocks(device);
  await device.close();
  await noteSent(world, directory, digests);
  return digests.userDataDigest().digest;
}

/** A machine comes, runs and is handed over; gives the digest of what is kept of it. */
async function stayed({ directory, incoming }: Awaited<ReturnType<typeof scene>>): Promise<Digest> {
  await arrive(incoming);
  await placeArrived(world, incoming, directory);
  await keepArrived(world, directory, EVERYTHING);
  guestWrites(directory);
  return await handOver(directory);
}

/** A world whose file system dies at its nth change. */
function dying(changes: number): World {
  let left = changes;
  const { files } = world;
  const pass = (): void => {
    left -= 1;
    if (left < 0) throw new TesseraError("environment", "system.io", "the power is gone");
  };
  return {
    ...world,
    files: {
      ...files,
      open: async (path, mode, permissions) => {
        const file = await files.open(path, mode, permissions);
        const write: typeof file.write = async (source, position) => {
          pass();
          await file.write(source, position);
        };
        return { ...file, write };
      },
      rename: async (from, to) => {
        pass();
        await files.rename(from, to);
      },
      remove: async (path) => {
        pass();
        await files.remove(path);
      },
    },
  };
}

test("what arrived stays under an overlay, and what has changed since is known", async () => {
  await using made = await scene();
  const { directory, incoming } = made;
  const digest = await arrive(incoming);
  await placeArrived(world, incoming, directory);
  await keepArrived(world, directory, EVERYTHING);
  await beginRun(world, directory);
  const { dataPath, basePath } = await diskOf(world, directory);
  assert.deepEqual(
    [dataPath, basePath],
    [join(directory, "data.qcow2"), join(directory, "data.raw")],
  );
  guestWrites(directory);
  assert.notEqual(await digestOf(directory), digest);
  const lineage = await openArrived(world, directory, digest);
  assert.ok(lineage !== undefined);
  assert.deepEqual(lineage.changed, [{ offset: 131_072, length: 131_072 }]);
  assert.equal((await userDataDigest(lineage.old)).digest, digest);
  await lineage.old.close();
  assert.equal(await openArrived(world, directory, await digestOf(directory)), undefined);
});

test("without a list, a limit or qemu-img the machine writes to what arrived", async () => {
  const broken: World = {
    ...world,
    processes: {
      ...world.processes,
      run: () => Promise.reject(new TesseraError("environment", "system.program-missing", "no")),
    },
  };
  for (const [one, blocks, bytesMax] of [
    [world, false, EVERYTHING],
    [world, true, 0],
    [broken, true, EVERYTHING],
  ] as const) {
    await using made = await scene();
    const digest = await arrive(made.incoming, blocks);
    await placeArrived(world, made.incoming, made.directory);
    await keepArrived(one, made.directory, bytesMax);
    assert.deepEqual(await readdir(made.directory), ["data.raw"]);
    assert.equal(await digestOf(made.directory), digest);
    assert.equal(await keptDigest(world, made.directory), undefined);
    assert.equal(await joinKept(world, made.directory), undefined);
  }
});

test("a copy that was handed over counts until the machine runs again", async () => {
  await using made = await scene();
  const { directory } = made;
  const handed = await stayed(made);
  assert.equal(await keptDigest(world, directory), handed);
  await beginRun(world, directory);
  assert.equal(await keptDigest(world, directory), undefined);
});

test("killed while copy and overlay become one file, the copy is the same", async () => {
  for (let changes = 0; ; changes += 1) {
    await using made = await scene();
    const { directory } = made;
    const handed = await stayed(made);
    const died = await joinKept(dying(changes), directory).then(
      () => false,
      () => true,
    );
    assert.equal(await digestOf(directory), handed, `another copy after ${changes} changes`);
    const joined = await joinKept(world, directory);
    assert.equal(joined?.digest, handed);
    assert.equal(await digestOf(directory), handed);
    assert.deepEqual(await readdir(directory), ["data.raw", "data.raw.blocks"]);
    if (!died) {
      assert.ok(changes > 4);
      return;
    }
  }
});

test("killed while a copy is opened for changes, it is the same, and none that anybody knows", async () => {
  for (let changes = 0; ; changes += 1) {
    await using made = await scene();
    const { directory } = made;
    const handed = await stayed(made);
    const opened = await openKept(dying(changes), directory, SIZE).catch(() => undefined);
    await opened?.close();
    assert.equal(await digestOf(directory), handed, `another copy after ${changes} changes`);
    const again = await openKept(world, directory, SIZE);
    assert.equal(again && (await userDataDigest(again)).digest, handed);
    await again?.close();
    assert.deepEqual(await readdir(directory), ["data.raw"]);
    assert.equal(await keptDigest(world, directory), undefined);
    if (opened !== undefined) break;
  }
  await using made = await scene();
  await arrive(join(made.directory, "data.raw"));
  assert.equal(await openKept(world, made.directory, 2 * SIZE), undefined);
});

test("killed while new data take the place of an old copy, the new data are whole", async () => {
  for (let changes = 0; ; changes += 1) {
    await using made = await scene();
    const { directory, incoming } = made;
    await arrive(incoming);
    await placeArrived(world, incoming, directory);
    await keepArrived(world, directory, EVERYTHING);
    guestWrites(directory);
    const digest = await arrive(incoming);
    const died = await placeArrived(dying(changes), incoming, directory).then(
      () => false,
      () => true,
    );
    await placeArrived(world, incoming, directory);
    await keepArrived(world, directory, EVERYTHING);
    assert.equal(await digestOf(directory), digest, `other data after ${changes} changes`);
    if (!died) return;
  }
});

test("a copy that is removed leaves the description", async () => {
  await using made = await scene();
  await arrive(made.incoming);
  await placeArrived(world, made.incoming, made.directory);
  await keepArrived(world, made.directory, EVERYTHING);
  await writeFile(join(made.directory, "machine.json"), "{}");
  await removeKept(world, made.directory);
  assert.deepEqual(await readdir(made.directory), ["machine.json"]);
  assert.ok(!existsSync(made.incoming));
});

test("another format takes the place of what arrived, and raw its place again, whatever dies between", async () => {
  await using at = await scene();
  const { directory, incoming } = at;
  const digest = await arrive(incoming);
  await placeArrived(world, incoming, directory);
  const raw = await readFile(join(directory, "data.raw"));
  /* A conversion that was cut off, and one that was whole before the raw file went. */
  await writeFile(join(directory, "disk.vdi.new"), "half");
  await formatArrived(world, directory, "vdi");
  assert.deepEqual(await readdir(directory), ["disk.vdi"]);
  await writeFile(join(directory, "data.raw"), "older");
  assert.deepEqual(await diskOf(world, directory), {
    dataPath: join(directory, "disk.vdi"),
    dataFormat: "vdi",
  });
  assert.equal(await digestOf(directory), digest);
  await formatArrived(world, directory, "vdi");
  assert.deepEqual(await readdir(directory), ["disk.vdi"]);
  assert.equal(await openArrived(world, directory, digest), undefined);
  assert.ok(((await keptSize(world, directory))?.bytes ?? 0) >= SIZE);

  /* The copy that stays: its list of digests came before. */
  const device = await openMachineData(world, directory);
  await noteSent(world, directory, await hashBlocks(device));
  await device.close();
  assert.equal(await keptDigest(world, directory), undefined, "not before it is raw");
  await writeFile(join(directory, "data.raw"), "of a conversion that was cut off");
  await unformatKept(world, directory);
  await unformatKept(world, directory);
  assert.equal(await keptDigest(world, directory), digest);
  assert.ok((await readFile(join(directory, "data.raw"))).equals(raw));
  await removeKept(world, directory);
  assert.deepEqual(await readdir(directory), []);
});
