import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { failureOf, withCode } from "./fixtures.suite.ts";
import { mergeFragments } from "./merge.ts";
import type { FragmentSource } from "./merge.ts";

const source = (owner: string, files: Readonly<Record<string, string>>): FragmentSource => ({
  owner,
  fragments: Object.entries(files).map(([path, text]) => ({ path, text })),
});

/** The merged text of one file. */
function merged(path: string, os: string, ...programs: readonly string[]): string {
  const sources = programs.map((text, index) => source(`p${index}`, { [path]: text }));
  return mergeFragments(source("os", { [path]: os }), sources)[0]?.text ?? "";
}

/** The message of the refusal. */
function refusal(path: string, os: string, ...programs: readonly string[]): string {
  const { code, message } = failureOf(() => merged(path, os, ...programs));
  assert.equal(code, "compose.fragment-conflict");
  return message;
}

const PASSWD = "/etc/passwd";
const STATUS = "/var/lib/dpkg/status";
const STATES = "/var/lib/apt/extended_states";
const CONFIG = "/var/cache/debconf/config.dat";

const stanza = (name: string, version: string, more = ""): string =>
  `Package: ${name}\nArchitecture: amd64\nVersion: ${version}\n${more}\n`;

test("users are added in order, and a program's change of an OS user wins", () => {
  assert.equal(
    merged(PASSWD, "root:x:0:0\nwww:x:33:33\n", "redis:x:521:521\n", "www:x:33:33:web\n"),
    "root:x:0:0\nwww:x:33:33:web\nredis:x:521:521\n",
  );
});

test("two programs that give one user different ids are named", () => {
  assert.equal(
    refusal(PASSWD, "root:x:0:0\n", "db:x:521:521\n", "db:x:522:522\n"),
    "p0 and p1 disagree on user db in /etc/passwd: id 521 against 522",
  );
});

test("two users with one id are named", () => {
  assert.match(
    refusal(PASSWD, "root:x:0:0\n", "redis:x:101:101\n", "mysql:x:101:101\n"),
    /user redis of p0 and user mysql of p1 have the same id 101/,
  );
  assert.match(refusal(PASSWD, "a:x:101:1\n", "b:x:101:1\n"), /user a of os and user b of p0/);
});

test("members of a group are united", () => {
  assert.equal(
    merged("/etc/group", "ssl-cert:x:104:a\n", "ssl-cert:x:104:c\n", "ssl-cert:x:104:a,b\n"),
    "ssl-cert:x:104:a,b,c\n",
  );
  assert.match(
    refusal("/etc/group", "", "g:x:104:\n", "g:x:105:\n"),
    /disagree on group g in \/etc\/group: id 104 against 105/,
  );
});

test("packages are sorted, and a program's version of an OS package wins", () => {
  assert.equal(
    merged(
      STATUS,
      stanza("libc6", "1") + stanza("dpkg", "1"),
      stanza("nginx", "1"),
      stanza("libc6", "2"),
    ),
    stanza("dpkg", "1") + stanza("libc6", "2") + stanza("nginx", "1"),
  );
});

test("one package in two versions is named", () => {
  assert.equal(
    refusal(STATUS, stanza("libc6", "1"), stanza("libssl3", "3.0-1"), stanza("libssl3", "3.0-2")),
    "p0 and p1 disagree on package libssl3 in /var/lib/dpkg/status: version 3.0-1 against 3.0-2",
  );
  const foreign = stanza("libssl3", "3.0-2").replace("amd64", "i386");
  assert.match(refusal(STATUS, "", stanza("libssl3", "3.0-1"), foreign), /3\.0-1 against 3\.0-2/);
});

test("continuation lines stay with their stanza", () => {
  const text = stanza("nginx", "1", "Conffiles:\n /etc/nginx/nginx.conf 00\n");
  assert.equal(merged(STATUS, text, stanza("redis", "1")), text + stanza("redis", "1"));
});

const state = (auto: number): string =>
  `Package: lua\nArchitecture: amd64\nAuto-Installed: ${auto}\n\n`;

