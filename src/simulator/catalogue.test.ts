import assert from "node:assert/strict";
import { test } from "node:test";
import { compareDebianVersions } from "#core";
import { debianComponents, debianHistory } from "./index.ts";

test("the catalogue has kernels, systems and hundreds of programs, each with a sound size", () => {
  const all = debianComponents();
  const count = (kind: string): number => all.filter((each) => each.kind === kind).length;
  assert.deepEqual([count("kernel"), count("os")], [2, 3]);
  assert.ok(count("program") >= 300);
  assert.equal(new Set(all.map(({ name }) => name)).size, all.length);
  for (const { sizeBytes, ratio } of all) {
    assert.ok(Number.isSafeInteger(sizeBytes) && sizeBytes > 0 && ratio > 0 && ratio <= 1);
  }
});

const programs = (count?: number) =>
  debianComponents(count).filter(({ kind }) => kind === "program");

test("programs come by rank, and fewer are the first of them", () => {
  assert.deepEqual(programs(20), programs().slice(0, 20));
});

test("the history of each kernel ascends, and updates are a part of all", () => {
  const { kernelVersions, programsUpdated, closuresUpdated } = debianHistory();
  for (const versions of Object.values(kernelVersions)) {
    assert.ok(versions.length > 1);
    assert.deepEqual(versions, versions.toSorted(compareDebianVersions));
  }
  assert.ok(programsUpdated > 0 && programsUpdated <= closuresUpdated && closuresUpdated < 1);
});
