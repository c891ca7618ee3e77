import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { bufferSource, canonicalTree, type TreeEntry } from "#image";
import { decompose } from "./decompose.ts";
import { readPackages } from "./dpkg.ts";
import { groupPackages } from "./groups.ts";
import { intactPaths } from "./intact.ts";
import { entryAt, placeIn } from "./paths.ts";

const common = {
  mode: 0o644,
  uid: 0,
  gid: 0,
  mtime_s: 1000,
  xattrs: new Map<string, Uint8Array>(),
};
const file = (path: string, text: string, more: object = {}): TreeEntry => ({
  ...common,
  ...more,
  path,
  type: "file",
  content: bufferSource(Buffer.from(text)),
});
const link = (path: string, target: string): TreeEntry => ({
  ...common,
  path,
  type: "symlink",
  target,
});
const directory = (path: string): TreeEntry => ({
  ...common,
  mode: 0o755,
  path,
  type: "directory",
});
const md5 = (text: string): string => createHash("md5").update(text).digest("hex");

const stanza = (name: string, more = ""): string =>
  `Package: ${name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1-${name}\n${more}\n`;

const INFO = "var/lib/dpkg/info";

/** A merged /usr, a diversion, a changed configuration file, a removed file, a file of nobody. */
function machine() {
  return canonicalTree([
    directory("usr/bin"),
    link("bin", "usr/bin"),
    file("usr/bin/base", "base"),
    file("usr/bin/tool", "tool"),
    file("usr/bin/tool.real", "diverted"),
    file("usr/bin/late", "late"),
    file("etc/tool.conf", "changed"),
    file("etc/other.conf", "other"),
    file("srv/data", "mine"),
    file(`${INFO}/base.list`, "/.\n/bin\n/bin/base\n/bin/gone\n"),
    file(`${INFO}/base.md5sums`, `${md5("base")}  bin/base\n${md5("gone")}  bin/gone\n`),
    file(`${INFO}/tool.list`, "/.\n/bin/tool\n/etc/tool.conf\n/etc/other.conf\n/bin/late\n"),
    file(`${INFO}/tool.md5sums`, `${md5("diverted")}  bin/tool\n${md5("late")}  bin/late\n`),
    file(`${INFO}/tool.postinst`, "#!/bin/sh\n"),
    file(`${INFO}/divert:amd64.list`, "/bin/tool\n"),
    file(`${INFO}/divert:amd64.md5sums`, `${md5("tool")}  bin/tool\n`),
    file("var/lib/dpkg/diversions", "/bin/tool\n/bin/tool.real\ndivert\n"),
    file(
      "var/lib/dpkg/status",
      [
        stanza("base", "Essential: yes\nPriority: required"),
        stanza(
          "tool",
          `Depends: base, divert\nConffiles:\n /etc/tool.conf ${md5("old")}\n /etc/other.conf ${md5("other")}`,
        ),
        stanza("divert", "Multi-Arch: same"),
        "Package: removed\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 2\n",
      ].join("\n"),
    ),
    file(
      "var/lib/apt/extended_states",
      "Package: divert\nArchitecture: amd64\nAuto-Installed: 1\n",
    ),
  ]);
}

const fractions = new Map([["usr/bin/late", 5]]);

test("files are found where they lie: through a merged /usr, and diverted", async () => {
  const database = await readPackages(machine());
  assert.deepEqual(
    database?.packages.map(({ name, automatic }) => [name, automatic]),
    [
      ["base", false],
      ["tool", false],
      ["divert", true],
    ],
  );
  const owners = [...(database?.owned ?? [])].map(
    ([path, owner]) => `${path} ${owner.package.name}`,
  );
  assert.deepEqual(owners.toSorted(), [
    "etc/other.conf tool",
    "etc/tool.conf tool",
    "usr/bin/base base",
    "usr/bin/late tool",
    "usr/bin/tool divert",
    "usr/bin/tool.real tool",
    `${INFO}/base.md5sums base`,
    `${INFO}/divert:amd64.md5sums divert`,
    `${INFO}/tool.md5sums tool`,
    `${INFO}/tool.postinst tool`,
  ]);
});

test("only what is as packaged goes into components, and nothing twice", async () => {
  const tree = machine();
  const database = await readPackages(tree);
  assert.ok(database !== undefined);
  const fine = { tree, fractions };
  const intact = await intactPaths(fine, database, () => undefined);
  assert.ok(!intact.has("etc/tool.conf") && !intact.has("usr/bin/late"));
  const distribution = { name: "debian-12", version: "12.1" };
  const parts = decompose({
    fine,
    distribution,
    database,
    intact,
    holed: new Set(),
    kernel: undefined,
    kernelExtra: [],
  });
  assert.deepEqual(
    parts.map(({ kind, name, version, entries }) => [
      kind,
      name,
      version,
      entries.map(({ path }) => path),
    ]),
    [
      ["os", "debian-12-imported", "12.1", ["usr/bin/base", `${INFO}/base.md5sums`]],
      [
        "program",
        "tool",
        "1-tool",
        [
          "etc/other.conf",
          "usr/bin/tool",
          "usr/bin/tool.real",
          `${INFO}/divert:amd64.md5sums`,
          `${INFO}/tool.md5sums`,
          `${INFO}/tool.postinst`,
        ],
      ],
    ],
  );
});

