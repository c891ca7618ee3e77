import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import * as fc from "fast-check";
import { compareVersions, satisfies } from "./version.ts";

/** dpkg's own word, for many pairs by one shell. */
function dpkgSays(pairs: readonly (readonly [string, string])[]): number[] {
  const script = pairs
    .map(
      ([a, b]) =>
        `if dpkg --compare-versions '${a}' lt '${b}'; then echo -1; ` +
        `elif dpkg --compare-versions '${a}' gt '${b}'; then echo 1; else echo 0; fi`,
    )
    .join("\n");
  const { stdout } = spawnSync("sh", ["-s"], { input: script, encoding: "utf8" });
  return stdout.trim().split("\n").map(Number);
}

const version = fc
  .tuple(
    fc.constantFrom("", "0:", "1:", "2:"),
    fc.stringMatching(/^[0-9][0-9a-z.+~]{0,8}$/),
    fc.constantFrom("", "-1", "-1~deb12u1", "-1+b1", "-10", "-0"),
  )
  .map((parts) => parts.join(""));

test("versions compare as dpkg compares them", () => {
  const random = fc.sample(fc.tuple(version, version), { numRuns: 150, seed: 7 });
  const pairs: (readonly [string, string])[] = [
    ["1.0~rc1", "1.0"],
    ["1.0", "1.0-1"],
    ["1.0+a", "1.0a"],
    ["1.10", "1.9"],
    ["0:1", "1"],
    ["1.0~~", "1.0~"],
    ["1.001", "1.1"],
    ...random,
  ];
  assert.deepEqual(
    pairs.map(([a, b]) => Math.sign(compareVersions(a, b))),
    dpkgSays(pairs),
  );
});

test("versions are in one order", () => {
  fc.assert(
    fc.property(version, version, (a, b) => {
      assert.equal(Math.sign(compareVersions(a, b)), -Math.sign(compareVersions(b, a)) || 0);
      assert.equal(compareVersions(a, a), 0);
    }),
  );
});

test("relations hold as they read", () => {
  assert.ok(satisfies("2.36-9", ">=", "2.34"));
  assert.ok(!satisfies("2.31-13", ">=", "2.34"));
  assert.ok(satisfies("1.0", "=", "1.0"));
  assert.ok(satisfies("1.0~rc1", "<<", "1.0"));
  assert.ok(!satisfies("1.0", ">>", "1.0"));
  assert.ok(satisfies("1.0", "<=", "1.0"));
});
