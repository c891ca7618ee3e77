import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { bufferSource, canonicalTree, type TreeEntry } from "#image";
import { addedRecords, canonicalText, programFragments, takeFragments } from "./fragments.ts";
import { field, formatStanzas, parseStanzas } from "./stanzas.ts";

function file(path: string, text: string): TreeEntry {
  const content = bufferSource(Buffer.from(text));
  return {
    type: "file",
    path,
    mode: 0o644,
    uid: 0,
    gid: 0,
    mtime_s: 1,
    xattrs: new Map(),
    content,
  };
}

test("passwd lines are ordered by id and compared by name", () => {
  const before = "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/var/www:/x\n";
  const after = `nobody:x:65534:65534::/:/x\nredis:x:521:521::/:/x\n${before}`;
  assert.equal(
    canonicalText("/etc/passwd", after),
    `${before}redis:x:521:521::/:/x\nnobody:x:65534:65534::/:/x\n`,
  );
  assert.equal(
    addedRecords("/etc/passwd", before, after),
    "redis:x:521:521::/:/x\nnobody:x:65534:65534::/:/x\n",
  );
});

test("a changed line is an added one", () => {
  assert.equal(addedRecords("/etc/group", "adm:x:4:\n", "adm:x:4:redis\n"), "adm:x:4:redis\n");
});

test("dpkg's status is compared by package", () => {
  const a = "Package: a\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1";
  const b =
    "Package: b\nStatus: install ok installed\nArchitecture: all\nDescription: x\n y\n .\n z";
  assert.equal(
    addedRecords("/var/lib/dpkg/status", formatStanzas([a]), formatStanzas([b, a])),
    `${b}\n`,
  );
  const newer = a.replace("Version: 1", "Version: 2");
  assert.equal(
    addedRecords("/var/lib/dpkg/status", formatStanzas([a]), formatStanzas([newer, b])),
    `${newer}\n\n${b}\n`,
  );
});

test("diversions go by three lines", () => {
  const before = "/bin/sh\n/bin/sh.distrib\ndash\n";
  const added = "/bin/x\n/bin/x.distrib\ndash\n";
  assert.equal(addedRecords("/var/lib/dpkg/diversions", before, before + added), added);
});

test("triggers and overrides go by line", () => {
  const path = "/var/lib/dpkg/triggers/File";
  assert.equal(addedRecords(path, "/a x\n", "/b y\n/a x\n"), "/b y\n");
});

function statusOf(names: readonly string[]): string {
  return formatStanzas(names.map((name) => `Package: ${name}\nVersion: 1`));
}

test("records come out in one order whatever the order in", () => {
  const name = fc.stringMatching(/^[a-z]{1,8}$/);
  fc.assert(
    fc.property(fc.uniqueArray(name, { minLength: 1, maxLength: 8 }), (names) => {
      const path = "/var/lib/dpkg/status";
      const canonical = canonicalText(path, statusOf(names));
      assert.equal(canonicalText(path, statusOf(names.toReversed())), canonical);
      assert.equal(canonicalText(path, canonical), canonical);
      assert.equal(addedRecords(path, canonical, statusOf(names)), "");
      assert.equal(addedRecords(path, "", statusOf(names)), canonical);
    }),
  );
});

test("merged files leave the tree; a program's fragments are what it adds", async () => {
  const os = canonicalTree([file("etc/passwd", "root:x:0:0::/:/x\n"), file("etc/motd", "hello\n")]);
  const full = canonicalTree([
    file("etc/passwd", "root:x:0:0::/:/x\nredis:x:521:521::/:/x\n"),
    file("etc/motd", "hello\n"),
    file("var/lib/dpkg/triggers/nginx-reload", "nginx/noawait\n"),
  ]);
  const below = await takeFragments(os);
  const stacked = await takeFragments(full);
  assert.equal(stacked.tree.get("etc/passwd"), undefined);
  assert.ok(stacked.tree.get("etc/motd"));
  assert.deepEqual(programFragments(below.fragments, stacked.fragments), [
    { path: "/etc/passwd", text: "redis:x:521:521::/:/x\n" },
    { path: "/var/lib/dpkg/triggers/nginx-reload", text: "nginx/noawait\n" },
  ]);
});

test("fields are read with their continuations", () => {
  const [stanza] = parseStanzas("\n\nPackage: a\nDepends: b,\n c (>= 1)\nEmpty:\n\n");
  assert.ok(stanza);
  assert.equal(field(stanza, "Depends"), "b, c (>= 1)");
  assert.equal(field(stanza, "Empty"), "");
  assert.equal(field(stanza, "Missing"), "");
});
