import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import type { Digest, Plan } from "#core";
import { sharePlans } from "./index.ts";

const id = (letter: string): Digest => `sha256:${letter.repeat(64)}`;

/** Upper-case letters are components that the destination holds. */
function planOf(machine: string, destination: string, letters: string): Plan {
  const components = letters.split("").map((letter) => ({
    component: {
      id: id(letter.toLowerCase()),
      kind: "program" as const,
      name: letter,
      version: "1",
      sizeBytes: 2e6,
      manifest: { digest: id("0"), sizeBytes: 1 },
    },
    held: letter !== letter.toLowerCase(),
    bytes: letter === letter.toLowerCase() ? 1e6 : 0,
  }));
  const payload = components.reduce((sum, { bytes }) => sum + bytes, 5e5);
  const totalBytes = Math.ceil(payload * 1.005);
  return {
    machine,
    source: "messina",
    destination,
    mode: "cold",
    case: "average",
    components,
    userData: { allocatedBytes: 1e6, bytes: 5e5 },
    totalBytes,
    monolithicBytes: 1e7,
    rate: { bitsPerSecond: 8e6, from: "limit" },
    expected_ms: Math.ceil(totalBytes / 1000),
    price: totalBytes / 1e9,
    notes: [],
  };
}

test("a component that two machines bring to one cloud is counted with the first", () => {
  const [web, other, db, far] = sharePlans([
    planOf("web", "x", "ab"),
    planOf("other", "x", "ab"),
    planOf("db", "x", "Ac"),
    planOf("far", "y", "a"),
  ]);
  assert.deepEqual(web, planOf("web", "x", "ab"));
  assert.deepEqual(
    other?.components.map(({ bytes, comesWith }) => [bytes, comesWith]),
    [
      [0, "web"],
      [0, "web"],
    ],
  );
  // Its user data and what frames cost, within a byte or two for rounding.
  assert.ok(Math.abs((other?.totalBytes ?? 0) - 502_500) <= 2);
  assert.ok(Math.abs((other?.expected_ms ?? 0) - 503) <= 2);
  assert.ok(Math.abs((other?.price ?? 0) - 502_500e-9) < 1e-8);
  // What is held comes with nobody, and each cloud has to get its own.
  assert.deepEqual(db, planOf("db", "x", "Ac"));
  assert.deepEqual(far, planOf("far", "y", "a"));
});

test("each component is counted once for each cloud, whatever the machines", () => {
  const plan = fc.tuple(
    fc.constantFrom("x", "y"),
    fc.uniqueArray(fc.constantFrom("a", "b", "c", "d", "A", "B")),
  );
  fc.assert(
    fc.property(fc.array(plan, { maxLength: 8 }), (machines) => {
      const plans = machines.map(([to, letters], index) =>
        planOf(`${index}`, to, letters.join("")),
      );
      const shared = sharePlans(plans);
      const counted = shared.flatMap(({ destination, components }) =>
        components
          .filter(({ bytes }) => bytes > 0)
          .map(({ component }) => `${destination} ${component.id}`),
      );
      assert.equal(new Set(counted).size, counted.length);
      const wanted = plans.flatMap(({ destination, components }) =>
        components
          .filter(({ held }) => !held)
          .map(({ component }) => `${destination} ${component.id}`),
      );
      assert.deepEqual(new Set(counted), new Set(wanted));
      for (const { totalBytes, expected_ms } of shared) {
        assert.ok(totalBytes >= 502_500 && expected_ms >= 502);
      }
    }),
  );
});
