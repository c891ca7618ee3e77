import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, mkdirSync, rmSync, symlinkSync, writeFileSync, linkSync } from "node:fs";
import { readFile, readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import * as fc from "fast-check";
import { TesseraError, hasCode } from "#core";
import { realWorld } from "#system";
import { decodeDevice, decodeInode, encodeDevice, encodeInode } from "./erofs-format.ts";
import { planErofs } from "./erofs-plan.ts";
import {
  bufferSource,
  canonicalTree,
  compareTrees,
  fileSource,
  readErofs,
  treeDigest,
  writeErofs,
  writeErofsFile,
  type Tree,
  type TreeEntry,
} from "./index.ts";
import { entriesArbitrary, patternBytes, treeOnDisk } from "./trees.suite.ts";

const world = realWorld();
let folder = "";
before(() => {
  folder = mkdtempSync(join(tmpdir(), "tessera-erofs-"));
});
after(() => {
  rmSync(folder, { recursive: true, force: true });
});

const common = { mode: 0o644, uid: 0, gid: 0, mtime_s: 1, xattrs: new Map<string, Uint8Array>() };
const file = (path: string, bytes: Uint8Array): TreeEntry => {
  return { ...common, type: "file", path, content: bufferSource(bytes) };
};

async function imageOf(tree: Tree) {
  const chunks: Buffer[] = [];
  const written = await writeErofs(tree, {
    write: async (bytes) => void chunks.push(Buffer.from(bytes)),
  });
  return { bytes: Buffer.concat(chunks), written };
}

function fsck(bytes: Uint8Array): void {
  const path = join(folder, "fsck.erofs");
  writeFileSync(path, bytes);
  const { status, stdout, stderr } = spawnSync("fsck.erofs", ["-d3", path], { encoding: "utf8" });
  assert.equal(status, 0, stdout + stderr);
  assert.match(stdout + stderr, /No errors found/);
}

async function survives(entries: TreeEntry[]): Promise<void> {
  const tree = canonicalTree(entries);
  const { bytes, written } = await imageOf(tree);
  assert.equal(bytes.length % 4096, 0);
  assert.equal(written.sizeBytes, bytes.length);
  assert.equal(written.digest, `sha256:${createHash("sha256").update(bytes).digest("hex")}`);
  const uuid = written.uuid.replaceAll("-", "");
  assert.equal(uuid, (await treeDigest(tree)).slice(7, 39));
  assert.equal(bytes.toString("hex", 1024 + 48, 1024 + 64), uuid);
  const back = await readErofs(bufferSource(bytes));
  assert.deepEqual(await compareTrees(tree, back), []);
  assert.equal(await treeDigest(back), await treeDigest(tree));
  fsck(bytes);
}

test("a tree survives the image, and fsck.erofs finds no fault", async () => {
  await fc.assert(fc.asyncProperty(entriesArbitrary(), survives), { numRuns: 60 });
});

async function sameBytes(entries: TreeEntry[], turned: TreeEntry[]): Promise<void> {
  const one = await imageOf(canonicalTree(entries));
  const other = await imageOf(canonicalTree(turned));
  assert.ok(one.bytes.equals(other.bytes));
}

test("the order in which entries are given changes no byte", async () => {
  const orders = entriesArbitrary().chain((entries) => {
    const all = { minLength: entries.length, maxLength: entries.length };
    return fc.tuple(fc.constant(entries), fc.shuffledSubarray(entries, all));
  });
  await fc.assert(
    fc.asyncProperty(orders, ([entries, turned]) => sameBytes(entries, turned)),
    { numRuns: 30 },
  );
});

test("the image of a known tree never changes", async () => {
  const { written } = await imageOf(
    canonicalTree([
      file("etc/motd", Buffer.from("hello\n")),
      file("usr/lib/data", patternBytes(10_000, 1)),
      { ...common, path: "etc/link", type: "symlink", target: "motd" },
      { ...common, path: "dev/null", type: "character", major: 1, minor: 3 },
    ]),
  );
  assert.deepEqual(written, {
    digest: "sha256:55002bd5fe62cfc4f5b64ead4958e7b61ad9dafcf89909d15aad3dc0e1a5cf91",
    sizeBytes: 16384,
    uuid: "d68dc5f7-4a8a-20ca-ba0f-fff038199f69",
  });
});

test("full blocks of a content lie on block borders, so that equal blocks are found", async () => {
  const content = patternBytes(3 * 4096 + 10, 5);
  const { bytes } = await imageOf(canonicalTree([file("x", Buffer.from("x")), file("y", content)]));
  const at = bytes.indexOf(content.subarray(0, 3 * 4096));
  assert.ok(at > 0 && at % 4096 === 0);
});

test("a directory of many long names fills several blocks and is found again", async () => {
  const names = Array.from({ length: 2000 }, (_, index) => `${"n".repeat(index % 200)}-${index}`);
  const tree = canonicalTree(names.map((name) => file(`big/${name}`, Buffer.from(name))));
  const { bytes } = await imageOf(tree);
  fsck(bytes);
  assert.deepEqual(await compareTrees(tree, await readErofs(bufferSource(bytes))), []);
});

test("inode fields beyond 32 bits and device numbers survive", () => {
  const large = {
    layout: 0,
    xattrBytes: 16,
    type: "file" as const,
    mode: 0o4755,
    sizeBytes: 5 * 2 ** 30 + 1,
    union: 0xffff_fff0,
    uid: 0xffff_ffff,
    gid: 0xffff_fffe,
    mtime_s: -5,
  };
  assert.deepEqual(decodeInode(encodeInode(large, 1, 1), 0), large);
  fc.assert(
    fc.property(fc.nat(0xfff), fc.nat(0xf_ffff), (major, minor) => {
      assert.deepEqual(decodeDevice(encodeDevice(major, minor)), { major, minor });
    }),
  );
});

test("contents behind more than 4 GiB of others get their place", () => {
  const hole = { sizeBytes: 5 * 2 ** 30, read: async () => undefined };
  const tree = canonicalTree([
    { ...common, type: "file", path: "a", content: hole },
    file("b", patternBytes(4096, 1)),
  ]);
  const { inodes, blocks, dataBlock } = planErofs(tree);
  const behind = inodes.find(({ entry }) => entry.path === "b");
  assert.equal(behind?.firstBlock, dataBlock + (5 * 2 ** 30) / 4096);
  assert.equal(blocks, (behind?.firstBlock ?? 0) + 1);
  const huge = canonicalTree(
    ["a", "b"].map((path): TreeEntry => {
      return { ...common, type: "file", path, content: { ...hole, sizeBytes: 2 ** 43 } };
    }),
  );
  assert.throws(
    () => planErofs(huge),
    (error) => hasCode(error, "image.too-large"),
  );
});

test("images of mkfs.erofs are read: compact inodes, shared xattrs, inline tails", async () => {
  const tree = join(folder, "made");
  mkdirSync(join(tree, "sub/deep"), { recursive: true });
  for (const size of [0, 1, 4095, 4096, 9000]) {
    writeFileSync(join(tree, `sub/f${size}`), patternBytes(size, size));
    execFileSync("setfattr", ["-n", "user.shared", "-v", "equal", join(tree, `sub/f${size}`)]);
  }
  linkSync(join(tree, "sub/f9000"), join(tree, "sub/deep/link"));
  symlinkSync("f1", join(tree, "sub/symbolic"));
  for (let index = 0; index < 400; index += 1) writeFileSync(join(tree, `sub/many-${index}`), "");
  for (const [name, args] of [
    ["compact", ["-T", "1000000000"]],
    ["extended", ["-E", "force-inode-extended"]],
    ["inline-xattrs", ["-x", "1000"]],
  ] as const) {
    const image = join(folder, `${name}.erofs`);
    execFileSync("mkfs.erofs", [...args, image, tree], { stdio: "ignore" });
    const source = await fileSource(world, image);
    const expected = treeOnDisk(tree, { xattrs: true });
    const differences = await compareTrees(expected, await readErofs(source));
    const timeless = differences.filter((text) => name !== "compact" || !text.includes("mtime"));
    assert.deepEqual(timeless, []);
    await source.close();
  }
});

const unsupported = (error: unknown): boolean => hasCode(error, "image.erofs-unsupported");

test("compressed images and foreign block sizes are named as unsupported", async () => {
  const tree = join(folder, "compressible");
  mkdirSync(tree);
  writeFileSync(join(tree, "zeroes"), Buffer.alloc(100_000, "a"));
  const image = join(folder, "compressed.erofs");
  execFileSync("mkfs.erofs", ["-zlz4", image, tree], { stdio: "ignore" });
  await assert.rejects(readErofs(bufferSource(await readFile(image))), unsupported);
  const { bytes } = await imageOf(canonicalTree([]));
  bytes[1024 + 12] = 14;
  await assert.rejects(readErofs(bufferSource(bytes)), unsupported);
});

test("a directory that contains itself is damaged, not endless", async () => {
  const tree = canonicalTree([{ ...common, mode: 0o755, type: "directory", path: "d" }]);
  const { bytes } = await imageOf(tree);
  const rootNid = bytes.readUInt16LE(1024 + 14);
  const at = bytes.indexOf("...d");
  assert.ok(at > 0);
  const entry = at - 12;
  bytes.writeBigUInt64LE(BigInt(rootNid), entry);
  await assert.rejects(readErofs(bufferSource(bytes)), (error) =>
    hasCode(error, "image.erofs-invalid"),
  );
});

test("an image cut short anywhere is damaged", async () => {
  const { bytes } = await imageOf(canonicalTree([file("a", patternBytes(9000, 1))]));
  for (const length of [0, 1, 1024, 4095, 4096, bytes.length - 4096, bytes.length - 1]) {
    const cut = bufferSource(bytes.subarray(0, length));
    await assert.rejects(readErofs(cut), (error) => hasCode(error, "image.erofs-invalid"));
  }
});

test("flipped bytes give a tree or an error of ours, never anything else", async () => {
  const entries: TreeEntry[] = [
    file("a", patternBytes(5000, 1)),
    file("b/c", patternBytes(10, 1)),
    { ...common, path: "b/s", type: "symlink", target: "c" },
    { ...file("x", Buffer.from("x")), xattrs: new Map([["user.a", Buffer.alloc(70)]]) },
    ...Array.from({ length: 40 }, (_, index) => file(`m/${index}`, Buffer.alloc(0))),
  ];
  const { bytes } = await imageOf(canonicalTree(entries));
  const flip = fc.tuple(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }));
  let damaged = 0;
  const holds = async (flips: readonly [number, number][]): Promise<void> => {
    const image = Buffer.from(bytes);
    for (const [at, mask] of flips) image[at] = (image[at] ?? 0) ^ mask;
    /* With a right checksum, so that more than the superblock is looked at. */
    image.writeUInt32LE(0, 1024 + 8);
    try {
      await treeDigest(await readErofs(bufferSource(image)));
    } catch (error) {
      assert.ok(error instanceof TesseraError, String(error));
      damaged += 1;
    }
  };
  await fc.assert(fc.asyncProperty(fc.array(flip, { minLength: 1, maxLength: 6 }), holds), {
    numRuns: 1500,
  });
  assert.ok(damaged > 150, `only ${damaged} were noticed`);
});

