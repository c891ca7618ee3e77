import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { anotherPass } from "./passes.ts";

const MIB = 2 ** 20;

test("there is a first pass, and another where it finds much and less than before", () => {
  assert.ok(anotherPass([]));
  assert.ok(anotherPass([100 * MIB]));
  assert.ok(anotherPass([100 * MIB, 20 * MIB]));
  assert.ok(!anotherPass([100 * MIB, MIB]));
  assert.ok(!anotherPass([100 * MIB, 90 * MIB]));
  assert.ok(!anotherPass([0]));
});

test("whatever passes find, they end", () => {
  fc.assert(
    fc.property(fc.infiniteStream(fc.maxSafeNat()), (found) => {
      const changed: number[] = [];
      while (anotherPass(changed)) changed.push(found.next().value);
      assert.ok(changed.length >= 1 && changed.length <= 10);
    }),
  );
});
