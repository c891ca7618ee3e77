/** Tar archives read as GNU tar writes them, cpio archives written as GNU cpio reads them. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import * as fc from "fast-check";
import { pack } from "tar-stream";
import { TesseraError, hasCode } from "#core";
import { realWorld } from "#system";
import {
  bufferSource,
  canonicalTree,
  compareTrees,
  fileSource,
  readAll,
  readTar,
  writeCpio,
  type Tree,
  type TreeEntry,
} from "./index.ts";
import { parsePax } from "./pax.ts";
import { entriesArbitrary, patternBytes, treeOnDisk } from "./trees.suite.ts";

const world = realWorld();
let folder = "";
let made = "";

before(() => {
  folder = mkdtempSync(join(tmpdir(), "tessera-archive-"));
  made = join(folder, "made");
  mkdirSync(join(made, "sub/deep"), { recursive: true });
  for (const size of [0, 1, 511, 512, 513, 70_000]) {
    writeFileSync(join(made, `sub/f${size}`), patternBytes(size, size));
  }
  const long = join(made, "n".repeat(120), "m".repeat(120));
  mkdirSync(long, { recursive: true });
  writeFileSync(join(long, "ü-\u{1f600}"), "long");
  symlinkSync(`../${"t".repeat(150)}`, join(made, "sub/long-target"));
  linkSync(join(made, "sub/f513"), join(made, "sub/deep/linked"));
  linkSync(join(made, "sub/f513"), join(made, "a-link-before"));
  execFileSync("mkfifo", [join(made, "pipe")]);
  const binary = ["-n", "user.binary", "-v", "0x00ff0a3d80fe"];
  execFileSync("setfattr", [...binary, join(made, "sub/f1")]);
  execFileSync("setfattr", ["-n", "user.text", "-v", "a=b", join(made, "sub")]);
});
after(() => {
  rmSync(folder, { recursive: true, force: true });
});

const invalid = (error: unknown): boolean => hasCode(error, "image.tar-invalid");

async function treeInTar(options: readonly string[]): Promise<Tree> {
  const path = join(folder, "archive.tar");
  execFileSync("tar", [...options, "--numeric-owner", "-cf", path, "-C", made, "."]);
  const source = await fileSource(world, path);
  try {
    const bytes = await readAll(source, 1 << 24);
    return await readTar(bufferSource(bytes));
  } finally {
    await source.close();
  }
}

async function packed(fill: (archive: ReturnType<typeof pack>) => void): Promise<Buffer> {
  const archive = pack();
  fill(archive);
  archive.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of archive) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

test("a pax archive of GNU tar gives the tree on disk, binary xattrs and links too", async () => {
  const tree = await treeInTar(["--format=pax", "--xattrs", "--xattrs-include=*"]);
  assert.deepEqual(await compareTrees(treeOnDisk(made, { xattrs: true }), tree), []);
});

test("a GNU archive with long names gives the tree on disk, without xattrs", async () => {
  const tree = await treeInTar(["--format=gnu"]);
  assert.deepEqual(await compareTrees(treeOnDisk(made, { xattrs: false }), tree), []);
});

test("what another writer makes is read: devices, sizes in pax records, later entries win", async () => {
  const bytes = await packed((archive) => {
    const mtime = new Date(5000);
    archive.entry({
      name: "./dev/null",
      type: "character-device",
      devmajor: 1,
      devminor: 3,
      mtime,
    });
    archive.entry({ name: "/abs/file", mode: 0o600, uid: 7, gid: 8, mtime }, "first");
    archive.entry({ name: "abs/file", mode: 0o640, uid: 7, gid: 8, mtime }, "second");
    archive.entry({ name: "abs/link", type: "link", linkname: "./abs/file", mtime });
  });
  const tree = await readTar(bufferSource(bytes));
  const device = tree.get("dev/null");
  assert.ok(device?.type === "character" && device.major === 1 && device.minor === 3);
  const file = tree.get("abs/file");
  assert.ok(file?.type === "file" && file.mode === 0o640 && file.uid === 7 && file.mtime_s === 5);
  assert.equal(Buffer.from(await readAll(file.content, 100)).toString(), "second");
  assert.equal(file.linkGroup, "abs/file");
  const link = tree.get("abs/link");
  assert.ok(link?.type === "file" && link.linkGroup === "abs/file");
});

test("damaged archives are refused", async () => {
  const bytes = await packed((archive) => {
    archive.entry({ name: "file" }, "x".repeat(2000));
  });
  const refuse = (change: (copy: Buffer) => Buffer): Promise<void> =>
    assert.rejects(readTar(bufferSource(change(Buffer.from(bytes)))), invalid);
  await refuse((copy) => copy.subarray(0, 300));
  await refuse((copy) => copy.subarray(0, 1500));
  await refuse((copy) => copy.fill("b", 0, 1));
  for (const [name, linkname] of [
    ["../escape", undefined],
    ["link", "nowhere"],
  ]) {
    const bad = await packed((archive) => {
      if (linkname === undefined) archive.entry({ name: name ?? "" }, "");
      else archive.entry({ name: name ?? "", type: "link", linkname });
    });
    await assert.rejects(readTar(bufferSource(bad)), invalid);
  }
});

test("flipped bytes of an archive give a tree or an error of ours", async () => {
  const path = join(folder, "fuzz.tar");
  execFileSync("tar", ["--format=pax", "--xattrs", "-cf", path, "-C", made, "sub"]);
  const source = await fileSource(world, path);
  const bytes = await readAll(source, 1 << 24);
  await source.close();
  const flip = fc.tuple(fc.nat(6000), fc.integer({ min: 1, max: 255 }));
  let refused = 0;
  const holds = async ([at, mask]: [number, number]): Promise<void> => {
    const copy = Buffer.from(bytes);
    copy[at] = (copy[at] ?? 0) ^ mask;
    try {
      await readTar(bufferSource(copy));
    } catch (error) {
      assert.ok(error instanceof TesseraError, String(error));
      refused += 1;
    }
  };
  await fc.assert(fc.asyncProperty(flip, holds), { numRuns: 400 });
  assert.ok(refused > 20);
});

test("pax records keep bytes and are held to their lengths", () => {
  const value = Buffer.from([0x00, 0xff, 0x0a, 0x3d]);
  const record = Buffer.concat([Buffer.from("10 ab="), value.subarray(0, 3), Buffer.from("\n")]);
  const other = Buffer.from("7 c=d=\n");
  const parsed = parsePax(Buffer.concat([record, other]));
  assert.deepEqual(
    [...parsed],
    [
      ["ab", value.subarray(0, 3)],
      ["c", Buffer.from("d=")],
    ],
  );
  for (const text of [
    "6 a=b",
    "7 a=b\n",
    "5 a=b\n",
    "x a=b\n",
    "0 a=b\n",
    "6 a-b\n",
    "99999999999 a=b\n",
  ]) {
    assert.throws(() => parsePax(Buffer.from(text)), invalid, text);
  }
});

async function cpioOf(tree: Tree): Promise<Buffer> {
  const chunks: Buffer[] = [];
  const written = await writeCpio(tree, {
    write: async (bytes) => void chunks.push(Buffer.from(bytes)),
  });
  const bytes = Buffer.concat(chunks);
  assert.equal(written.sizeBytes, bytes.length);
  assert.equal(written.digest, `sha256:${createHash("sha256").update(bytes).digest("hex")}`);
  return bytes;
}

function extractable(entries: readonly TreeEntry[]): TreeEntry[] {
  const root = process.getuid?.() === 0;
  return entries
    .filter(({ type }) => type !== "socket" && (root || (type !== "character" && type !== "block")))
    .map((entry) => {
      return { ...entry, mode: entry.mode | 0o700, mtime_s: entry.mtime_s % 2 ** 31 };
    });
}

async function cpioExtracts(entries: TreeEntry[]): Promise<void> {
  const target = mkdtempSync(join(folder, "cpio-"));
  const tree = canonicalTree(extractable(entries));
  const bytes = await cpioOf(tree);
  execFileSync("cpio", ["-idm", "--quiet", "--no-absolute-filenames"], {
    cwd: target,
    input: bytes,
  });
  const differences = await compareTrees(tree, treeOnDisk(target, { xattrs: false }));
  /* The root is not in the archive, parents' times change, and owners need root. */
  const kept = differences.filter(
    (text) => !text.startsWith(": ") && !/: (mtime|uid|gid) /.test(text),
  );
  assert.deepEqual(kept, []);
  rmSync(target, { recursive: true });
}

test("GNU cpio extracts what was put in", async () => {
  await fc.assert(fc.asyncProperty(entriesArbitrary({ xattrs: false }), cpioExtracts), {
    numRuns: 15,
  });
});

async function cpioIsStable(entries: TreeEntry[]): Promise<void> {
  const fit = extractable(entries);
  const one = await cpioOf(canonicalTree(fit));
  assert.ok(one.equals(await cpioOf(canonicalTree(fit.toReversed()))));
  assert.equal(one.length % 512, 0);
}

test("equal trees give equal archives; what cpio cannot hold is refused", async () => {
  await fc.assert(fc.asyncProperty(entriesArbitrary({ xattrs: false }), cpioIsStable), {
    numRuns: 20,
  });
  const xattrs = new Map([["user.a", Buffer.alloc(1)]]);
  const common = { type: "fifo", path: "f", mode: 0, uid: 0, gid: 0, mtime_s: 0, xattrs } as const;
  for (const entry of [common, { ...common, xattrs: new Map<string, Buffer>(), mtime_s: -1 }]) {
    await assert.rejects(cpioOf(canonicalTree([entry])), (error) =>
      hasCode(error, "image.entry-invalid"),
    );
  }
});
