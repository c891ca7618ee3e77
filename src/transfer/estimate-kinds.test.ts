import assert from "node:assert/strict";
import { test } from "node:test";
import type { HeldRecipe } from "#repository";
import { packKindOf } from "./estimate-kinds.ts";

const SKETCH = Uint32Array.from([1, 2, 3, 4, 5, 6, 7, 8]);

function sharing(count: number): Uint32Array {
  return SKETCH.map((value, at) => (at < count ? value : value + 100));
}

function held(sketches: readonly Uint32Array[], path = "usr/bin/tool"): HeldRecipe {
  const contents = sketches.map(() => ({ path, sizeBytes: 100, head: "" }));
  return { sketches, recipe: { contents } } as unknown as HeldRecipe;
}

const range = { content: 0, offset: 0, length: 100 };
const PLAN = { segments: [range], references: [{ base: 0, ...range }], rawBytes: 100 };

function kindFor(shared: number) {
  return packKindOf(PLAN, { component: held([SKETCH]), bases: [held([sharing(shared)])] });
}

test("patched packs are told apart by how much their sketches agree", () => {
  assert.deepEqual([8, 7, 6, 4, 3, 0].map(kindFor), [
    "near",
    "near",
    "similar",
    "similar",
    "far",
    "far",
  ]);
});

test("where sketches do not tell, and other packs", () => {
  const contents = { component: held([new Uint32Array(0)]), bases: [held([SKETCH])] };
  assert.equal(packKindOf(PLAN, contents), "mixed");
  const two = { ...PLAN, segments: [range, range], rawBytes: 200 };
  assert.equal(packKindOf(two, contents), "mixed");
  assert.equal(packKindOf({ ...PLAN, references: [] }, contents), "plain");
  assert.equal(packKindOf({ ...PLAN, own: 0 }, contents), "own");
  const compressed = { component: held([SKETCH], "doc/changelog.gz"), bases: [held([SKETCH])] };
  assert.equal(packKindOf(PLAN, compressed), "compressed");
});
