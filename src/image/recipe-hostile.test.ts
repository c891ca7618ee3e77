import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { hasCode } from "#core";
import {
  bufferSource,
  canonicalTree,
  decodeRecipe,
  encodeRecipe,
  readRecipe,
  writeErofs,
  type TreeEntry,
} from "./index.ts";
import { contentCollector } from "./recipe-collect.ts";
import { chunksFit, treeCost, treeFits } from "./recipe-cost.ts";
import { partsOf } from "./recipe-parts.ts";
import { recipeReader, recipeWriter, unzigzag, zigzag } from "./recipe-bytes.ts";
import { patternBytes } from "./trees.suite.ts";

const common = { mode: 0o644, uid: 0, gid: 0, mtime_s: 1, xattrs: new Map<string, Uint8Array>() };
const invalid = (error: unknown): boolean => hasCode(error, "image.recipe-invalid");

async function imageOf(entries: readonly TreeEntry[]): Promise<Buffer> {
  const chunks: Buffer[] = [];
  await writeErofs(canonicalTree(entries), {
    write: async (bytes) => void chunks.push(Buffer.from(bytes)),
  });
  return Buffer.concat(chunks);
}

const file = (path: string, bytes: Uint8Array, linkGroup?: string): TreeEntry => {
  const entry = { ...common, type: "file" as const, path, content: bufferSource(bytes) };
  return linkGroup === undefined ? entry : { ...entry, linkGroup };
};

const SAMPLE: readonly TreeEntry[] = [
  file("a", patternBytes(5000, 1)),
  file("b/c", patternBytes(10, 1), "group"),
  file("b/d", patternBytes(10, 1), "group"),
  { ...common, path: "b/s", type: "symlink", target: "c" },
  { ...common, path: "dev", type: "character", major: 5, minor: 700 },
  { ...file("x", Buffer.from("x")), xattrs: new Map([["user.a", Buffer.alloc(70)]]) },
];

type Field = number | string | Buffer;

/** A recipe by hand: numbers, texts with their length, bytes as they are. */
function bytesOfAll(fields: readonly Field[]): Buffer {
  const pieces: Buffer[] = [];
  const writer = recipeWriter((bytes) => pieces.push(Buffer.from(bytes)));
  writer.bytes(Buffer.from("tessera recipe 1\n"));
  for (const field of fields) {
    if (typeof field === "number") writer.number(field);
    else if (typeof field === "string") writer.text(field);
    else writer.bytes(field);
  }
  writer.end();
  return Buffer.concat(pieces);
}

const bytesOf = (...fields: readonly Field[]): Buffer => bytesOfAll(fields);
const kind = (letter: string): Buffer => Buffer.from(letter);
const HEAD = Buffer.from("0011223344556677", "hex");
const root: readonly Field[] = [kind("d"), 0, "", 0o755, 0, 0, 0, 0];
const plain = (path: string, shared = 0): readonly Field[] => {
  return [kind("f"), shared, path, 0o644, 0, 0, 0, 4, HEAD, 0];
};
const link = (path: string, target: string): readonly Field[] => [kind("h"), 0, path, target];
const treeOf = (rows: readonly (readonly Field[])[]): Buffer =>
  bytesOfAll([kind("t"), rows.length, ...rows.flat()]);
const tree = (...rows: readonly (readonly Field[])[]): Buffer => treeOf(rows);
const huge = (path: string): readonly Field[] => {
  return [kind("f"), 0, path, 0, 0, 0, 0, 2 ** 43, HEAD, 0];
};

test("a recipe by hand is what is specified", () => {
  const recipe = decodeRecipe(tree(root, plain("a"), plain("b"), link("c", "a")));
  assert.equal(recipe.kind, "tree");
  assert.deepEqual(recipe.contents, [{ sizeBytes: 4, head: "0011223344556677", path: "a" }]);
  assert.equal(recipe.places(0).length, 2);
  assert.equal(recipe.sizeBytes, 8192);
  const chunks = decodeRecipe(bytesOf(kind("k"), 2, 7, HEAD, 7, HEAD));
  assert.deepEqual([chunks.kind, chunks.sizeBytes, chunks.contents.length], ["chunks", 14, 1]);
  assert.deepEqual(chunks.places(0).flat(), [
    { offset: 0, length: 7, position: 0 },
    { offset: 0, length: 7, position: 7 },
  ]);
});

