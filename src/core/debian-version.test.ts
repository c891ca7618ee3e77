import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import * as fc from "fast-check";
import { compareDebianVersions } from "#core";

/** Ascending groups; versions within one group are equal. */
const ORDER: readonly (readonly string[])[] = [
  ["~~"],
  ["~~a"],
  ["~"],
  ["", "0", "00", "0:0", "0-0"],
  ["0.1~rc1"],
  ["0.1", "0:0.1", "0.1-0", "0.01"],
  ["1.0~beta1~svc1"],
  ["1.0~beta1"],
  ["1.0", "1.0-0"],
  ["1.0-0.1"],
  ["1.0-1~bpo12+1"],
  ["1.0-1"],
  ["1.0-1+deb12u1"],
  ["1.0-1.1"],
  ["1.0a"],
  ["1.0aZ"],
  ["1.0+dfsg-1"],
  ["1.0-1-1"],
  ["1.0.1"],
  ["1.9"],
  ["1.10"],
  ["2.36-9+deb12u4"],
  ["2.36-9+deb12u10"],
  ["18446744073709551616"],
  ["18446744073709551617"],
  ["1:0.1"],
  ["1:1.2.13.dfsg-1"],
  ["2:0"],
];

test("versions sort as deb-version(7) says", () => {
  const flat = ORDER.flatMap((group, rank) => group.map((version) => ({ version, rank })));
  for (const a of flat) {
    for (const b of flat) {
      const sign = Math.sign(compareDebianVersions(a.version, b.version));
      assert.equal(sign, Math.sign(a.rank - b.rank), `"${a.version}" against "${b.version}"`);
    }
  }
});

const dpkg = spawnSync("dpkg", ["--version"]).status === 0;

function relation(a: string, b: string, sign: string): boolean {
  return spawnSync("dpkg", ["--compare-versions", a, sign, b]).status === 0;
}

test("dpkg agrees with the table", { skip: dpkg ? false : "dpkg is not installed" }, () => {
  const versions = ORDER.map((group) => group.at(-1) ?? "").filter((v) => /^\d/.test(v));
  for (const [index, version] of versions.entries()) {
    const next = versions[index + 1];
    if (next !== undefined) assert.ok(relation(version, next, "lt-nl"), `${version} ${next}`);
  }
  for (const group of ORDER) {
    const valid = group.filter((version) => /^\d/.test(version));
    for (const version of valid.slice(1)) assert.ok(relation(valid[0] ?? "", version, "eq"));
  }
});

const version = fc.stringMatching(/^(?:\d:)?\d[0-9a-z.+~]{0,6}(?:-[0-9a-z.+~]{1,4})?$/);

test("the order is total: reflexive, antisymmetric and transitive", () => {
  fc.assert(
    fc.property(version, version, version, (a, b, c) => {
      assert.equal(compareDebianVersions(a, a), 0);
      assert.equal(
        Math.sign(compareDebianVersions(a, b)) + Math.sign(compareDebianVersions(b, a)),
        0,
      );
      const sorted = [a, b, c].toSorted(compareDebianVersions);
      assert.ok(compareDebianVersions(sorted[0] ?? "", sorted[2] ?? "") <= 0);
    }),
    { numRuns: 2000 },
  );
});

test("a tilde sorts before what it is appended to", () => {
  fc.assert(
    fc.property(version, fc.stringMatching(/^[0-9a-z]{0,4}$/), (a, tail) => {
      assert.ok(compareDebianVersions(`${a}~${tail}`, a) < 0);
    }),
  );
});

test("dpkg agrees on random versions", { skip: dpkg ? false : "dpkg is not installed" }, () => {
  fc.assert(
    fc.property(version, version, (a, b) => {
      const order = Math.sign(compareDebianVersions(a, b));
      const sign = order < 0 ? "lt" : order > 0 ? "gt" : "eq";
      assert.ok(relation(a, b, sign), `${a} ${sign} ${b}`);
    }),
    { numRuns: 150 },
  );
});
