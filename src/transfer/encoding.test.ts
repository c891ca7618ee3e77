import assert from "node:assert/strict";
import { test } from "node:test";
import { SOLID_LEVELS, type PackPlan } from "#delta";
import {
  encodingMemoryBytes,
  isPatch,
  neededMemoryBytes,
  packParameters,
  planWithin,
} from "./encoding.ts";

const MIB = 2 ** 20;
const [SLOW, FAST] = [encodingMemoryBytes(2e6), encodingMemoryBytes(100e6)];
const base = { base: 0, content: 3, offset: 0, length: 8 * MIB };
const own = { base: 1, content: 0, offset: 0, length: 16 * MIB };
const PLAN: PackPlan = {
  segments: [{ content: 1, offset: 0, length: 16 * MIB }],
  references: [own],
  rawBytes: 16 * MIB,
  own: 1,
};

test("a pack refers to its own component where there is memory for it", () => {
  assert.deepEqual(planWithin(PLAN, SLOW), PLAN);
  const within = planWithin({ ...PLAN, references: [base, own] }, FAST);
  assert.deepEqual(within.references, [base]);
  assert.equal(within.own, undefined);
  assert.ok(isPatch(within) && !isPatch(PLAN));
});

test("what a pack takes stays within the memory, at every level", () => {
  for (const memoryBytes of [SLOW, FAST]) {
    for (const level of SOLID_LEVELS) {
      const needed = neededMemoryBytes(PLAN, level, memoryBytes);
      assert.ok(needed <= memoryBytes, `${needed} at level ${level}`);
    }
  }
  const { chainLog, hashLog } = packParameters(PLAN, 19, SLOW);
  assert.deepEqual([chainLog, hashLog], [24, 20]);
});