const DAMAGED: readonly (readonly [what: string, bytes: Buffer])[] = [
  ["nothing", Buffer.alloc(0)],
  ["another heading", Buffer.from("tessera recipe 2\nt")],
  ["an unknown kind", bytesOf(kind("x"), 0)],
  ["no root", tree(plain("a"))],
  ["no entries", tree()],
  ["a parent that is missing", tree(root, plain("a/b"))],
  ["a file as a parent", tree(root, plain("a"), plain("a/b"))],
  ["..", tree(root, plain(".."))],
  ["a path that leaves", tree(root, plain("../a"))],
  ["an absolute path", tree(root, plain("/a"))],
  ["an empty segment", tree(root, plain("a//b"))],
  ["NUL", tree(root, plain("a\0"))],
  ["a long name", tree(root, plain("a".repeat(256)))],
  ["a long path", tree(root, plain("a/".repeat(2047) + "aa"))],
  ["a path twice", tree(root, plain("a"), plain("", 1))],
  ["paths out of order", tree(root, plain("b"), plain("a"))],
  ["a path that shares too little", tree(root, plain("aa"), plain("ab"))],
  ["a path that shares too much", tree(root, plain("a"), plain("b", 2))],
  ["a link to a later file", tree(root, link("a", "b"), plain("b"))],
  ["a link to itself", tree(root, link("a", "a"))],
  ["a link to a link", tree(root, plain("a"), link("b", "a"), link("c", "b"))],
  ["a link to a directory", tree(root, link("a", ""))],
  ["a link to nothing", tree(root, [kind("l"), 0, "a", 0o777, 0, 0, 0, "", 0])],
  ["a mode of a link", tree(root, [kind("l"), 0, "a", 0o755, 0, 0, 0, "x", 0])],
  ["a mode above 07777", tree(root, [kind("p"), 0, "a", 0o10000, 0, 0, 0, 0])],
  ["an owner above 32 bits", tree(root, [kind("p"), 0, "a", 0, 2 ** 32, 0, 0, 0])],
  ["a time out of range", tree(root, [kind("p"), 0, "a", 0, 0, 0, 0, 2 ** 52])],
  ["a device number out of range", tree(root, [kind("c"), 0, "a", 0, 0, 0, 0, 4096, 0, 0])],
  ["a content above 16 TiB", tree(root, [kind("f"), 0, "a", 0, 0, 0, 0, 2 ** 45, HEAD, 0])],
  ["xattrs twice", tree(root, [kind("p"), 0, "a", 0, 0, 0, 2, "user.a", "", "user.a", "", 0])],
  [
    "xattrs in disorder",
    tree(root, [kind("p"), 0, "a", 0, 0, 0, 2, "user.b", "", "user.a", "", 0]),
  ],
  ["an xattr without name", tree(root, [kind("p"), 0, "a", 0, 0, 0, 1, "user.", "", 0])],
  ["too many xattrs", tree(root, [kind("p"), 0, "a", 0, 0, 0, 2 ** 40])],
  ["more entries than bytes", bytesOf(kind("t"), 2_000_000, ...root)],
  ["more entries than there may be", bytesOf(kind("k"), 2_000_001, Buffer.alloc(2 ** 22))],
  ["an empty chunk", bytesOf(kind("k"), 1, 0)],
  ["chunks above 16 TiB", bytesOf(kind("k"), 2, 2 ** 44, HEAD, 1, HEAD)],
  ["bytes that follow", Buffer.concat([tree(root), Buffer.alloc(1)])],
  ["a number in long form", bytesOf(kind("k"), Buffer.from([0x80, 0]))],
  ["a number of nine bytes", bytesOf(kind("k"), Buffer.alloc(9, 0xff))],
  ["a number above 2^53 - 1", bytesOf(kind("k"), Buffer.from("ffffffffffffff7f", "hex"))],
  ["text that is not UTF-8", tree(root, [kind("p"), 0, Buffer.from([1, 0xff]), 0, 0, 0, 0, 0])],
];

