import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { test } from "node:test";
import type { Fault } from "#core";
import { classOf, statusOf, type ErrorClass } from "./classes.ts";

const CASES: readonly (readonly [Fault, string, ErrorClass, number])[] = [
  ["misuse", "api.input-invalid", "usage", 400],
  ["misuse", "repository.component-ambiguous", "usage", 400],
  ["misuse", "repository.component-unknown", "missing", 404],
  ["misuse", "cli.file-not-found", "missing", 404],
  ["misuse", "api.path-unknown", "missing", 404],
  ["misuse", "api.method-wrong", "usage", 405],
  ["misuse", "api.body-too-large", "usage", 413],
  ["misuse", "repository.component-pinned", "conflict", 409],
  ["misuse", "system.exists", "conflict", 409],
  ["misuse", "agent.already-running", "conflict", 409],
  ["misuse", "compose.constraint-unmet", "refused", 422],
  ["misuse", "migration.no-destination", "refused", 422],
  ["misuse", "migration.too-late", "conflict", 409],
  ["misuse", "agent.machine-in-use", "conflict", 409],
  ["peer", "federation.refused", "refused", 422],
  ["peer", "federation.timeout", "peer", 502],
  ["corrupt", "repository.blob-corrupt", "corrupt", 500],
  ["environment", "repository.no-space", "full", 507],
  ["environment", "system.disk-full", "full", 507],
  ["environment", "system.not-found", "missing", 404],
  ["environment", "hypervisor.start-failed", "environment", 503],
  ["bug", "core.unexpected", "bug", 500],
];

for (const [fault, code, kind, status] of CASES) {
  test(`${fault} ${code} is ${kind}, ${status}`, () => {
    assert.equal(classOf({ fault, code }), kind);
    assert.equal(statusOf({ fault, code, message: "" }), status);
  });
}

test("the end of a code is a whole word", () => {
  assert.equal(classOf({ fault: "misuse", code: "a.preexists" }), "usage");
  assert.equal(classOf({ fault: "bug", code: "a.b-unknown" }), "bug");
});

test("doc/errors.md tells the rule as it is", () => {
  const path = resolve(import.meta.dirname, "..", "..", "doc", "errors.md");
  const text = readFileSync(path, "utf8");
  const table = text.slice(text.indexOf("## Classes"), text.indexOf("## Exit codes"));
  const rows = [...table.matchAll(/^\| `(\w+)` +\| `(\w+)` +\| (.*) \|$/gm)];
  assert.equal(rows.length, 11);
  for (const [, fault = "", kind, ends = ""] of rows) {
    const listed = [...ends.matchAll(/`([a-z-]+)`/g)].map((match) => match[1] ?? "");
    for (const end of listed.length === 0 ? ["something-else"] : listed) {
      const code = `room.${end}`;
      assert.equal(classOf({ fault: fault as Fault, code }), kind, `${fault} ${code}`);
    }
  }
});
