import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { dirname } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import * as fc from "fast-check";
import {
  bufferSource,
  canonicalTree,
  decodeRecipe,
  encodeRecipe,
  readRecipe,
  writeErofs,
  type Recipe,
  type Tree,
  type TreeEntry,
} from "./index.ts";
import { chunkLength } from "./chunker.ts";
import { entriesArbitrary, treeOnDisk } from "./trees.suite.ts";

async function imageOf(tree: Tree): Promise<Buffer> {
  const chunks: Buffer[] = [];
  await writeErofs(tree, { write: async (bytes) => void chunks.push(Buffer.from(bytes)) });
  return Buffer.concat(chunks);
}

/** The contents of an image as its recipe places them, checked against heads and each other. */
function contentsOf(recipe: Recipe, image: Buffer, digests: readonly Buffer[]): Buffer[] {
  return recipe.contents.map(({ sizeBytes, head }, index) => {
    const [first, ...others] = recipe.places(index).map((extents) => {
      let end = 0;
      const pieces = extents.map(({ offset, length, position }) => {
        assert.equal(offset, end);
        assert.ok(length > 0);
        end += length;
        return image.subarray(position, position + length);
      });
      assert.equal(end, sizeBytes);
      return Buffer.concat(pieces);
    });
    assert.ok(first !== undefined);
    for (const other of others) assert.ok(other.equals(first));
    const digest = createHash("sha256").update(first).digest();
    assert.ok(digests[index]?.equals(digest));
    assert.equal(head, digest.toString("hex", 0, 8));
    return first;
  });
}

/** Puts an image together as a receiver does: contents in any order, then metadata. */
function rebuild(recipe: Recipe, contents: readonly Buffer[], digests: readonly Buffer[]): Buffer {
  const image = Buffer.alloc(recipe.sizeBytes);
  for (const index of [...contents.keys()].reverse()) {
    for (const { offset, length, position } of recipe.places(index).flat()) {
      contents[index]?.copy(image, position, offset, offset + length);
    }
  }
  let end = 0;
  for (const { position, bytes } of recipe.metadata(digests)) {
    assert.ok(position >= end && bytes.length > 0, "metadata is not in order");
    const before = image.subarray(position, position + bytes.length);
    assert.ok(before.equals(Buffer.alloc(bytes.length)), "metadata covers a content");
    image.set(bytes, position);
    end = position + bytes.length;
  }
  return image;
}

function assertEqualRecipes(actual: Recipe, expected: Recipe): void {
  assert.equal(actual.kind, expected.kind);
  assert.equal(actual.sizeBytes, expected.sizeBytes);
  assert.deepEqual(actual.contents, expected.contents);
  for (const index of expected.contents.keys()) {
    assert.deepEqual(actual.places(index), expected.places(index));
  }
}

async function survives(image: Buffer, kind: Recipe["kind"]): Promise<Recipe> {
  const { recipe, digests } = await readRecipe(bufferSource(image));
  assert.equal(recipe.kind, kind);
  const contents = contentsOf(recipe, image, digests);
  assert.ok(rebuild(recipe, contents, digests).equals(image));
  const encoded = encodeRecipe(recipe);
  const decoded = decodeRecipe(encoded);
  assertEqualRecipes(decoded, recipe);
  assert.ok(rebuild(decoded, contents, digests).equals(image));
  assert.deepEqual(encodeRecipe(decoded), encoded);
  return recipe;
}

async function rebuilt(entries: TreeEntry[]): Promise<void> {
  await survives(await imageOf(canonicalTree(entries)), "tree");
}

test("the image of a tree is rebuilt from its recipe and contents alone", async () => {
  await fc.assert(fc.asyncProperty(entriesArbitrary(), rebuilt), { numRuns: 200 });
});

test("a directory of real files survives", async () => {
  const folder = fileURLToPath(import.meta.resolve("zod/package.json"));
  const tree = treeOnDisk(dirname(folder), { xattrs: false });
  const recipe = await survives(await imageOf(tree), "tree");
  assert.ok(recipe.contents.length > 100);
});

test("bytes that are no tree of ours are cut into chunks", async () => {
  const noise = randomBytes(3_000_000);
  const recipe = await survives(Buffer.concat([noise, Buffer.alloc(2_000_000), noise]), "chunks");
  const pieces = recipe.contents.map((_, index) => recipe.places(index).length);
  assert.ok(
    pieces.some((count) => count > 1),
    "nothing was found twice",
  );
  assert.ok(recipe.contents.every(({ sizeBytes }) => sizeBytes <= 256 * 1024));
  await survives(Buffer.alloc(0), "chunks");
  await survives(Buffer.from("x"), "chunks");
});

function cuts(image: Uint8Array): number[] {
  const lengths: number[] = [];
  for (let at = 0; at < image.length; at += lengths.at(-1) ?? 0) {
    lengths.push(chunkLength(image, at, image.length));
  }
  return lengths;
}

test("chunks are cut where it is specified, and an insertion moves no later cut", () => {
  const pieces = Array.from({ length: 32_768 }, (_, number) => {
    const counter = Buffer.alloc(4);
    counter.writeUInt32BE(number);
    return createHash("sha256").update(counter).digest();
  });
  const bytes = Buffer.concat(pieces);
  const expected = [
    82_964, 79_470, 82_515, 79_731, 62_251, 71_747, 18_898, 101_566, 69_230, 69_763, 83_686, 88_681,
    67_109, 73_798, 17_167,
  ];
  assert.deepEqual(cuts(bytes), expected);
  const moved = cuts(
    Buffer.concat([bytes.subarray(0, 100_000), Buffer.alloc(7), bytes.subarray(100_000)]),
  );
  assert.deepEqual(moved.slice(-10), expected.slice(-10));
});