for (const [what, bytes] of DAMAGED) {
  test(`refused: ${what}`, () => {
    assert.throws(() => decodeRecipe(bytes), invalid);
  });
}

test("files whose images would exceed 16 TiB together are refused", () => {
  assert.equal(decodeRecipe(tree(root, huge("a"))).kind, "tree");
  assert.throws(() => decodeRecipe(tree(root, huge("a"), huge("b"))), invalid);
});

/** Many rows of a few bytes, of which each stands for a path of about 4 kB. */
function longPaths(count: number): (readonly Field[])[] {
  const rows: (readonly Field[])[] = [root];
  let path = "";
  for (let depth = 0; depth < 16; depth += 1) {
    const rest = `${depth === 0 ? "" : "/"}${"d".repeat(240)}`;
    rows.push([kind("d"), path.length, rest, 0o755, 0, 0, 0, 0]);
    path += rest;
  }
  let before = path;
  for (let index = 0; index < count; index += 1) {
    const next = `${path}/${index.toString().padStart(6, "0")}`;
    let shared = path.length;
    while (shared < before.length && next[shared] === before[shared]) shared += 1;
    rows.push([kind("p"), shared, next.slice(shared), 0, 0, 0, 0, 0]);
    before = next;
  }
  return rows;
}

test("limits of entries and memory hold", () => {
  const two = tree(root, plain("a"));
  assert.equal(decodeRecipe(two, { entriesMax: 2 }).contents.length, 1);
  assert.throws(() => decodeRecipe(two, { entriesMax: 1 }), invalid);
  assert.throws(() => decodeRecipe(two, { memoryBytesMax: 300 }), invalid);
  assert.equal(decodeRecipe(treeOf(longPaths(1000))).kind, "tree");
  assert.throws(
    () => decodeRecipe(treeOf(longPaths(9000)), { memoryBytesMax: 64 * 2 ** 20 }),
    (error) => invalid(error) && /memory/.test(String(error)),
  );
});

test("a recipe cut short or with any flipped bytes is refused, or is the encoding of what it says", async () => {
  const { recipe } = await readRecipe(bufferSource(await imageOf(SAMPLE)));
  const encoded = encodeRecipe(recipe);
  for (let length = 0; length < encoded.length; length += 1) {
    assert.throws(() => decodeRecipe(encoded.subarray(0, length)), invalid);
  }
  let accepted = 0;
  const flip = fc.tuple(fc.nat(encoded.length - 1), fc.integer({ min: 1, max: 255 }));
  const holds = (flips: readonly [number, number][]): void => {
    const bytes = Buffer.from(encoded);
    for (const [at, mask] of flips) bytes[at] = (bytes[at] ?? 0) ^ mask;
    try {
      assert.deepEqual(Buffer.from(encodeRecipe(decodeRecipe(bytes))), bytes);
      accepted += 1;
    } catch (error) {
      if (!invalid(error)) throw error;
    }
  };
  fc.assert(fc.property(fc.array(flip, { minLength: 1, maxLength: 3 }), holds), { numRuns: 3000 });
  assert.ok(accepted > 100, `only ${accepted} were accepted`);
});

test("numbers survive in their shortest form", () => {
  const number = fc.oneof(fc.maxSafeNat(), fc.nat(300), fc.constantFrom(2 ** 53 - 1, 128, 16_384));
  fc.assert(
    fc.property(number, (value) => {
      const pieces: Buffer[] = [];
      const writer = recipeWriter((bytes) => pieces.push(Buffer.from(bytes)));
      writer.number(value);
      writer.end();
      const reader = recipeReader(Buffer.concat(pieces));
      assert.equal(reader.number(), value);
      assert.equal(reader.remaining(), 0);
    }),
  );
  fc.assert(
    fc.property(fc.integer({ min: -(2 ** 40), max: 2 ** 40 }), (value) => {
      assert.equal(unzigzag(zigzag(value)), value);
      assert.ok(zigzag(value) >= 0);
    }),
  );
});

