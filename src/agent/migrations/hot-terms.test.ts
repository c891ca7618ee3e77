import assert from "node:assert/strict";
import { test } from "node:test";
import type { HotCapabilities, HotDescription } from "#hypervisor";
import { hotObjections, keptNotes, refusePostcopy, termsOf, warningsOf } from "./hot-terms.ts";

const DESCRIPTION: HotDescription = {
  hypervisor: "qemu",
  version: "7.2.22",
  architecture: "amd64",
  machineType: "pc-q35-7.2",
  cpuModel: "Westmere",
  accelerator: "tcg",
  cpus: 1,
  ramBytes: 327_688 * 1024,
  devices: [],
  formats: ["raw"],
};
const THERE: HotCapabilities = {
  hypervisor: "qemu",
  version: "7.2.22",
  architecture: "amd64",
  machineTypes: ["pc-q35-7.2"],
  cpuModels: { tcg: ["Nehalem", "Westmere"] },
  features: ["events", "return-path", "late-block-activate", "pause-before-switchover"],
  postcopy: true,
};

test("an objection names the reason, the nearest model and the way that remains", () => {
  assert.deepEqual(hotObjections(DESCRIPTION, THERE), []);
  const [lacking] = hotObjections(DESCRIPTION, { ...THERE, cpuModels: { tcg: ["Nehalem"] } });
  assert.match(lacking ?? "", /no processor model Westmere; it could take it with Nehalem.*cold/);
  assert.match(hotObjections(DESCRIPTION, undefined)[0] ?? "", /cold/);
});

test("post-copy that was asked for and cannot be is refused, others go on without it", () => {
  const terms = { storage: "hybrid", postcopy: false, description: DESCRIPTION } as const;
  assert.throws(() => refusePostcopy({ ...terms, memory: "postcopy" }, "inquadro", "uuid"), {
    code: "migration.postcopy-unsuitable",
  });
  refusePostcopy({ ...terms, memory: "auto" }, "inquadro", "uuid");
});

function allowed(memory: "precopy" | "postcopy" | "auto", postcopy: boolean): boolean {
  const hot = { memory, storage: "hybrid" } as const;
  return termsOf({ hot }, DESCRIPTION, { hot: { ...THERE, postcopy } }).postcopy;
}

test("memory may follow where the destination can take it and pre-copy was not asked for", () => {
  assert.ok(allowed("postcopy", true) && allowed("auto", true));
  assert.ok(!allowed("precopy", true) && !allowed("auto", false) && !allowed("postcopy", false));
});

test("the plan tells what cannot be undone, and on whom the machine depends", () => {
  const terms = { postcopy: true, description: DESCRIPTION } as const;
  const told = (memory: "precopy" | "postcopy" | "auto", storage: "push" | "pull"): number =>
    warningsOf({ ...terms, memory, storage }).length;
  assert.equal(told("precopy", "push"), 0);
  assert.equal(told("auto", "push"), 1);
  assert.equal(told("postcopy", "pull"), 2);
});

test("the plan tells whether a copy that is kept there is of use", () => {
  const certificate = `sha256:${"a".repeat(64)}` as const;
  const told = (storage: "push" | "pull", kept?: boolean): string => {
    const terms = { memory: "auto", storage, postcopy: false, description: DESCRIPTION } as const;
    const hot = { postcopy: false, ...(kept === undefined ? {} : { kept }) };
    return keptNotes(terms, { held: [], certificate, objections: [], hot }, "inquadro").join();
  };
  assert.match(told("push", true), /only blocks that differ/);
  assert.match(told("pull", true), /not used/);
  assert.deepEqual([told("push", false), told("push")], ["", ""]);
});
