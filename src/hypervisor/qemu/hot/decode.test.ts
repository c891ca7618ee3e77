import assert from "node:assert/strict";
import { test } from "node:test";
import { hasCode } from "#core";
import { hotEventOf, migrationInfoOf } from "./decode.ts";

const broken = (error: unknown): boolean => hasCode(error, "hypervisor.qmp-broken");

test("statistics are in bytes, bits a second and milliseconds", () => {
  const info = migrationInfoOf({
    status: "active",
    "total-time": 2000,
    "expected-downtime": 120,
    "cpu-throttle-percentage": 30,
    ram: {
      transferred: 10,
      remaining: 20,
      total: 30,
      "dirty-pages-rate": 100,
      "page-size": 4096,
      mbps: 96.5,
      "dirty-sync-count": 3,
      "postcopy-requests": 4,
    },
  });
  assert.deepEqual(info, {
    status: "active",
    transferredBytes: 10,
    remainingBytes: 20,
    totalBytes: 30,
    dirtyRate_Bps: 409_600,
    rate_bps: 96_500_000,
    passes: 3,
    postcopyRequests: 4,
    total_ms: 2000,
    slowedPercent: 30,
    expectedDowntime_ms: 120,
    blockedBy: [],
  });
});

test("no migration is none; a downtime of 0 is not known yet; reasons are given", () => {
  assert.equal(migrationInfoOf({}).status, "none");
  assert.equal(migrationInfoOf({ status: "completed", downtime: 0 }).downtime_ms, undefined);
  assert.equal(migrationInfoOf({ status: "completed", downtime: 87 }).downtime_ms, 87);
  assert.equal(migrationInfoOf({ status: "failed", "error-desc": "no" }).reason, "no");
  const blockedBy = ["The vmdk format used by node 'x' does not support live migration"];
  assert.deepEqual(migrationInfoOf({ "blocked-reasons": blockedBy }).blockedBy, blockedBy);
});

const event = (name: string, data?: unknown) => hotEventOf({ event: name, data, at_ms: 5 });

test("events are told apart and bear their time", () => {
  assert.deepEqual(event("MIGRATION", { status: "postcopy-paused" }), {
    kind: "status",
    status: "postcopy-paused",
    at_ms: 5,
  });
  assert.deepEqual(event("MIGRATION_PASS", { pass: 2 }), { kind: "pass", pass: 2, at_ms: 5 });
  assert.deepEqual(event("STOP"), { kind: "stopped", at_ms: 5 });
  assert.deepEqual(event("RESUME"), { kind: "resumed", at_ms: 5 });
  const failed = { action: "stop", reason: "No space left on device" };
  assert.deepEqual(event("BLOCK_IO_ERROR", { ...failed, device: "" }), {
    kind: "disk-error",
    ...failed,
    at_ms: 5,
  });
  assert.equal(event("RTC_CHANGE", {}), undefined);
});

test("what QEMU never says is broken, and not taken for something else", () => {
  for (const answer of [null, [], { status: "colo" }, { status: "active", ram: 3 }]) {
    assert.throws(() => migrationInfoOf(answer), broken);
  }
  assert.throws(() => hotEventOf({ event: "MIGRATION", data: {}, at_ms: 1 }), broken);
  assert.throws(() => hotEventOf({ event: "MIGRATION_PASS", data: "1", at_ms: 1 }), broken);
});
