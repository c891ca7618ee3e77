import assert from "node:assert/strict";
import { test } from "node:test";
import {
  packageProvides,
  packageRequires,
  parseRelations,
  sortConstraints,
  satisfies,
} from "./relations.ts";
import { parseStanzas } from "./stanzas.ts";

const CONTROLS = parseStanzas(`Package: redis-server
Version: 5:7.0
Pre-Depends: init-system-helpers (>= 1.54~)
Depends: redis-tools (= 5:7.0), lsb-base (>= 3.2-14), debconf (>= 0.5) | debconf-2.0,
 libc6:any (>= 2.34)

Package: redis-tools
Version: 5:7.0
Provides: redis-cli, redis-abi (= 7)
Depends: libc6 (>= 2.34), redis-abi (>= 7), redis-abi (>= 8)
`);

test("relations are read with versions, alternatives and architecture qualifiers", () => {
  assert.deepEqual(parseRelations("a1 (>= 1:2~), b1 | c1 (<< 3) , d1:any"), [
    { type: "package", name: "a1", version: "1:2~", relation: ">=" },
    {
      type: "package",
      name: "b1",
      alternatives: [{ type: "package", name: "c1", version: "3", relation: "<<" }],
    },
    { type: "package", name: "d1" },
  ]);
  assert.deepEqual(parseRelations(""), []);
});

test("packages offer themselves and what they provide", () => {
  assert.deepEqual(packageProvides(CONTROLS), [
    { type: "package", name: "redis-server", version: "5:7.0" },
    { type: "package", name: "redis-tools", version: "5:7.0" },
    { type: "package", name: "redis-cli" },
    { type: "package", name: "redis-abi", version: "7" },
  ]);
});

test("packages need what they do not bring, and nothing twice", () => {
  assert.deepEqual(
    packageRequires(CONTROLS).map(({ name, version }) => `${name} ${version ?? ""}`),
    ["debconf 0.5", "init-system-helpers 1.54~", "libc6 2.34", "lsb-base 3.2-14", "redis-abi 8"],
  );
});

test("constraints have one order", () => {
  const a = { type: "package", name: "a" } as const;
  const b = { type: "soname", name: "a" } as const;
  assert.deepEqual(sortConstraints([b, a, b]), sortConstraints([a, b]));
});

test("relations hold as they read", () => {
  assert.ok(satisfies("2.36-9", ">=", "2.34"));
  assert.ok(!satisfies("2.31-13", ">=", "2.34"));
  assert.ok(satisfies("1.0", "=", "1.0"));
  assert.ok(satisfies("1.0~rc1", "<<", "1.0"));
  assert.ok(!satisfies("1.0", ">>", "1.0"));
  assert.ok(satisfies("1.0", "<=", "1.0"));
});
