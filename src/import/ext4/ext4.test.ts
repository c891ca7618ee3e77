import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import * as fc from "fast-check";
import { TesseraError, hasCode } from "#core";
import { bufferSource, canonicalTree, compareTrees, type TreeEntry } from "#image";
import { entriesArbitrary } from "../../image/trees.suite.ts";
import { isSparse } from "../tree.ts";
import { storedAcl, shownAcl } from "./acl.ts";
import { openExt4 } from "./file-system.ts";
import { diskOf, made, MIB, readBack, written } from "./ext4.suite.ts";

const directory = mkdtempSync(join(tmpdir(), "tessera-ext4-"));
after(() => rmSync(directory, { recursive: true, force: true }));

const common = { mode: 0o644, uid: 1, gid: 2, mtime_s: 1_700_000_000 };
const none = new Map<string, Uint8Array>();
const file = (path: string, bytes: Uint8Array, more: object = {}): TreeEntry => ({
  ...common,
  xattrs: none,
  ...more,
  path,
  type: "file",
  content: bufferSource(bytes),
});

/** Everything that an entry can have, and a directory of several blocks. */
function richTree() {
  const acl = Buffer.from(
    "0200000001000700ffffffff02000600e803000004000500ffffffff10000700ffffffff20000500ffffffff",
    "hex",
  );
  const entries: TreeEntry[] = [
    file("plain", Buffer.from("text")),
    file("hard", Buffer.from("linked"), { linkGroup: "g" }),
    file("many/hard", Buffer.from("linked"), { linkGroup: "g" }),
    file(
      "sparse",
      Buffer.concat([Buffer.alloc(40_960), Buffer.from("end"), Buffer.alloc(100_000)]),
    ),
    file("capable", Buffer.from("x"), {
      xattrs: new Map([
        ["security.capability", Buffer.from("0100000200040000000000000000000000000000", "hex")],
      ]),
    }),
    file("noted", Buffer.from("x"), {
      xattrs: new Map([
        ["system.posix_acl_access", acl],
        ["trusted.x", Buffer.alloc(0)],
        ["user.long", Buffer.alloc(3000, "v")],
      ]),
    }),
    file("old", Buffer.alloc(0), { mtime_s: -5, uid: 70_000, gid: 2 ** 32 - 2 }),
    file("late", Buffer.alloc(0), { mtime_s: 2 ** 33 }),
    { ...common, xattrs: none, path: "short", type: "symlink", target: "../x" },
    { ...common, xattrs: none, path: "long", type: "symlink", target: "y".repeat(300) },
    { ...common, xattrs: none, path: "null", type: "character", major: 1, minor: 3 },
    { ...common, xattrs: none, path: "gone", mode: 0, type: "character", major: 0, minor: 0 },
    { ...common, xattrs: none, path: "big", type: "block", major: 259, minor: 70_000 },
    { ...common, xattrs: none, path: "pipe", type: "fifo" },
    { ...common, xattrs: none, path: "talk", type: "socket" },
    {
      ...common,
      mode: 0o1777,
      xattrs: new Map([["trusted.overlay.opaque", Buffer.from("y")]]),
      path: "opaque",
      type: "directory",
    },
  ];
  for (let index = 0; index < 300; index += 1) {
    entries.push(file(`many/a name that takes its room ${index}`, Buffer.from(String(index))));
  }
  return {
    tree: canonicalTree(entries),
    fractions: new Map([
      ["plain", 123_456_789],
      ["many", 1],
      ["hard", 7],
      ["many/hard", 7],
    ]),
  };
}

test("what is written is read back the same, sound to e2fsck, and the same again", async () => {
  const source = richTree();
  const device = await written(source);
  const back = await readBack(device);
  assert.deepEqual(await compareTrees(source.tree, back.tree), []);
  assert.deepEqual(Object.fromEntries(back.fractions), Object.fromEntries(source.fractions));
  const image = join(directory, "rich.img");
  const bytes = Buffer.alloc(device.sizeBytes);
  await device.read(bytes, 0);
  writeFileSync(image, bytes);
  const check = spawnSync("e2fsck", ["-fn", image], { encoding: "utf8" });
  assert.equal(check.status, 0, check.stdout + check.stderr);
  const again = Buffer.alloc(device.sizeBytes);
  await (await written(source)).read(again, 0);
  assert.ok(again.equals(bytes), "not the same bytes");
  const sparse = back.tree.get("sparse");
  assert.ok(sparse?.type === "file" && isSparse(sparse.content));
  assert.deepEqual(await sparse.content.dataRanges(), [{ offset: 40_960, length: 4096 }]);
});

