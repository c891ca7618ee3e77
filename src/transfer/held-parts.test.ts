import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { totalLength } from "#core";
import type { PackPlan } from "#delta";
import { checkHeld, heldOf, heldTuples, withoutHeld, type HeldPart } from "./held-parts.ts";

const SIZE = 64;

/** Packs that together have every byte of some contents once, cut anywhere. */
const packs = fc
  .array(fc.uniqueArray(fc.integer({ min: 1, max: SIZE - 1 }), { maxLength: 3 }), {
    minLength: 1,
    maxLength: 5,
  })
  .map((cuts) =>
    cuts.flatMap((inner, content) => {
      const edges = [0, ...inner.toSorted((a, b) => a - b), SIZE];
      return edges.slice(1).map((to, index): PackPlan => {
        const offset = edges[index] ?? 0;
        const segments = [{ content, offset, length: to - offset }];
        return { segments, references: [], rawBytes: to - offset };
      });
    }),
  );

/** Parts as a receiver may have them, of contents 0 to 4. */
const parts = fc
  .array(fc.uniqueArray(fc.integer({ min: 0, max: SIZE - 1 }), { maxLength: 6 }), {
    maxLength: 5,
  })
  .map((edges) =>
    edges.flatMap((points, content): HeldPart[] => {
      const sorted = points.toSorted((a, b) => a - b);
      return sorted.flatMap((offset, index) => {
        const end = sorted[index + 1];
        return index % 2 === 0 && end !== undefined
          ? [{ content, offset, length: end - offset }]
          : [];
      });
    }),
  );

/** Every byte of the packs, as content and offset. */
function bytesOf(plans: readonly PackPlan[]): string[] {
  return plans.flatMap(({ segments }) =>
    segments.flatMap(({ content, offset, length }) =>
      Array.from({ length }, (_, at) => `${content}:${offset + at}`),
    ),
  );
}

test("packs lose what is held, and nothing else", () => {
  fc.assert(
    fc.property(packs, parts, (plans, held) => {
      const left = withoutHeld(plans, held);
      const without = new Set(bytesOf([{ segments: held, references: [], rawBytes: 0 }]));
      assert.deepEqual(
        bytesOf(left),
        bytesOf(plans).filter((byte) => !without.has(byte)),
      );
      for (const { segments, rawBytes } of left) assert.equal(totalLength(segments), rawBytes);
    }),
  );
});

test("parts travel as tuples", () => {
  const contents = Array.from({ length: 5 }, () => ({ sizeBytes: SIZE }));
  fc.assert(
    fc.property(parts, (held) => {
      assert.deepEqual(heldOf(heldTuples(held), [0, 1, 2, 3, 4], { contents }), held);
    }),
  );
});

function sizeOfOne(content: number): number | undefined {
  return content === 1 ? SIZE : undefined;
}

for (const [name, held] of [
  ["what is not wanted", [{ content: 2, offset: 0, length: 1 }]],
  ["nothing", [{ content: 1, offset: 0, length: 0 }]],
  ["bytes behind the end", [{ content: 1, offset: 60, length: 5 }]],
  ["an offset behind the end", [{ content: 1, offset: 2 ** 53 - 1, length: 2 ** 53 - 1 }]],
  ["all of a content", [{ content: 1, offset: 0, length: SIZE }]],
  [
    "overlapping parts",
    [
      { content: 1, offset: 0, length: 9 },
      { content: 1, offset: 8, length: 2 },
    ],
  ],
  [
    "parts in another order",
    [
      { content: 1, offset: 8, length: 2 },
      { content: 1, offset: 0, length: 2 },
    ],
  ],
] as const) {
  test(`nobody holds ${name}`, () => {
    assert.throws(() => checkHeld(held, sizeOfOne), { code: "transfer.protocol-violation" });
  });
}
