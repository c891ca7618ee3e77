/** Images as other implementations see them: fsck.erofs extracts them, and the kernel (as root). */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { realWorld } from "#system";
import {
  bufferSource,
  canonicalTree,
  compareTrees,
  mergeTrees,
  treeDifference,
  writeErofsFile,
  type Tree,
  type TreeEntry,
} from "./index.ts";
import { patternBytes, treeOnDisk } from "./trees.suite.ts";

const world = realWorld();
const needsRoot = process.getuid?.() === 0 ? false : "mounting needs root";
let folder = "";
before(() => {
  folder = mkdtempSync(join(tmpdir(), "tessera-mount-"));
});
after(() => {
  rmSync(folder, { recursive: true, force: true });
});

const common = { mode: 0o644, uid: 0, gid: 0, mtime_s: 1e9, xattrs: new Map<string, Buffer>() };
const file = (path: string, bytes: Uint8Array, fields: Partial<typeof common> = {}): TreeEntry => {
  return { ...common, ...fields, type: "file", path, content: bufferSource(bytes) };
};
const directory = (path: string, fields: Partial<typeof common> = {}): TreeEntry => {
  return { ...common, mode: 0o755, ...fields, type: "directory", path };
};

/** `user::rwx, user:1000:r-x, group::r-x, mask::r-x, other::---` (Linux, posix_acl_xattr.h). */
const ACL = Buffer.from(
  "0200000001000700ffffffff02000500e803000004000500ffffffff10000500ffffffff20000000ffffffff",
  "hex",
);
const CAPABILITY = Buffer.from("0100000200040000000000000000000000000000", "hex");

function plainEntries(): TreeEntry[] {
  const linked = { ...file("dir/one", patternBytes(9000, 2)), linkGroup: "g" } as TreeEntry;
  return [
    directory("", { mtime_s: 5 }),
    file("empty", Buffer.alloc(0)),
    ...[1, 4031, 4032, 4033, 4096, 4097, 70_000].map((size) =>
      file(`size/${size}`, patternBytes(size, size), { mode: 0o4755, mtime_s: 2 ** 33 + size }),
    ),
    directory("dir", { mode: 0o1777, uid: 1000, gid: 2000 }),
    linked,
    { ...linked, path: "other" },
    { ...common, type: "symlink", path: "short", target: "size/1" },
    { ...common, type: "symlink", path: "long", target: `./${"x/".repeat(2000)}` },
    { ...common, type: "symlink", path: "longest", target: "y".repeat(4090) },
    { ...common, type: "fifo", path: "pipe" },
    { ...common, type: "socket", path: "socket" },
    { ...common, type: "character", path: "null", major: 1, minor: 3 },
    { ...common, type: "block", path: "disk", major: 259, minor: 70_000 },
    file("owned", patternBytes(10, 1), { uid: 2 ** 31, gid: 70_000 }),
    ...Array.from({ length: 1500 }, (_, index) => file(`many/${index}-é`, Buffer.alloc(1, index))),
  ];
}

function xattrEntries(): TreeEntry[] {
  return [
    file("xattr/program", patternBytes(100, 1), {
      xattrs: new Map([["security.capability", CAPABILITY]]),
    }),
    file("xattr/large", patternBytes(100, 1), {
      xattrs: new Map([
        ["user.large", patternBytes(20_000, 1)],
        ["user.small", Buffer.from("s")],
      ]),
    }),
    directory("xattr/acl", {
      mode: 0o750,
      xattrs: new Map([
        ["system.posix_acl_access", ACL],
        ["system.posix_acl_default", ACL],
        ["trusted.made", Buffer.from("here")],
      ]),
    }),
  ];
}

/** Mounts, gives the mount point to `use`, and unmounts whatever happens. */
async function mounted<T>(
  args: readonly string[],
  use: (at: string) => T | Promise<T>,
): Promise<T> {
  const at = mkdtempSync(join(folder, "at-"));
  execFileSync("mount", [...args, at]);
  try {
    return await use(at);
  } finally {
    execFileSync("umount", [at]);
  }
}

const erofsMount = (image: string): string[] => ["-t", "erofs", "-o", "loop,ro", image];

async function imageFile(tree: Tree, name: string): Promise<string> {
  const path = join(folder, name);
  await writeErofsFile(world, tree, path);
  return path;
}

test("fsck.erofs extracts what was put in", async () => {
  const root = process.getuid?.() === 0;
  const all = canonicalTree(plainEntries());
  const tree = canonicalTree(
    all.entries.filter(({ type }) => root || (type !== "character" && type !== "block")),
  );
  const image = await imageFile(tree, "extract.erofs");
  const target = join(folder, "extracted");
  mkdirSync(target);
  execFileSync("fsck.erofs", [`--extract=${target}`, "--overwrite", image], { stdio: "ignore" });
  const differences = await compareTrees(tree, treeOnDisk(target, { xattrs: false }));
  /* Without root owners are lost, and the program does not set every time, nor make links. */
  const kept = differences.filter((text) => !/: (link|mtime|mode|uid|gid) /.test(text));
  assert.deepEqual(kept, []);
});

test("the kernel shows what was put in", { skip: needsRoot }, async () => {
  const tree = canonicalTree([...plainEntries(), ...xattrEntries()]);
  const image = await imageFile(tree, "mounted.erofs");
  await mounted(erofsMount(image), async (at) => {
    assert.deepEqual(await compareTrees(tree, treeOnDisk(at, { xattrs: true })), []);
  });
});

test("overlayfs makes the target of base and difference", { skip: needsRoot }, async () => {
  const base = canonicalTree([
    file("kept", patternBytes(5000, 1)),
    file("edited", patternBytes(5000, 2)),
    file("gone", patternBytes(10, 3)),
    file("removed/deep/file", patternBytes(10, 4)),
    file("was-file", patternBytes(10, 5)),
    file("was-directory/file", patternBytes(10, 6)),
    directory("mode"),
    file("mode/inside", patternBytes(10, 7)),
  ]);
  const target = canonicalTree([
    file("kept", patternBytes(5000, 1)),
    file("edited", patternBytes(5000, 9)),
    file("was-file/now-directory", patternBytes(10, 5)),
    file("was-directory", patternBytes(10, 6)),
    directory("mode", { mode: 0o700 }),
    file("mode/inside", patternBytes(10, 7)),
    file("new/sub/file", patternBytes(10, 8)),
  ]);
  const upper = await treeDifference(base, target);
  const lower = await imageFile(base, "base.erofs");
  const above = await imageFile(upper, "upper.erofs");
  await mounted(erofsMount(lower), (lowerAt) =>
    mounted(erofsMount(above), (upperAt) =>
      mounted(["-t", "overlay", "-o", `lowerdir=${upperAt}:${lowerAt}`, "overlay"], async (at) => {
        const shown = treeOnDisk(at, { xattrs: true });
        assert.deepEqual(await compareTrees(target, shown), []);
        assert.deepEqual(await compareTrees(mergeTrees([base, upper]), shown), []);
      }),
    ),
  );
});

test("a damaged image is told by fsck.erofs too", async () => {
  const image = join(folder, "damaged.erofs");
  writeFileSync(image, Buffer.alloc(8192));
  assert.throws(() => execFileSync("fsck.erofs", [image], { stdio: "ignore" }));
});
