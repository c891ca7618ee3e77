import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { hasCode } from "#core";
import {
  bufferSource,
  canonicalTree,
  compareTrees,
  mergeTrees,
  treeDifference,
  type Tree,
  type TreeEntry,
} from "./index.ts";
import { entriesArbitrary } from "./trees.suite.ts";

const common = { mode: 0o644, uid: 0, gid: 0, mtime_s: 1, xattrs: new Map<string, Uint8Array>() };
const file = (path: string, text = path): TreeEntry => {
  return { ...common, type: "file", path, content: bufferSource(Buffer.from(text)) };
};
const directory = (path: string, mtime_s = 1): TreeEntry => {
  return { ...common, mode: 0o755, mtime_s, type: "directory", path };
};
const whiteout = (path: string): TreeEntry => {
  return { ...common, type: "character", path, major: 0, minor: 0 };
};
const opaque = (path: string): TreeEntry => {
  return {
    ...directory(path),
    xattrs: new Map([["trusted.overlay.opaque", Buffer.from("y")]]),
  };
};
const paths = (tree: Tree): string[] => tree.entries.map(({ path }) => path);

/** Directories whose only change is their time are left out by design. */
function withoutDirectoryTimes(tree: Tree): Tree {
  return canonicalTree(
    tree.entries.map((entry) => (entry.type === "directory" ? { ...entry, mtime_s: 0 } : entry)),
  );
}

async function mergesToTarget(one: readonly TreeEntry[], other: readonly TreeEntry[]) {
  const [base, target] = [canonicalTree(one), canonicalTree(other)];
  const merged = mergeTrees([base, await treeDifference(base, target)]);
  const differences = await compareTrees(
    withoutDirectoryTimes(merged),
    withoutDirectoryTimes(target),
  );
  assert.deepEqual(differences, []);
}

test("base and difference merge to the target", async () => {
  const entries = entriesArbitrary({ xattrs: false });
  await fc.assert(fc.asyncProperty(entries, entries, mergesToTarget), { numRuns: 150 });
});

test("base and difference merge to the target where most is shared", async () => {
  const pairs = entriesArbitrary().chain((all) => fc.tuple(fc.subarray(all), fc.subarray(all)));
  await fc.assert(
    fc.asyncProperty(pairs, ([one, other]) => mergesToTarget(one, other)),
    { numRuns: 150 },
  );
});

test("the difference holds what changed, its parents and nothing more", async () => {
  const base = canonicalTree([
    file("same/a"),
    directory("touched", 1),
    file("edited/deep/f"),
    file("dropped/x/y"),
    file("dropped/x/z"),
    file("kept/removed"),
    file("kept/other"),
  ]);
  const target = canonicalTree([
    file("same/a"),
    directory("touched", 2),
    file("edited/deep/f", "new"),
    file("kept/other"),
  ]);
  const upper = await treeDifference(base, target);
  assert.deepEqual(paths(upper), [
    "",
    "dropped",
    "edited",
    "edited/deep",
    "edited/deep/f",
    "kept",
    "kept/removed",
  ]);
  const removed = upper.get("dropped");
  assert.ok(removed?.type === "character" && removed.major === 0 && removed.minor === 0);
  assert.deepEqual(paths(await treeDifference(base, base)), [""]);
});

test("a new directory is not opaque, one in the place of a file is", async () => {
  const upper = await treeDifference(
    canonicalTree([file("f")]),
    canonicalTree([file("f/in"), file("new/in")]),
  );
  assert.deepEqual([...(upper.get("f")?.xattrs.keys() ?? [])], ["trusted.overlay.opaque"]);
  assert.deepEqual([...(upper.get("new")?.xattrs.keys() ?? [])], []);
});

test("a file that gains a link takes all its links along", async () => {
  const link = (path: string): TreeEntry => ({ ...file(path, "x"), linkGroup: "g" }) as TreeEntry;
  const upper = await treeDifference(
    canonicalTree([file("a", "x")]),
    canonicalTree([link("a"), link("b")]),
  );
  assert.deepEqual(paths(upper), ["", "a", "b"]);
});

test("whiteouts remove, opaque directories hide, the upper metadata wins", () => {
  const lower = canonicalTree([file("d/a"), file("d/b"), file("e/a"), file("f"), file("g/a")]);
  const upper = canonicalTree([
    { ...directory("d"), mode: 0o700 },
    whiteout("d/a"),
    opaque("e"),
    file("e/c"),
    whiteout("f"),
    file("g", "now a file"),
  ]);
  const merged = mergeTrees([lower, upper]);
  assert.deepEqual(paths(merged), ["", "d", "d/b", "e", "e/c", "g"]);
  assert.equal(merged.get("d")?.mode, 0o700);
  assert.equal(merged.get("e")?.xattrs.size, 0);
  const again = mergeTrees([lower, upper, canonicalTree([file("f", "back")])]);
  assert.equal(again.get("f")?.type, "file");
});

const links = (...names: string[]): Tree =>
  canonicalTree(names.map((path) => ({ ...file(path, "x"), linkGroup: "g" }) as TreeEntry));

test("links of one layer stay apart from links of another", () => {
  const merged = mergeTrees([links("a", "b", "c"), links("a", "d")]);
  const groups = merged.entries.map((entry) => (entry.type === "file" ? entry.linkGroup : ""));
  assert.deepEqual(groups, ["", "a", "b", "b", "a"]);
});

const unsupported = (error: unknown): boolean => hasCode(error, "image.overlay-unsupported");

test("marks of an overlay that cannot be honoured are refused", async () => {
  const redirected = canonicalTree([
    { ...directory("d"), xattrs: new Map([["trusted.overlay.redirect", Buffer.from("x")]]) },
  ]);
  assert.throws(() => mergeTrees([redirected]), unsupported);
  const plain = canonicalTree([]);
  await assert.rejects(treeDifference(plain, canonicalTree([whiteout("w")])), unsupported);
  await assert.rejects(treeDifference(canonicalTree([opaque("o")]), plain), unsupported);
});