test("any tree survives writing and reading", async () => {
  await fc.assert(
    fc.asyncProperty(entriesArbitrary(), async (entries) => {
      /* An attribute of more than a block is refused; see below. */
      const limited = entries.map((entry) => {
        const xattrs = new Map([...entry.xattrs].filter(([name]) => name !== "user.long"));
        return { ...entry, xattrs };
      });
      const source = { tree: canonicalTree(limited), fractions: new Map<string, number>() };
      const back = await readBack(await written(source));
      assert.deepEqual(await compareTrees(source.tree, back.tree), []);
    }),
    { numRuns: 25 },
  );
});

function makeDirectory(): string {
  const root = join(directory, "root");
  rmSync(root, { recursive: true, force: true });
  mkdirSync(join(root, "a/b"), { recursive: true });
  writeFileSync(join(root, "a/text"), "some text");
  writeFileSync(join(root, "a/large"), Buffer.alloc(300_000, 7));
  writeFileSync(join(root, "a/holes"), "head");
  truncateSync(join(root, "a/holes"), 5_000_000);
  appendFileSync(join(root, "a/holes"), Buffer.alloc(5000, 3));
  symlinkSync("x".repeat(100), join(root, "a/b/long"));
  for (let index = 0; index < 60; index += 1)
    writeFileSync(join(root, `a/b/${"n".repeat(40)}${index}`), "");
  return root;
}

const KINDS: readonly (readonly string[])[] = [
  ["-t", "ext4"],
  ["-t", "ext2", "-b", "1024"],
  ["-t", "ext3", "-I", "128"],
  ["-t", "ext4", "-b", "1024", "-O", "inline_data", "-I", "256"],
  ["-t", "ext4", "-O", "^metadata_csum,^64bit,^flex_bg,meta_bg,^resize_inode"],
  ["-t", "ext4", "-b", "2048", "-O", "metadata_csum_seed", "-I", "512"],
];

test("every kind that mke2fs makes shows the same files", async () => {
  const root = makeDirectory();
  for (const options of KINDS) {
    const bytes = made(root, join(directory, "kind.img"), options);
    const { tree } = await readBack(diskOf(bytes));
    const text = (path: string) => tree.get(path);
    assert.equal(tree.entries.length, 1 + 2 + 3 + 61, options.join(" "));
    for (const path of ["a/text", "a/large", "a/holes"]) {
      const entry = text(path);
      assert.ok(entry?.type === "file", path);
      const content = new Uint8Array(entry.content.sizeBytes);
      await entry.content.read(content, 0);
      assert.ok(readFileSync(join(root, path)).equals(content), `${path} of ${options.join(" ")}`);
    }
    const long = text("a/b/long");
    assert.equal(long?.type === "symlink" ? long.target : "", "x".repeat(100));
  }
});

test("a journal that was not written back is shown as recovery leaves it", async () => {
  const image = join(directory, "journal.img");
  made(makeDirectory(), image, ["-t", "ext4", "-b", "1024"]);
  const payload = Buffer.alloc(1024, 0x5a);
  payload.writeUInt32BE(0xc03b3998, 0); // looks like the journal's own, so it is escaped there
  writeFileSync(join(directory, "payload"), payload);
  const free = 12_000;
  const commands = join(directory, "commands");
  writeFileSync(commands, `jo\njw -b ${free} ${join(directory, "payload")}\njc\n`);
  execFileSync("debugfs", ["-w", "-f", commands, image], { stdio: "ignore" });
  const pending = readFileSync(image);
  const isPayload = (bytes: Buffer): boolean =>
    bytes.subarray(free * 1024, (free + 1) * 1024).equals(payload);
  assert.ok((pending.readUInt32LE(1024 + 96) & 4) !== 0, "debugfs left nothing to recover");
  assert.ok(!isPayload(pending));
  const shown = await (await openExt4(diskOf(pending), "disk")).block(free);
  assert.ok(shown.equals(payload), "the journal's block is not shown");
  spawnSync("e2fsck", ["-fy", image], { stdio: "ignore" });
  const recovered = readFileSync(image);
  assert.ok(isPayload(recovered), "e2fsck does not agree");
  const [ours, theirs] = [await readBack(diskOf(pending)), await readBack(diskOf(recovered))];
  assert.deepEqual(await compareTrees(theirs.tree, ours.tree), []);
});

