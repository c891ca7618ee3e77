import assert from "node:assert/strict";
import { test } from "node:test";
import { memoryLevel, urgentLevel } from "./level.ts";

test("the slower the link, the harder memory is compressed; on the quickest not at all", () => {
  const rates = [1e6, 20e6, 100e6, 1e9, 100e9];
  const levels = rates.map((bitsPerSecond) => memoryLevel({ bitsPerSecond, cores: 1 }) ?? 0);
  assert.deepEqual(
    levels,
    levels.toSorted((one, other) => other - one),
  );
  assert.equal(levels[0], 19);
  assert.equal(levels.at(-1), 0);
  assert.equal(memoryLevel({ cores: 1 }), 3);
});

test("what is waited for is compressed quickly", () => {
  assert.equal(urgentLevel(19), 3);
  assert.equal(urgentLevel(1), 1);
  assert.equal(urgentLevel(undefined), undefined);
});
