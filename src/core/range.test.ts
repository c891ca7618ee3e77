import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { endOf, subtractRanges, type ByteRange } from "./range.ts";

const range = fc.record({ offset: fc.nat(60), length: fc.nat(12) });
const ranges = fc.array(range, { maxLength: 8 });

function has(all: readonly ByteRange[], at: number): boolean {
  return all.some((one) => one.offset <= at && at < endOf(one));
}

test("what is left of ranges is what is in them and in no other", () => {
  fc.assert(
    fc.property(ranges, ranges, (all, others) => {
      const left = subtractRanges(all, others);
      for (let at = 0; at < 80; at += 1) {
        assert.equal(has(left, at), has(all, at) && !has(others, at), `${at}`);
      }
      left.forEach((one, index) => {
        assert.ok(one.length > 0);
        assert.ok(index === 0 || endOf(left[index - 1] ?? one) <= one.offset);
      });
    }),
  );
});
