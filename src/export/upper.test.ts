import assert from "node:assert/strict";
import { test } from "node:test";
import { bufferSource, canonicalTree, mergeTrees, type TreeEntry } from "#image";
import { plainUpper, shownFractions } from "./upper.ts";

const common = { mode: 0o755, uid: 0, gid: 0, mtime_s: 1 };
const marks = (...names: string[]) => new Map(names.map((name) => [name, Buffer.from("y")]));
const file = (path: string, ...names: string[]): TreeEntry => ({
  ...common,
  path,
  type: "file",
  content: bufferSource(Buffer.from(path)),
  xattrs: marks(...names),
});

test("overlayfs's notes go, its marks and all other attributes stay", () => {
  const upper = canonicalTree([
    { ...common, path: "a", type: "directory", xattrs: marks("trusted.overlay.opaque", "user.x") },
    file("a/b", "trusted.overlay.origin", "trusted.overlay.impure", "security.capability"),
    { ...common, path: "gone", type: "character", major: 0, minor: 0, xattrs: new Map() },
  ]);
  const fractions = new Map([
    ["a/b", 5],
    ["gone", 7],
  ]);
  const plain = plainUpper({ tree: upper, fractions });
  const shown = mergeTrees([canonicalTree([file("a/old"), file("gone")]), plain.tree]);
  assert.deepEqual(
    shown.entries.map(({ path, xattrs }) => [path, [...xattrs.keys()]]),
    [
      ["", []],
      ["a", ["user.x"]],
      ["a/b", ["security.capability"]],
    ],
  );
  assert.deepEqual([...shownFractions(shown, plain)], [["a/b", 5]]);
});

test("what a file's content would have to be looked up for is refused", () => {
  const upper = {
    tree: canonicalTree([file("a", "trusted.overlay.metacopy")]),
    fractions: new Map<string, number>(),
  };
  assert.throws(() => mergeTrees([plainUpper(upper).tree]), /trusted.overlay.metacopy/);
});
