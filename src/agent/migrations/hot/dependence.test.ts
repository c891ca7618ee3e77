import assert from "node:assert/strict";
import { test } from "node:test";
import type { MigrationRecord } from "../record.ts";
import { dependenceOf } from "./dependence.ts";

/** What is read of a record, and no more. */
function record(
  role: "source" | "destination",
  phase: string,
  method: "precopy" | "postcopy" = "precopy",
): MigrationRecord {
  const part = { mode: "hot", role, phase, peer: "inquadro", switch: { method } };
  return part as unknown as MigrationRecord;
}

const stream = (id: string, doneBytes: number, totalBytes: number) => ({
  stream: id,
  name: id,
  doneBytes,
  totalBytes,
  wireBytes: 0,
});

test("what a machine still needs of the other cloud is named, with bytes where they are known", () => {
  const data = stream("userData", 1e6, 4e6);
  const memory = stream("memory", 5e6, 5.5e6);
  assert.equal(
    dependenceOf(record("source", "supplying"), [data]),
    "the machine at inquadro still needs from this cloud: 3.0 MB of its user data",
  );
  assert.equal(
    dependenceOf(record("source", "handed-over", "postcopy"), [data, memory]),
    "the machine at inquadro still needs from this cloud: 3.0 MB of its user data and 500 kB of its memory",
  );
  assert.equal(
    dependenceOf(record("destination", "filling", "postcopy"), [data]),
    "the machine here still needs from inquadro: 3.0 MB of its user data and what has not gone over of its memory",
  );
  assert.equal(
    dependenceOf(record("source", "supplying"), [stream("userData", 4e6, 4e6)]),
    "the machine at inquadro still needs from this cloud: the end of the migration",
  );
});

test("before the switch and after the end nothing depends on the other cloud", () => {
  for (const phase of ["moving", "switching", "releasing", "completed", "aborted"]) {
    assert.equal(dependenceOf(record("source", phase), []), undefined);
  }
  assert.equal(dependenceOf(record("destination", "ready"), []), undefined);
  const cold = { ...record("source", "handed-over"), mode: "cold" } as MigrationRecord;
  assert.equal(dependenceOf(cold, []), undefined);
});
