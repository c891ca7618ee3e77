import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { type PackPlan, type PairedContent, planPacks, type ReferenceFact } from "#delta";
import { kindOf } from "./content-kind.ts";

const NONE = new Uint32Array(0);
const LIMITS = { rawBytesMax: 4 * 2 ** 20, referenceBytesMax: 8 * 2 ** 20 };

function pair(
  content: number,
  path: string,
  sizeBytes: number,
  referenceBytes?: number,
): PairedContent {
  const common = { head: "0".repeat(16), sketch: NONE, content, path };
  const fact = { ...common, sizeBytes };
  if (referenceBytes === undefined) return { fact };
  return { fact, reference: { ...common, sizeBytes: referenceBytes, base: 0 } };
}

/** Every byte once, within the limits, references within their contents. */
function check(
  wanted: readonly PairedContent[],
  plans: readonly PackPlan[],
  limits = LIMITS,
): void {
  const at = new Map<number, number>();
  const references = new Map<number, ReferenceFact>();
  for (const { reference } of wanted) if (reference) references.set(reference.content, reference);
  for (const plan of plans) {
    assert.ok(plan.rawBytes > 0 && plan.rawBytes <= limits.rawBytesMax);
    assert.equal(plan.rawBytes, sum(plan.segments));
    assert.ok(sum(plan.references) <= limits.referenceBytesMax);
    for (const segment of plan.segments) {
      assert.ok(segment.length > 0);
      assert.equal(segment.offset, at.get(segment.content) ?? 0);
      at.set(segment.content, segment.offset + segment.length);
    }
    for (const { content, offset, length } of plan.references) {
      assert.ok(length > 0 && offset >= 0);
      assert.ok(offset + length <= (references.get(content)?.sizeBytes ?? 0));
    }
  }
  for (const { fact } of wanted) assert.equal(at.get(fact.content), fact.sizeBytes);
  assert.equal(at.size, wanted.length);
}

function sum(runs: readonly { readonly length: number }[]): number {
  return runs.reduce((total, run) => total + run.length, 0);
}

const anyWanted = fc
  .array(
    fc.record({
      path: fc.stringMatching(/^\/[a-d]\/[a-d]\/[a-h]{1,3}(?:\.so|\.py)?$/),
      sizeBytes: fc.integer({ min: 1, max: 60 }),
      referenceBytes: fc.option(fc.integer({ min: 1, max: 90 }), { nil: undefined }),
    }),
    { maxLength: 60 },
  )
  .map((list) =>
    list.map((each, content) => pair(content, each.path, each.sizeBytes, each.referenceBytes)),
  );

test("every wanted byte is in one pack, and limits hold, whatever is wanted", () => {
  const limits = fc.record({
    rawBytesMax: fc.integer({ min: 1, max: 50 }),
    referenceBytesMax: fc.nat(80),
  });
  fc.assert(
    fc.property(anyWanted, limits, (wanted, bounds) => {
      const plans = planPacks(wanted, bounds);
      check(wanted, plans, bounds);
      assert.deepEqual(planPacks(wanted.toReversed(), bounds), plans);
    }),
  );
});

test("a content of 5 GB is cut evenly, with the part of its reference that lies there", () => {
  const wanted = [pair(0, "/big", 5e9, 4e9), pair(1, "/other", 5e9)];
  const plans = planPacks(wanted, LIMITS);
  check(wanted, plans);
  const patched = plans.filter((plan) => plan.references.length > 0);
  assert.equal(patched.length, Math.ceil(5e9 / LIMITS.rawBytesMax));
  for (const plan of patched) {
    const [segment, window] = [plan.segments[0], plan.references[0]];
    assert.ok(segment && window && window.length >= 1.5 * segment.length);
    const place = segment.offset * 0.8;
    assert.ok(
      window.offset <= place && window.offset + window.length >= place + segment.length * 0.8,
    );
  }
});

test("small patched contents share packs with their neighbours, and a reference counts once", () => {
  const wanted = [pair(1, "/d/b", 1_000, 3_000), pair(0, "/d/a", 1_000, 2_000)];
  const shared = { ...pair(2, "/d/c", 1_000), reference: wanted[0]?.reference };
  const [plan, ...rest] = planPacks([...wanted, shared], LIMITS);
  assert.equal(rest.length, 0);
  assert.deepEqual(
    plan?.segments.map((segment) => segment.content),
    [0, 1, 2],
  );
  assert.deepEqual(
    plan?.references.map((reference) => reference.content),
    [0, 1],
  );
});

function tree(root: string, from: number): PairedContent[] {
  return Array.from({ length: 4_000 }, (_, index) =>
    pair(from + index, `${root}/d${String(index % 90)}/f${String(index)}`, 20_000, 20_000),
  );
}

test("packs of one folder tree stay the same when things are wanted elsewhere", () => {
  const alone = planPacks(tree("/m", 0), LIMITS);
  const keys = new Set(planPacks([...tree("/a", 5_000), ...tree("/m", 0)], LIMITS).map(keyOf));
  const kept = alone.filter((plan) => keys.has(keyOf(plan))).length;
  assert.ok(alone.length > 10);
  assert.ok(kept >= alone.length * 0.8, `${String(kept)} of ${String(alone.length)}`);
});

function keyOf(plan: PackPlan): string {
  return JSON.stringify([plan.segments, plan.references]);
}

test("contents without references lie by kind, then by path", () => {
  const paths = ["/usr/share/a.py", "/usr/bin/b", "/usr/lib/c.so.1.2", "/usr/share/d", "/etc/e.py"];
  const wanted = paths.map((path, content) => pair(content, path, 10));
  const [plan] = planPacks(wanted, LIMITS);
  assert.deepEqual(
    plan?.segments.map((segment) => paths[segment.content]),
    ["/etc/e.py", "/usr/share/a.py", "/usr/bin/b", "/usr/lib/c.so.1.2", "/usr/share/d"],
  );
  assert.equal(kindOf("/usr/lib/x/libssl.so.3.0.17"), "elf");
  assert.equal(kindOf("/etc/.bashrc"), "none");
});

test("nothing wanted needs no pack", () => {
  assert.deepEqual(planPacks([], LIMITS), []);
});
