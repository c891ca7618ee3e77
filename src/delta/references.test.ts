import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { chooseReferences, type ReferenceFact, type WantedFact } from "#delta";
import { versionlessPath } from "./version-path.ts";

const NONE = new Uint32Array(0);

function fact(path: string, sizeBytes: number, sketch: readonly number[] = []): WantedFact {
  return { path, sizeBytes, head: "0".repeat(16), content: 0, sketch: Uint32Array.from(sketch) };
}

function held(path: string, sizeBytes: number, more: Partial<ReferenceFact> = {}): ReferenceFact {
  return { path, sizeBytes, head: "1".repeat(16), sketch: NONE, base: 0, content: 0, ...more };
}

function choose(wanted: WantedFact, references: readonly ReferenceFact[]): string | undefined {
  return chooseReferences([wanted], references)[0]?.path;
}

test("version numbers in a path do not matter", () => {
  const pairs: readonly (readonly [string, string])[] = [
    [
      "/lib/modules/6.1.0-55-cloud-amd64/kernel/fs/ext4/ext4.ko",
      "/lib/modules/6.1.0-56-cloud-amd64/kernel/fs/ext4/ext4.ko",
    ],
    ["/usr/lib/libssl.so.3.0.11", "/usr/lib/libssl.so.3.0.17"],
    ["/usr/lib/libdns-9.18.49-1~deb12u1-Debian.so", "/usr/lib/libdns-9.18.49-1~deb12u3-Debian.so"],
    ["/usr/lib/python3.11/os.py", "/usr/lib/python3.13/os.py"],
  ];
  for (const [old, now] of pairs) {
    assert.equal(versionlessPath(old), versionlessPath(now));
    assert.equal(choose(fact(now, 9_000), [held("/other", 9_000), held(old, 8_000)]), old);
  }
  assert.notEqual(
    versionlessPath("/usr/lib/libssl.so.3"),
    versionlessPath("/usr/lib/libcrypto.so.3"),
  );
});

test("the same path goes before a similar one, that before similar bytes", () => {
  const wanted = fact("/lib/a.so.2", 9_000, [1, 2, 3, 4, 5, 6, 7, 8]);
  const alike = held("/opt/z", 9_000, { sketch: wanted.sketch });
  const versioned = held("/lib/a.so.1", 9_000);
  const same = held("/lib/a.so.2", 5_000);
  assert.equal(choose(wanted, [alike, versioned, same]), same.path);
  assert.equal(choose(wanted, [alike, versioned]), versioned.path);
  assert.equal(choose(wanted, [alike]), alike.path);
});

test("of several the same base name wins, then the likeness, the size, the base", () => {
  const wanted = fact("/m/2/x.ko", 9_000, [1, 2, 3, 4, 5, 6, 7, 8]);
  const named = held("/m/1/x.ko", 20_000);
  assert.equal(
    choose(fact("/m/2/x1.ko", 9_000), [held("/m/1/x2.ko", 9_000), held("/m/1/x1.ko", 20_000)]),
    "/m/1/x1.ko",
  );
  const alike = held("/m/3/x.ko", 30_000, { sketch: wanted.sketch });
  assert.equal(choose(wanted, [named, alike]), alike.path);
  assert.equal(choose(fact("/m/2/x.ko", 9_000), [named, held("/m/4/x.ko", 9_500)]), "/m/4/x.ko");
  const twins = [
    held("/m/2/x.ko", 9_000, { base: 1 }),
    held("/m/2/x.ko", 9_000, { base: 0, content: 5 }),
  ];
  assert.equal(chooseReferences([wanted], twins)[0]?.base, 0);
});

test("a reference of absurd size or little likeness is none", () => {
  assert.equal(choose(fact("/a", 10_000_000), [held("/a", 70_000)]), undefined);
  assert.equal(choose(fact("/a", 70_000), [held("/a", 10_000_000)]), undefined);
  assert.equal(choose(fact("/a", 100), [held("/a", 60_000)]), "/a");
  const wanted = fact("/a", 9_000, [1, 2, 3, 4, 5, 6, 7, 8]);
  const little = Uint32Array.from([1, 0, 0, 0, 0, 0, 0, 0]);
  assert.equal(choose(wanted, [held("/b", 9_000, { sketch: little })]), undefined);
});

test("contents without a path have references by likeness only", () => {
  const sketch = [1, 2, 3, 4, 5, 6, 7, 8];
  assert.equal(choose(fact("", 9_000), [held("", 9_000)]), undefined);
  const alike = held("", 9_000, { sketch: Uint32Array.from(sketch), content: 7 });
  assert.equal(
    chooseReferences([fact("", 9_000, sketch)], [held("", 9_000), alike])[0]?.content,
    7,
  );
});

const anyFact = fc.record({
  path: fc.stringMatching(/^\/[ab]\/[xy][0-9]{0,2}$/),
  sizeBytes: fc.integer({ min: 1, max: 10_000_000 }),
  head: fc.constant("0".repeat(16)),
  content: fc.nat(50),
  base: fc.nat(3),
  sketch: fc
    .array(fc.nat(3), { minLength: 8, maxLength: 8 })
    .map((numbers) => Uint32Array.from(numbers)),
});

function key(reference: ReferenceFact): string {
  return `${String(reference.base)}:${String(reference.content)}`;
}

test("the choice does not depend on the order of the references", () => {
  const distinct = fc.uniqueArray(anyFact, { selector: key, maxLength: 30 });
  fc.assert(
    fc.property(fc.array(anyFact, { maxLength: 10 }), distinct, (wanted, references) => {
      const chosen = chooseReferences(wanted, references);
      assert.equal(chosen.length, wanted.length);
      assert.deepEqual(chooseReferences(wanted, references.toReversed()), chosen);
      for (const [index, reference] of chosen.entries()) {
        if (reference === undefined) continue;
        const sizes = [reference.sizeBytes, wanted[index]?.sizeBytes ?? 0];
        const [large, small] = [Math.max(...sizes), Math.min(...sizes)];
        assert.ok(large <= 65_536 || large <= 8 * small);
      }
    }),
  );
});

test("thirty thousand contents of one shape take seconds, not hours", () => {
  const wanted = Array.from({ length: 30_000 }, (_, index) =>
    fact(`/spool/${String(index)}`, 1 + (index % 5_000), [index, 1, 1, 1, 1, 1, 1, 1]),
  );
  const references = wanted.map((each, index) =>
    held(`/spool/x${each.path}`, each.sizeBytes, { content: index, sketch: each.sketch }),
  );
  const before = process.cpuUsage();
  assert.equal(chooseReferences(wanted, references).length, wanted.length);
  const spent = process.cpuUsage(before);
  assert.ok(spent.user < 20e6, `${String(spent.user / 1e6)} s of processor time`);
});