test("an image that differs from ours anywhere is no tree", async () => {
  const image = await imageOf(SAMPLE);
  const expected = (await readRecipe(bufferSource(image))).recipe;
  assert.equal(expected.kind, "tree");
  const inContents = new Set<number>();
  for (const index of expected.contents.keys()) {
    for (const { position, length } of expected.places(index).flat()) {
      for (let at = position; at < position + length; at += 1) inContents.add(at);
    }
  }
  for (let at = 0; at < image.length; at += 17) {
    const changed = Buffer.from(image);
    changed[at] = (changed[at] ?? 0) ^ 0x10;
    const { recipe } = await readRecipe(bufferSource(changed));
    /* The superblock has the digest of the tree: no content changes alone either. */
    assert.equal(recipe.kind, "chunks", `byte ${at}, a content: ${inContents.has(at)}`);
    assert.equal(recipe.sizeBytes, image.length);
  }
  const longer = Buffer.concat([image, Buffer.alloc(4096)]);
  assert.equal((await readRecipe(bufferSource(longer))).recipe.kind, "chunks");
});

test("each content is shown in order, and once only when it is not long", async () => {
  const long = patternBytes(3_000_000, 9);
  const entries = [
    file("a", patternBytes(100, 1)),
    file("b", long),
    file("c", patternBytes(100, 1)),
    file("d", Buffer.from(long)),
    file("e", patternBytes(5000, 2)),
  ];
  const seen: Buffer[][] = [];
  const { recipe } = await readRecipe(bufferSource(await imageOf(entries)), {
    visit(index, bytes, offset) {
      if (offset === 0) seen.splice(index, Infinity, []);
      assert.equal(
        offset,
        seen[index]?.reduce((sum, piece) => sum + piece.length, 0),
      );
      seen[index]?.push(Buffer.from(bytes));
    },
  });
  const contents = seen.slice(0, recipe.contents.length).map((pieces) => Buffer.concat(pieces));
  assert.deepEqual(contents, [patternBytes(100, 1), long, patternBytes(5000, 2)]);
});

test("contents that agree in size and head are told", () => {
  const collector = contentCollector();
  collector.add(Buffer.from("a"), "a");
  collector.add(Buffer.from("a"), "b");
  collector.add(Buffer.from("b"), "c");
  assert.equal(collector.collided(), false);
  collector.digests[0]?.fill(0, 8);
  collector.add(Buffer.from("a"), "d");
  assert.equal(collector.collided(), true);
});

test("recipes that the decoder would refuse for their size are not made", () => {
  const entry = file("a", Buffer.from("x"));
  assert.ok(treeFits(Array.from({ length: 300_000 }, () => entry)));
  assert.ok(!treeFits(Array.from({ length: 500_000 }, () => entry)));
  const attributed = { ...entry, xattrs: new Map([["user.a", Buffer.alloc(60_000)]]) };
  assert.ok(!treeFits(Array.from({ length: 8000 }, () => attributed)));
  assert.ok(chunksFit(1_000_000));
  assert.ok(!chunksFit(1_100_000));
});

test("what a recipe costs is the same for the decoder and for whoever made it", async () => {
  const { recipe } = await readRecipe(bufferSource(await imageOf(SAMPLE)));
  const encoded = encodeRecipe(recipe);
  const parts = partsOf(recipe);
  const cost = parts.kind === "tree" ? treeCost(parts.entries) : 0;
  assert.equal(decodeRecipe(encoded, { memoryBytesMax: cost }).kind, "tree");
  assert.throws(() => decodeRecipe(encoded, { memoryBytesMax: cost - 1 }), invalid);
});
