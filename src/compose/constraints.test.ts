import assert from "node:assert/strict";
import { test } from "node:test";
import type { Component, Constraint } from "#core";
import { checkConstraints, refuseUnmet } from "./constraints.ts";
import { component, withCode } from "./fixtures.suite.ts";

const soname = (name: string, version?: string): Constraint =>
  version === undefined ? { type: "soname", name } : { type: "soname", name, version };

const os = (provides: readonly Constraint[]): Component =>
  component("os", { kind: "os", provides });

const needing = (...requires: readonly Constraint[]): Component => component("tool", { requires });

const unmetOf = (...components: readonly Component[]) =>
  checkConstraints(components).map(({ componentName, level, need, found }) => [
    componentName,
    level,
    need.name,
    found,
  ]);

test("a shared object that nothing provides is a binary fault", () => {
  const tool = needing(soname("libssl.so.3"));
  assert.deepEqual(unmetOf(os([]), tool), [["tool", "binary", "libssl.so.3", undefined]]);
  assert.deepEqual(unmetOf(os([soname("libssl.so.3")]), tool), []);
});

test("a symbol version is met by the highest of its series", () => {
  const libc = os([soname("libc.so.6", "GLIBC_2.36"), soname("libc.so.6", "GLIBC_PRIVATE")]);
  const met = ["GLIBC_2.36", "GLIBC_2.9", "GLIBC_2.2.5", "GLIBC_PRIVATE"];
  for (const version of met) {
    assert.deepEqual(unmetOf(libc, needing(soname("libc.so.6", version))), [], version);
  }
  assert.deepEqual(unmetOf(libc, needing(soname("libc.so.6", "GLIBC_2.38"))), [
    ["tool", "binary", "libc.so.6", "libc.so.6 GLIBC_2.36"],
  ]);
  assert.equal(unmetOf(libc, needing(soname("libc.so.6", "GLIBC_ABI_DT_RELR"))).length, 1);
});

const fits = (offer: string, need: string): boolean =>
  unmetOf(os([soname("lib", offer)]), needing(soname("lib", need))).length === 0;

test("old and new ways to write a symbol version are compared by number", () => {
  assert.ok(fits("OPENSSL_1_1_1", "OPENSSL_1_1_0"));
  assert.ok(!fits("OPENSSL_1_1_0", "OPENSSL_1_1_1"));
  assert.ok(!fits("OPENSSL_1.0.2a", "OPENSSL_1.0.2d"));
  assert.ok(fits("NCURSES6_TINFO_6.1.20171230", "NCURSES6_TINFO_5.7"));
  assert.ok(!fits("GLIBCXX_3.4.30", "CXXABI_1.3"));
});

const DEPENDS: readonly (readonly [Constraint["relation"], string, boolean])[] = [
  [">=", "2.36-9", true],
  [">=", "2.37", false],
  ["<<", "2.36-9+deb12u1", true],
  ["<<", "2.36-9", false],
  ["<=", "2.36-9", true],
  ["=", "2.36-9", true],
  ["=", "2.36", false],
  [">>", "2.36~rc1", true],
];

for (const [relation, version, met] of DEPENDS) {
  test(`libc6 2.36-9 ${met ? "meets" : "does not meet"} ${relation} ${version}`, () => {
    const packages = [{ name: "libc6", version: "2.36-9", architecture: "amd64" }];
    const need: Constraint = { type: "package", name: "libc6", version };
    const tool = needing(relation === undefined ? need : { ...need, relation });
    const unmet = unmetOf(component("os", { kind: "os", packages }), tool);
    assert.deepEqual(unmet, met ? [] : [["tool", "package", "libc6", "libc6 2.36-9"]]);
  });
}

test("one alternative of several is enough", () => {
  const need: Constraint = {
    type: "package",
    name: "default-mta",
    alternatives: [{ type: "package", name: "mail-transport-agent" }],
  };
  const provides: Constraint[] = [{ type: "package", name: "mail-transport-agent" }];
  assert.deepEqual(unmetOf(os(provides), needing(need)), []);
  assert.equal(unmetOf(os([]), needing(need)).length, 1);
});

test("a virtual package without version does not meet a versioned need", () => {
  const need: Constraint = { type: "package", name: "abi", version: "2", relation: ">=" };
  assert.equal(unmetOf(os([{ type: "package", name: "abi" }]), needing(need)).length, 1);
  const versioned: Constraint = { type: "package", name: "abi", version: "3" };
  assert.deepEqual(unmetOf(os([versioned]), needing(need)), []);
});

test("a package's architecture qualifier is not part of its name", () => {
  const provides: Constraint[] = [{ type: "package", name: "perl" }];
  assert.deepEqual(unmetOf(os(provides), needing({ type: "package", name: "perl:any" })), []);
});

test("components of another architecture are named, those for all are not", () => {
  const arm = component("arm-tool", { architecture: "arm64" });
  const all = component("scripts", { architecture: "all" });
  assert.deepEqual(unmetOf(os([]), arm, all), [["arm-tool", "architecture", "amd64", "arm64"]]);
});

test("an operating system and a system user can be needed", () => {
  const debian = component("debian-12", { kind: "os", version: "12" });
  assert.deepEqual(unmetOf(debian, needing({ type: "os", name: "debian-12" })), []);
  assert.deepEqual(
    unmetOf(debian, needing({ type: "os", name: "debian-13" }, { type: "user", name: "redis" })),
    [
      ["tool", "os", "debian-13", undefined],
      ["tool", "os", "redis", undefined],
    ],
  );
});

test("a program may provide what another program needs, whatever their order", () => {
  const library = component("library", { provides: [soname("libx.so.1", "X_1")] });
  assert.deepEqual(unmetOf(os([]), needing(soname("libx.so.1", "X_1")), library), []);
});

test("refusing names component and constraint; package faults can be allowed", () => {
  const binary = [os([]), needing(soname("libssl.so.3", "OPENSSL_3.0.0"))];
  assert.throws(
    () => refuseUnmet(binary, { allowPackageFaults: true }),
    /tool needs libssl\.so\.3 \(OPENSSL_3\.0\.0\), which nothing provides \(binary constraint\)/,
  );
  const package_ = [os([]), needing({ type: "package", name: "adduser" })];
  assert.throws(
    () => refuseUnmet(package_, { allowPackageFaults: false }),
    withCode("compose.constraint-unmet"),
  );
  refuseUnmet(package_, { allowPackageFaults: true });
});