test("a package that one program asks for is not automatic", () => {
  assert.equal(merged(STATES, "", state(1), state(0)), state(0));
  assert.equal(merged(STATES, "", state(0), state(1)), state(0));
});

const question = (owners: string, value: string): string =>
  `Name: a/b\nTemplate: a/b\nValue: ${value}\nOwners: ${owners}\n\n`;

test("owners of a debconf question are united, other differences are refused", () => {
  assert.equal(
    merged(CONFIG, question("z", "1"), question("y, z", "1"), question("x", "1")),
    question("x, y, z", "1"),
  );
  assert.match(refusal(CONFIG, "", question("x", "1"), question("x", "2")), /question a\/b/);
});

test("diversions are groups of three lines", () => {
  const dash = "/bin/sh\n/bin/sh.distrib\ndash\n";
  const other = "/bin/x\n/bin/x.distrib\ndash\n";
  assert.equal(merged("/var/lib/dpkg/diversions", dash, other), dash + other);
  assert.throws(
    () => merged("/var/lib/dpkg/diversions", dash, "/bin/x\n/bin/x.distrib\n"),
    withCode("compose.fragment-invalid"),
  );
});

test("lines are added once; overrides are known by their path", () => {
  const trigger = "/usr/share/man man-db\n";
  assert.equal(
    merged("/var/lib/dpkg/triggers/File", trigger, trigger, "/x y\n"),
    `${trigger}/x y\n`,
  );
  assert.match(
    refusal("/var/lib/dpkg/statoverride", "", "root a 4754 /bin/x\n", "root b 4754 /bin/x\n"),
    /override \/bin\/x/,
  );
});

test("modes and groups are Debian's", () => {
  const files = mergeFragments(source("os", { "/etc/shadow": "root:*:1\n", [PASSWD]: "" }), []);
  assert.deepEqual(
    files.map(({ path, mode, gid }) => [path, mode, gid]),
    [
      ["/etc/passwd", 0o644, 0],
      ["/etc/shadow", 0o640, 42],
    ],
  );
});

test("an empty file of the OS stays an empty file", () => {
  assert.equal(merged("/var/lib/dpkg/triggers/Lock", ""), "");
});

test("a path that cannot be merged is refused with its owner", () => {
  const odd = source("odd", { "/etc/motd": "hello\n" });
  assert.throws(
    () => mergeFragments(source("os", {}), [odd]),
    /odd has a fragment for \/etc\/motd/,
  );
});

test("a fragment that is not what its path says is corrupt", () => {
  for (const text of ["no colon\n", ":x:0\n"]) {
    assert.throws(() => merged(PASSWD, text), withCode("compose.fragment-invalid"));
  }
  const twice = [
    { path: PASSWD, text: "" },
    { path: PASSWD, text: "" },
  ];
  assert.throws(
    () => mergeFragments({ owner: "os", fragments: twice }, []),
    withCode("compose.fragment-invalid"),
  );
});

test("shuffled fragments and, for packages, shuffled programs give equal texts", () => {
  const names = fc.uniqueArray(fc.stringMatching(/^[a-z]{1,8}$/), { minLength: 1, maxLength: 8 });
  fc.assert(
    fc.property(names, fc.infiniteStream(fc.nat()), (packages, numbers) => {
      const programs = packages.map((name) =>
        source(name, {
          [STATUS]: stanza(name, "1"),
          [CONFIG]: `Name: ${name}/x\nOwners: ${name}\n\n`,
        }),
      );
      const os = source("os", { [STATUS]: stanza("0base", "1"), [CONFIG]: "" });
      const shuffled = programs
        .map((item) => ({ item, key: numbers.next().value ?? 0 }))
        .toSorted((a, b) => a.key - b.key)
        .map(({ item }) => ({ ...item, fragments: item.fragments.toReversed() }));
      assert.deepEqual(mergeFragments(os, shuffled), mergeFragments(os, programs));
    }),
  );
});