test("a file appears whole or not at all", async () => {
  const path = join(folder, "whole.erofs");
  const broken: TreeEntry = {
    ...common,
    type: "file",
    path: "late",
    content: {
      sizeBytes: 3_000_000,
      read: () => Promise.reject(new TesseraError("corrupt", "image.content-short", "gone")),
    },
  };
  const before = await readdir(folder);
  await assert.rejects(writeErofsFile(world, canonicalTree([broken]), path), (error) =>
    hasCode(error, "image.content-short"),
  );
  assert.deepEqual(await readdir(folder), before);
  const image = await writeErofsFile(world, canonicalTree([]), path);
  const bytes = await readFile(path);
  assert.equal(image.digest, `sha256:${createHash("sha256").update(bytes).digest("hex")}`);
});

test("a content that fails only when it is written fails the image", async () => {
  let reads = 0;
  const bytes = patternBytes(5000, 3);
  const content = {
    sizeBytes: bytes.length,
    async read(target: Uint8Array, position: number) {
      reads += 1;
      if (reads > 1) throw new TesseraError("corrupt", "image.content-short", "gone");
      target.set(bytes.subarray(position, position + target.length));
    },
  };
  const tree = canonicalTree([{ ...common, type: "file", path: "f", content }]);
  await assert.rejects(imageOf(tree), (error) => hasCode(error, "image.content-short"));
});
