import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { type PackPlan, planPacks, type WantedFact } from "#delta";
import { OWN_REFERENCE_BYTES_MAX, referToEarlier } from "./own-references.ts";

const MIB = 2 ** 20;
const LIMITS = { rawBytesMax: 16 * MIB, referenceBytesMax: 32 * MIB };
const NONE = new Uint32Array(0);
const BASES = 3;

function fact(content: number, path: string, sizeBytes: number, sketch = NONE): WantedFact {
  return { content, path, sizeBytes, head: "0".repeat(16), sketch };
}

function plan(facts: readonly WantedFact[], except: readonly number[] = []): PackPlan[] {
  const own = { base: BASES, except: new Set(except) };
  const pairs = facts.map((each) => ({ fact: each }));
  return planPacks(pairs, LIMITS, own);
}

function sum(runs: readonly { readonly length: number }[]): number {
  return runs.reduce((total, { length }) => total + length, 0);
}

function counts(plans: readonly PackPlan[]): number[] {
  return plans.map(({ references }) => references.length);
}

/** References are to whole contents of earlier packs, within the limits. */
function check(facts: readonly WantedFact[], plans: readonly PackPlan[], except: Set<number>) {
  const come = new Map<number, number>();
  const seen = new Map<number, number>();
  for (const { segments, references, rawBytes } of plans) {
    assert.ok(rawBytes === sum(segments) && rawBytes <= LIMITS.rawBytesMax);
    assert.ok(sum(references) <= OWN_REFERENCE_BYTES_MAX);
    assert.equal(new Set(references.map(({ content }) => content)).size, references.length);
    for (const { base, content, offset, length } of references) {
      const { sizeBytes } = facts.find((each) => each.content === content) ?? {};
      assert.deepEqual([base, offset, length], [BASES, 0, sizeBytes]);
      assert.equal(come.get(content), sizeBytes);
      assert.ok(!except.has(content));
    }
    for (const { content, offset, length } of segments) {
      assert.equal(offset, seen.get(content) ?? 0);
      seen.set(content, offset + length);
    }
    for (const [content, bytes] of seen) come.set(content, bytes);
  }
  for (const { content, sizeBytes } of facts) assert.equal(seen.get(content), sizeBytes);
}

const anyFacts = fc
  .array(
    fc.record({
      path: fc.stringMatching(/^\/usr\/(?:bin|share)\/[a-c]{4,7}(?:\.so|\.py|\.txt)?$/),
      sizeBytes: fc.oneof(fc.integer({ min: 1, max: 20 * MIB }), fc.integer({ min: 1, max: 99 })),
      shape: fc.nat(3),
    }),
    { maxLength: 40 },
  )
  .map((list) =>
    list.map(({ path, sizeBytes, shape }, content) => {
      const sketch = Uint32Array.from({ length: 8 }, (_, index) => (index < 3 ? shape : content));
      return fact(content, path, sizeBytes, sizeBytes < 4096 ? NONE : sketch);
    }),
  );

test("packs refer to what is whole before them, and every byte is in one, whatever is wanted", () => {
  let referring = 0;
  fc.assert(
    fc.property(anyFacts, fc.array(fc.nat(39), { maxLength: 5 }), (facts, except) => {
      const plans = plan(facts, except);
      check(facts, plans, new Set(except));
      assert.deepEqual(plan(facts.toReversed(), except), plans);
      referring += plans.filter(({ references }) => references.length > 0).length;
    }),
  );
  assert.ok(referring > 0);
});

const SKETCH = Uint32Array.from({ length: 8 }, (_, index) => index);

test("programs that share most of their code refer to one that came before", () => {
  const names = ["aria", "bench", "check", "dump", "export", "find"];
  const tools = names.map((name, content) =>
    fact(content, `/usr/bin/${name}`, 5 * MIB + content, SKETCH),
  );
  const [first, second] = plan(tools);
  assert.deepEqual(first?.references, []);
  assert.equal(first?.segments.length, 3);
  assert.equal(second?.references.length, 1);
  assert.ok((second.references[0]?.content ?? 9) < 3);
});

test("a family is known by its name, with lib or without", () => {
  const facts = [
    fact(0, "/usr/lib/config/libpython3.11-pic.a", 11 * MIB),
    fact(1, "/usr/lib/libpython3.11.so.1.0", 9 * MIB),
    fact(2, "/usr/bin/zebra", 9 * MIB),
    fact(3, "/usr/lib/libcurl.so.4", 9 * MIB),
  ];
  const shared = plan(facts).find(({ segments }) => segments[0]?.content === 1);
  assert.deepEqual(
    shared?.references.map(({ content }) => content),
    [0],
  );
});

test("contents of a kind refer to the pack before them, others do not", () => {
  const texts = [0, 1, 2].map((at) => fact(at, `/usr/share/${at}.txt`, 10 * MIB));
  assert.deepEqual(
    plan(texts).map(({ references }) => references.map(({ content }) => content)),
    [[], [0], [1]],
  );
  const others = ["a.js", "b.py", "c.txt"].map((name, at) => fact(at, `/usr/${name}`, 10 * MIB));
  assert.ok(plan(others).every(({ references }) => references.length === 0));
});

test("a reference that is small against the pack does not pay", () => {
  const facts = [fact(0, "/usr/bin/a", 2 * MIB, SKETCH), fact(1, "/usr/bin/b", 12 * MIB, SKETCH)];
  const plans = facts.map((each) => ({
    segments: [{ content: each.content, offset: 0, length: each.sizeBytes }],
    references: [],
    rawBytes: each.sizeBytes,
  }));
  assert.deepEqual(counts(referToEarlier(plans, facts, { base: 0 })), [0, 0]);
  const like = facts.map((each) => ({ ...each, sizeBytes: 2 * MIB }));
  const even = plans.map((each) => ({
    ...each,
    segments: each.segments.map((segment) => ({ ...segment, length: 2 * MIB })),
    rawBytes: 2 * MIB,
  }));
  assert.deepEqual(counts(referToEarlier(even, like, { base: 0 })), [0, 1]);
});

test("without leave to refer there are no references", () => {
  const facts = [0, 1].map((at) => fact(at, `/usr/bin/tool${at}`, 10 * MIB, SKETCH));
  const pairs = facts.map((each) => ({ fact: each }));
  assert.ok(planPacks(pairs, LIMITS).every(({ references }) => references.length === 0));
  assert.equal(plan(facts)[1]?.references.length, 1);
});
