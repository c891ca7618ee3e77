import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import {
  compareDebianVersions,
  hasCode,
  referenceOf,
  type Component,
  type ComponentKind,
} from "#core";
import { combine } from "./combine.ts";
import { choicesFor, parseWish, satisfies } from "./wish.ts";

function component(
  kind: ComponentKind,
  name: string,
  version: string,
  more: Partial<Component["description"]> = {},
): Component {
  const digit = String(name.length % 10);
  const blob = { digest: `sha256:${digit.repeat(64)}`, sizeBytes: 1 } as const;
  return {
    id: `sha256:${Buffer.from(`${name}${version}`).toString("hex").padEnd(64, "0").slice(0, 64)}`,
    sizeBytes: 1,
    fragments: blob,
    manifest: blob,
    description: {
      kind,
      name,
      version,
      architecture: "amd64",
      packages: [],
      provides: [],
      requires: [],
      instancePaths: [],
      ...more,
    },
  };
}

const meets = (range: string, version: string): boolean =>
  satisfies(parseWish("program", `nginx@${range}`), version);

test("ranges are told by Debian's order of versions", () => {
  assert.ok(meets("1.22.1-9", "1.22.1-9"));
  assert.ok(meets("=1.22.1-9", "1.22.1-9"));
  assert.ok(!meets("1.22.1-9", "1.22.1-10"));
  assert.ok(meets(">=1.22.1-9", "1.22.1-10"));
  assert.ok(!meets(">=1.22,<2", "1:1.22"));
  assert.ok(meets(">=1.22,<2", "1.30"));
  assert.ok(!meets(">=1.22,<2", "2.0"));
  // A tilde sorts before the end.
  assert.ok(!meets(">=2.0", "2.0~rc1"));
  assert.ok(meets("<2.0", "2.0~rc1"));
  assert.ok(meets(">1,<=3", "3"));
});

test("a prefix ends where a part of the version ends", () => {
  for (const version of ["1.22", "1.22.1-9", "1.22-9", "1:1.22.1", "1.22~rc1", "1.22+dfsg"]) {
    assert.ok(meets("~1.22", version), version);
  }
  for (const version of ["1.220", "1.2", "2:1.220", "11.22", "1.22a"]) {
    assert.ok(!meets("~1.22", version), version);
  }
});

test("what is no wish is refused", () => {
  const many = Array.from({ length: 9 }, () => ">=1").join(",");
  for (const text of [
    "",
    "Nginx",
    "nginx@",
    "nginx@>=",
    "nginx@>=1,",
    "nginx@=>1",
    "a b",
    "nginx@>= 1",
    `n@${many}`,
    "os/nginx",
  ]) {
    assert.throws(
      () => parseWish("program", text),
      (error: unknown) => hasCode(error, "compose.wish-invalid"),
      text,
    );
  }
});

test("every version is in exactly one of below, equal and above another", () => {
  const version = fc.stringMatching(/^[0-9][0-9a-z.+~-]{0,6}$/);
  fc.assert(
    fc.property(version, version, (wanted, found) => {
      const one = ["<", "=", ">"].filter((relation) => meets(relation + wanted, found));
      assert.equal(one.length, 1);
      assert.equal(meets(`>=${wanted}`, found), one[0] !== "<");
      assert.equal(meets(`~${wanted}`, wanted), true);
      assert.equal(compareDebianVersions(found, wanted) === 0, one[0] === "=");
    }),
  );
});

test("what is held goes before what is newer elsewhere, and both newest first", () => {
  const held = ["1.9", "1.10", "1.2"].map((version) => component("program", "nginx", version));
  const far = { reference: referenceOf(component("program", "nginx", "3")), clouds: ["capri"] };
  const choice = choicesFor(parseWish("program", "nginx"), held, [far]);
  assert.deepEqual(
    choice.held.map(({ description }) => description.version),
    ["1.10", "1.9", "1.2"],
  );
  assert.deepEqual(choice.elsewhere, []);
  const newer = choicesFor(parseWish("program", "nginx@>=2"), held, [far]);
  assert.deepEqual([newer.held, newer.elsewhere], [[], [far]]);
});

test("where nothing will do, the nearest are named", () => {
  const held = [component("program", "nginx", "1.22"), component("os", "debian-12", "12.8")];
  const far = { reference: referenceOf(component("program", "nginx", "1.24")), clouds: ["capri"] };
  const near = (kind: ComponentKind, text: string) =>
    choicesFor(parseWish(kind, text), held, [far]).nearest;
  assert.deepEqual(near("program", "nginx@>=2"), ["nginx 1.24 (at capri)", "nginx 1.22 (held)"]);
  assert.deepEqual(near("os", "debian-13"), ["debian-12 (held)"]);
  assert.deepEqual(near("program", "postgresql"), []);
});

const libc = (version: string) => ({ type: "soname" as const, name: "libc.so.6", version });

test("an older version is taken where the newest does not fit", () => {
  const kernel = component("kernel", "k", "1");
  const os = component("os", "debian-12", "12.8", { provides: [libc("GLIBC_2.36")] });
  const old = component("program", "nginx", "1", { requires: [libc("GLIBC_2.34")] });
  const young = component("program", "nginx", "2", { requires: [libc("GLIBC_2.39")] });
  const all = [kernel, os, old, young];
  const choices = (program: string) =>
    [parseWish("kernel", "k"), parseWish("os", "debian-12"), parseWish("program", program)].map(
      (wish) => choicesFor(wish, all, []),
    );
  assert.deepEqual(combine(choices("nginx")), { chosen: [kernel, os, old], unmet: [] });
  const { chosen, unmet } = combine(choices("nginx@2"));
  assert.deepEqual(chosen, [kernel, os, young]);
  assert.deepEqual(
    unmet.map(({ componentName, need, found }) => [
      componentName.includes("nginx"),
      need.name,
      found,
    ]),
    [[true, "libc.so.6", unmet[0]?.found]],
  );
});
