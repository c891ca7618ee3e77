import assert from "node:assert/strict";
import { test } from "node:test";
import { bufferSource, canonicalTree, readAll, treeDifference, type TreeEntry } from "#image";
import { canonicalRoot, hidesBase, isDropped, withBaseTimes, withOwnTimes } from "./canonical.ts";
import { usersHook } from "./install.ts";
import { parseRecipe } from "./recipe.ts";

const COMMON = { uid: 0, gid: 0, xattrs: new Map<string, Uint8Array>() };

function file(path: string, text: string, mtime_s: number): TreeEntry {
  return {
    ...COMMON,
    type: "file",
    path,
    mode: 0o644,
    mtime_s,
    content: bufferSource(Buffer.from(text)),
  };
}

function directory(path: string, mtime_s: number): TreeEntry {
  return { ...COMMON, type: "directory", path, mode: 0o755, mtime_s };
}

const OS = parseRecipe("kind: os\nname: os\npackages: [dbus]\n", "r");
const PROGRAM = parseRecipe(
  `kind: program
name: db
base: os
packages: [db1]
users: [{ name: db, id: 540, comment: "it's a user" }]
files: [{ path: /etc/systemd/system/db.service.d/x.conf, text: "[Service]" }]
links: [{ path: /etc/off, target: /dev/null }]
instancePaths: [/var/lib/db]
`,
  "r",
);

function dropped(path: string, type: TreeEntry["type"] = "file"): boolean {
  return isDropped({ path, type }, ["var/lib/db"]);
}

test("traces of the building and instance data are no part of a component", () => {
  for (const path of [
    "etc/ld.so.cache",
    "etc/hostname",
    "etc/ssh/ssh_host_ed25519_key",
    "etc/ssh/ssh_host_rsa_key.pub",
    "var/log/dpkg.log",
    "var/log/apt/history.log",
    "var/lib/apt/lists/x_InRelease",
    "var/lib/db/base/1",
    "dev/null",
    "tmp/x",
  ]) {
    assert.ok(dropped(path), path);
  }
  for (const path of ["etc/ssh/sshd_config", "var/lib/dbx", "usr/bin/x", "etc/hosts"]) {
    assert.ok(!dropped(path), path);
  }
  assert.ok(!dropped("var/log/nginx", "directory"), "services expect their log directory");
  assert.ok(!dropped("var/lib/db", "directory"), "the directory itself keeps owner and mode");
  assert.ok(dropped("run/x", "directory"));
});

test("a canonical root has the recipe's files and no time after the epoch", async () => {
  const tree = canonicalRoot(
    canonicalTree([
      file("etc/machine-id", "abc", 5),
      file("usr/bin/x", "x", 2000),
      directory("etc", 3),
    ]),
    [OS, PROGRAM],
    ["deb http://x y z"],
    1000,
  );
  const machineId = tree.get("etc/machine-id");
  assert.equal(machineId?.type === "file" && machineId.content.sizeBytes, 0);
  assert.equal(tree.get("usr/bin/x")?.mtime_s, 1000);
  assert.equal(tree.get("etc")?.mtime_s, 3);
  assert.equal(tree.get("etc/systemd/system/db.service.d")?.mtime_s, 1000);
  const sources = tree.get("etc/apt/sources.list");
  assert.ok(sources?.type === "file");
  assert.equal(Buffer.from(await readAll(sources.content, 99)).toString(), "deb http://x y z\n");
  const off = tree.get("etc/off");
  assert.equal(off?.type === "symlink" && off.target, "/dev/null");
});

test("a program has what it changed, with times of its own", async () => {
  const os = canonicalTree([
    directory("", 500),
    directory("etc", 500),
    file("etc/a", "a", 500),
    file("etc/b", "b", 500),
  ]);
  const full = canonicalTree([
    directory("", 900),
    directory("etc", 900),
    file("etc/a", "a", 900),
    file("etc/b", "changed", 800),
    directory("etc/db", 700),
    file("etc/db/c", "c", 100),
  ]);
  const difference = await treeDifference(os, withBaseTimes(full, os));
  const tree = withOwnTimes(difference, full, os);
  assert.deepEqual(
    tree.entries.map(({ path, mtime_s }) => [path, mtime_s]),
    [
      ["", 100],
      ["etc", 100],
      ["etc/b", 800],
      ["etc/db", 700],
      ["etc/db/c", 100],
    ],
  );
  assert.deepEqual(
    tree.entries.filter((entry) => hidesBase(entry, os)).map(({ path }) => path),
    ["etc/b"],
  );
});

test("fixed users are quoted for the shell", () => {
  const hook = usersHook([OS, PROGRAM], 86_400 * 3);
  assert.match(
    hook,
    /'db:x:540:540:it'\\''s a user:\/nonexistent:\/usr\/sbin\/nologin' >> "\$1\/etc\/passwd"/,
  );
  assert.match(hook, /'db:!:3::::::' >> "\$1\/etc\/shadow"/);
  assert.equal(usersHook([OS], 0), "");
});
