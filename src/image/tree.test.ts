import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { hasCode } from "#core";
import { bufferSource, canonicalTree, compareTrees, treeDigest, type TreeEntry } from "./index.ts";
import { compareBytes } from "./path.ts";
import { entriesArbitrary } from "./trees.suite.ts";

const common = { mode: 0o644, uid: 0, gid: 0, mtime_s: 1, xattrs: new Map<string, Uint8Array>() };
const file = (path: string, text = ""): TreeEntry => {
  return { ...common, type: "file", path, content: bufferSource(Buffer.from(text)) };
};
const directory = (path: string): TreeEntry => ({ ...common, type: "directory", path });
const code = (expected: string) => (error: unknown) => hasCode(error, expected);

test("parents that are missing are added, plain and at the epoch", () => {
  const tree = canonicalTree([file("a/b/c")]);
  assert.deepEqual(
    tree.entries.map(({ path, type, mode, mtime_s }) => [path, type, mode, mtime_s]),
    [
      ["", "directory", 0o755, 0],
      ["a", "directory", 0o755, 0],
      ["a/b", "directory", 0o755, 0],
      ["a/b/c", "file", 0o644, 1],
    ],
  );
  assert.equal(tree.get("a/b/c"), tree.entries[3]);
  assert.equal(tree.get("nothing"), undefined);
});

test("invalid paths are refused, each with the path as subject", () => {
  const long = "x".repeat(256);
  const deep = `${"d/".repeat(2048)}f`;
  const bad = ["/a", "a/", "a//b", ".", "a/..", "../a", "a/./b", "a\0b", "\ud800", long, deep];
  for (const path of bad)
    assert.throws(() => canonicalTree([file(path)]), code("image.path-invalid"));
  const valid = ["x".repeat(255), "é".repeat(127), "...", "a b", `${"d/".repeat(2047)}f`];
  assert.equal(canonicalTree(valid.map((path) => file(path))).get("...")?.type, "file");
  assert.throws(() => canonicalTree([file("é".repeat(128))]), code("image.path-invalid"));
});

function refused(entries: TreeEntry[]): void {
  assert.throws(() => canonicalTree(entries), code("image.path-invalid"));
}

test("a path that occurs twice, a file as a parent and a file as the root are refused", () => {
  refused([file("a"), directory("a")]);
  refused([file("a"), file("a/b")]);
  refused([file("")]);
});

test("fields outside of their range are refused", () => {
  const xattr = (name: string, bytes = 1) => {
    return { ...file("f"), xattrs: new Map([[name, new Uint8Array(bytes)]]) };
  };
  const bad: TreeEntry[] = [
    { ...file("f"), mode: 0o10000 },
    { ...file("f"), mode: -1 },
    { ...file("f"), uid: 2 ** 32 },
    { ...file("f"), gid: 0.5 },
    { ...file("f"), mtime_s: Number.NaN },
    { ...common, path: "f", type: "symlink", target: "" },
    { ...common, path: "f", type: "symlink", target: "a\0" },
    { ...common, path: "f", type: "symlink", target: "t".repeat(4096) },
    { ...common, path: "f", type: "character", major: 4096, minor: 0 },
    { ...common, path: "f", type: "block", major: 0, minor: 2 ** 20 },
    {
      ...common,
      path: "f",
      type: "file",
      content: { ...bufferSource(Buffer.alloc(0)), sizeBytes: -1 },
    },
    xattr("user."),
    xattr("nothing"),
    xattr("system.other"),
    xattr(`user.${"n".repeat(256)}`),
    xattr("user.large", 65_536),
    xattr("user.area", 65_530),
  ];
  for (const entry of bad) assert.throws(() => canonicalTree([entry]), code("image.entry-invalid"));
});

const linked = (path: string, group: string, mode = 0o644): TreeEntry => {
  return {
    ...common,
    mode,
    type: "file",
    path,
    content: bufferSource(Buffer.alloc(1)),
    linkGroup: group,
  };
};

test("links of one file must agree; a group of one is no group", () => {
  const tree = canonicalTree([linked("c", "1"), linked("b", "1"), linked("a", "2")]);
  const groups = tree.entries.map((entry) => (entry.type === "file" ? entry.linkGroup : ""));
  assert.deepEqual(groups, ["", undefined, "b", "b"]);
  assert.throws(
    () => canonicalTree([linked("a", "1"), linked("b", "1", 0o600)]),
    code("image.link-invalid"),
  );
});

test("paths sort as their UTF-8 bytes do", () => {
  const text = fc.string({ unit: "binary" });
  fc.assert(
    fc.property(text, text, (a, b) => {
      const expected = Math.sign(Buffer.compare(Buffer.from(a), Buffer.from(b)));
      assert.equal(Math.sign(compareBytes(a, b)), expected);
    }),
  );
});

async function isCanonical(entries: TreeEntry[]): Promise<void> {
  const tree = canonicalTree(entries);
  assert.deepEqual(canonicalTree(tree.entries).entries, tree.entries);
  const turned = canonicalTree(entries.toReversed());
  assert.deepEqual(await compareTrees(tree, turned), []);
  assert.equal(await treeDigest(tree), await treeDigest(turned));
}

test("a canonical tree is a fixed point and does not depend on the order", async () => {
  await fc.assert(fc.asyncProperty(entriesArbitrary(), isCanonical), { numRuns: 40 });
});

test("any single change changes the digest and is told", async () => {
  const base = file("a/f", "text");
  const tree = canonicalTree([base]);
  const digest = await treeDigest(tree);
  const changes: TreeEntry[] = [
    { ...base, mode: 0o600 },
    { ...base, uid: 1 },
    { ...base, gid: 1 },
    { ...base, mtime_s: 2 },
    { ...base, xattrs: new Map([["user.a", Buffer.alloc(0)]]) },
    file("a/f", "tezt"),
    file("a/f", "tex"),
    file("a/g", "text"),
    { ...common, path: "a/f", type: "symlink", target: "text" },
    { ...common, path: "a/f", type: "fifo" },
  ];
  const digests = new Set([digest]);
  for (const entry of changes) {
    const changed = canonicalTree([entry]);
    digests.add(await treeDigest(changed));
    assert.notDeepEqual(await compareTrees(tree, changed), [], entry.path);
  }
  assert.equal(digests.size, changes.length + 1);
  const apart = canonicalTree([file("a"), file("b")]);
  const linked = ["a", "b"].map((path) => ({ ...file(path), linkGroup: "1" }) as TreeEntry);
  assert.notEqual(await treeDigest(apart), await treeDigest(canonicalTree(linked)));
});

test("the digest of a known tree never changes", async () => {
  const tree = canonicalTree([
    file("etc/motd", "hello\n"),
    { ...common, path: "etc/link", type: "symlink", target: "motd" },
    { ...common, path: "dev/null", type: "character", major: 1, minor: 3 },
  ]);
  assert.equal(
    await treeDigest(tree),
    "sha256:4829d1a1ba7289f6a65543134622c42a20c654f33ff8460cf5ebe479ffb6229c",
  );
});

test("differences are bounded", async () => {
  const many = canonicalTree(Array.from({ length: 500 }, (_, index) => file(`f${index}`)));
  assert.equal((await compareTrees(many, canonicalTree([]))).length, 100);
});
