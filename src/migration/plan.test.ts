import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { caseOf, type Appliance, type ComponentReference, type Digest } from "#core";
import { DESTINATION, HOT_DESTINATION, HOT_SOURCE, SOURCE, diagramOf, makePlan } from "./index.ts";

const id = (letter: string): Digest => `sha256:${letter.repeat(64)}`;

function reference(letter: string, kind: ComponentReference["kind"]): ComponentReference {
  const manifest = { digest: id(letter), sizeBytes: 500 };
  return { id: id(letter), kind, name: letter, version: "1", sizeBytes: 1_000_000, manifest };
}

const appliance: Appliance = {
  name: "web",
  digest: id("f"),
  kernel: reference("a", "kernel"),
  os: reference("b", "os"),
  programs: [reference("c", "program"), reference("d", "program")],
  resources: { cpus: 1, memoryBytes: 2 ** 28, dataBytes: 2 ** 30, ports: [] },
  serviceLevel: { clouds: [], regions: [], priority: 50, maySlowDown: false },
};

function plan(held: readonly Digest[]) {
  return makePlan({
    machine: "m",
    source: "messina",
    destination: "inquadro",
    mode: "cold",
    appliance,
    held,
    ratios: new Map([[id("a"), 0.5]]),
    userData: { allocatedBytes: 5_000_000, bytes: 1_000_000 },
    rate: { bitsPerSecond: 8_000_000, from: "limit" },
    pricePerGB: 0.09,
    notes: [],
  });
}

test("the paper's three machines have 4, 0 and 2 components missing (section IV-B)", () => {
  const repository = new Set("ABCDHIL".split(""));
  const missing = (cvm: string): number => cvm.split("").filter((c) => !repository.has(c)).length;
  const named = (cvm: string) => caseOf(cvm.split("").map((c) => ({ held: repository.has(c) })));
  assert.deepEqual(["WXYZ", "ABCD", "ABGF"].map(missing), [4, 0, 2]);
  assert.deepEqual(["WXYZ", "ABCD", "ABGF"].map(named), ["worst", "best", "average"]);
});

test("a plan counts what is missing, and names the case", () => {
  const worst = plan([]);
  assert.equal(worst.case, "worst");
  assert.equal(worst.totalBytes, Math.ceil(4_500_000 * 1.005));
  assert.equal(worst.monolithicBytes, 4_500_000);
  const average = plan([id("a"), id("b")]);
  assert.equal(average.case, "average");
  assert.deepEqual(
    average.components.map(({ held, bytes }) => [held, bytes]),
    [
      [true, 0],
      [true, 0],
      [false, 1_000_000],
      [false, 1_000_000],
    ],
  );
  const best = plan([id("a"), id("b"), id("c"), id("d")]);
  assert.equal(best.case, "best");
  assert.equal(best.totalBytes, 1_005_000);
  assert.equal(best.expected_ms, 1005);
});

test("the diagrams in doc/migration.md are those of the tables", () => {
  const file = join(import.meta.dirname, "..", "..", "doc", "migration.md");
  const text = readFileSync(file, "utf8");
  const diagrams = [...text.matchAll(/```mermaid\n([^`]*)```/g)].map((match) => match[1]?.trim());
  assert.equal(diagrams[0], diagramOf(SOURCE, "proposed"));
  assert.equal(diagrams[1], diagramOf(DESTINATION, "accepted"));
  assert.equal(diagrams[2], diagramOf(HOT_SOURCE, "proposed"));
  assert.equal(diagrams[3], diagramOf(HOT_DESTINATION, "accepted"));
});