test("damage is told by its code, whatever it hits, and nothing beyond the disk is read", async () => {
  const device = await written(richTree(), 8 * MIB);
  const sound = Buffer.alloc(device.sizeBytes);
  await device.read(sound, 0);
  const old = made(makeDirectory(), join(directory, "old.img"), ["-t", "ext2", "-b", "1024"], "8M");
  const change = fc.record({ at: fc.nat(200_000), byte: fc.nat(255) });
  const codes = new Set(["import.image-damaged", "import.unsupported", "import.too-large"]);
  await fc.assert(
    fc.asyncProperty(
      fc.boolean(),
      fc.array(change, { minLength: 1, maxLength: 20 }),
      async (first, changes) => {
        const bytes = Buffer.from(first ? sound : old);
        for (const { at, byte } of changes) bytes[1024 + at] = byte;
        try {
          const { tree } = await readBack(diskOf(bytes));
          for (const entry of tree.entries) {
            if (entry.type === "file" && entry.content.sizeBytes < MIB) {
              await entry.content.read(new Uint8Array(entry.content.sizeBytes), 0);
            }
          }
        } catch (error) {
          const known =
            error instanceof TesseraError &&
            (codes.has(error.code) || error.code.startsWith("image."));
          assert.ok(known, String(error));
        }
      },
    ),
    { numRuns: 40 },
  );
});

const damaged = (bytes: Buffer) =>
  assert.rejects(readBack(diskOf(bytes)), (error) => hasCode(error, "import.image-damaged"));

test("what is cut off or asks for the unknown is refused by name", async () => {
  const device = await written(richTree(), 8 * MIB);
  const sound = Buffer.alloc(device.sizeBytes);
  await device.read(sound, 0);
  await damaged(sound.subarray(0, 4 * MIB));
  const old = made(
    makeDirectory(),
    join(directory, "plain.img"),
    ["-t", "ext2", "-b", "1024"],
    "8M",
  );
  const features: readonly (readonly [number, RegExp])[] = [
    [0x10000, /encryption/],
    [0x1, /compression/],
    [0x4000_0000, /feature 0x40000000/],
  ];
  for (const [bit, text] of features) {
    const bytes = Buffer.from(old);
    bytes.writeUInt32LE(bytes.readUInt32LE(1024 + 96) | bit, 1024 + 96);
    await assert.rejects(readBack(diskOf(bytes)), text);
  }
});

test("what does not fit into the block is refused", async () => {
  const big = {
    tree: canonicalTree([file("big", Buffer.alloc(9 * MIB, 1))]),
    fractions: new Map<string, number>(),
  };
  await assert.rejects(written(big, 8 * MIB), (error) =>
    hasCode(error, "import.data-size-invalid"),
  );
  const xattrs = new Map([["user.x", Buffer.alloc(5000)]]);
  const long = {
    tree: canonicalTree([file("x", Buffer.alloc(1), { xattrs })]),
    fractions: new Map<string, number>(),
  };
  await assert.rejects(written(long), (error) => hasCode(error, "import.xattr-unsuitable"));
});

test("ACLs are shown and stored in their two forms", () => {
  const stored = Buffer.from("0100000001000700020006000500000020000500", "hex");
  const shown = shownAcl(stored);
  assert.ok(shown !== undefined);
  assert.deepEqual(storedAcl(shown), stored);
  assert.equal(shownAcl(stored.subarray(0, 13)), undefined);
  assert.equal(storedAcl(Buffer.from("0100", "hex")), undefined);
});