test("what installing has made differs between machines, and is no part of a package", async () => {
  const owner = { package: { ...item("base"), depends: [] } };
  const late = { ...link("late", "x"), mtime_s: 5000 };
  const entries: readonly TreeEntry[] = [
    file("program", "x"),
    file("given", "x", { gid: 105 }),
    file("shadow", "x", { gid: 42 }),
    link("shipped", "x"),
    late,
  ];
  const md5OfX = { ...owner, md5: md5("x") };
  const owned = new Map(
    entries.map(({ path, type }) => [path, type === "file" ? md5OfX : owner] as const),
  );
  const fine = { tree: canonicalTree(entries), fractions: new Map<string, number>() };
  const intact = await intactPaths(fine, { packages: [], owned }, () => undefined);
  assert.deepEqual([...intact].toSorted(), ["program", "shadow", "shipped"]);
  /* Of a package that has links alone there is nothing to compare them with. */
  const links = new Map([["late", owner]]);
  const all = await intactPaths(fine, { packages: [], owned: links }, () => undefined);
  assert.deepEqual([...all], ["late"]);
});

test("hard links are taken together or not at all", async () => {
  const tree = canonicalTree([
    file("a", "x", { linkGroup: "g" }),
    file("b", "x", { linkGroup: "g" }),
    file("c", "x", { linkGroup: "h" }),
    file("d", "x", { linkGroup: "h" }),
  ]);
  const distribution = { name: "x", version: "1" };
  const fine = {
    tree,
    fractions: new Map([
      ["d", 5],
      ["c", 5],
    ]),
  };
  const [os] = decompose({
    fine,
    distribution,
    intact: new Set(),
    holed: new Set(),
    kernelExtra: [],
  });
  assert.deepEqual(
    os?.entries.map(({ path }) => path),
    ["a", "b"],
  );
});

const item = (name: string, depends: readonly string[] = [], more: object = {}) => ({
  name,
  version: "1",
  architecture: "amd64",
  priority: "optional",
  essential: false,
  automatic: depends.length === 0,
  depends: depends.map((need) => ({ type: "package" as const, name: need })),
  provides: [name],
  ...more,
});

test("packages are grouped by who asked for them, whatever their order", () => {
  const packages = [
    item("web", ["libweb", "libboth", "helper"]),
    item("data", ["libboth", "virtual"]),
    item("libweb"),
    item("libboth"),
    item("provider", [], { provides: ["provider", "virtual"] }),
    item("orphan"),
    /* Important for itself, or there for the sake of others only. */
    item("login", ["base"], { priority: "important" }),
    item("helper", [], { priority: "important" }),
    item("base", ["libbase"], { essential: true }),
    item("libbase", ["base"], { automatic: true }),
    item("linux-image-6.1.0", ["base"]),
  ];
  const shape = (list: typeof packages) =>
    groupPackages(list, () => 1).groups.map((group) => [
      group.name,
      group.packages.map(({ name }) => name),
    ]);
  const expected = [
    ["", ["base", "libbase", "login"]],
    ["shared-packages", ["libboth", "orphan"]],
    ["data", ["data", "provider"]],
    ["web", ["helper", "libweb", "web"]],
  ];
  assert.deepEqual(shape(packages), expected);
  assert.deepEqual(shape(packages.toReversed()), expected);
  assert.deepEqual(
    groupPackages(packages, () => 1).kernels.map(({ name }) => name),
    ["linux-image-6.1.0"],
  );
});

test("there are never more programs than a machine has room for", () => {
  const many = Array.from({ length: 200 }, (_, index) => item(`p${index}`, ["x"]));
  const { groups } = groupPackages(many, ({ name }) => Number(name.slice(1)));
  assert.ok(groups.length <= 27, String(groups.length));
  const names = groups.flatMap(({ packages }) => packages.map(({ name }) => name));
  assert.equal(new Set(names).size, 200);
});

test("no link leads out of the tree, nor round in circles", () => {
  const tree = canonicalTree([
    directory("d"),
    file("d/f", "x"),
    link("up", "../../../../d"),
    link("abs", "/d"),
    link("round", "round"),
    link("one", "two"),
    link("two", "one"),
  ]);
  assert.equal(placeIn(tree, "/up/f"), "d/f");
  assert.equal(placeIn(tree, "/abs/../abs/f"), "d/f");
  assert.equal(placeIn(tree, "/round/f"), undefined);
  assert.equal(entryAt(tree, "/up/f")?.path, "d/f");
  assert.equal(entryAt(tree, "/one"), undefined);
  assert.equal(placeIn(tree, "/../../etc/passwd"), undefined);
});
