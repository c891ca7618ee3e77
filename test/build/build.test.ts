/**
 * Components from real Debian packages: one lock gives one component, whoever builds it, where and
 * when. The recipes are the smallest that have an OS, a program over it, an account and instance
 * data.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, test } from "node:test";
import {
  buildComponent,
  lockRecipe,
  parseRecipe,
  readLock,
  writeLock,
  type Lock,
  type Recipe,
} from "#build";
import { hasCode, type Digest } from "#core";
import { realWorld } from "#system";

const CHILD = resolve(import.meta.dirname, "../support/build-one.ts");

const OS = parseRecipe("kind: os\nname: tiny-os\npackages: [base-files]\n", "os.yaml");
const PROGRAM_TEXT = `kind: program
name: tiny-program
base: tiny-os
packages: [dbus]
users: [{ name: messagebus, id: 501 }]
instancePaths: [/var/lib/dbus]
files: [{ path: /etc/tiny.conf, text: "x" }]
`;
const PROGRAM = parseRecipe(PROGRAM_TEXT, "program.yaml");

interface Result {
  readonly image: Digest;
  readonly fragments: Digest;
  readonly paths: readonly string[];
  readonly fragmentTexts: Readonly<Record<string, string>>;
}

const directory = mkdtempSync(join(tmpdir(), "tessera-build-"));
const world = realWorld();
const places = {
  cacheDirectory: join(directory, "cache-1"),
  workDirectory: join(directory, "work-1"),
};
let osLock: Lock;
let programLock: Lock;

before(async () => {
  osLock = await lockRecipe(world, OS, [], places);
  programLock = await lockRecipe(world, PROGRAM, [osLock], places);
});
after(() => rmSync(directory, { recursive: true, force: true }));

/** Builds in a process of its own, with another environment, umask, cache and way of installing. */
async function buildElsewhere(number: number, umask: string, zone: string, mode: string) {
  const task = {
    stack: [
      { recipe: OS, lock: osLock },
      { recipe: PROGRAM, lock: programLock },
    ],
    cacheDirectory: join(directory, `cache-${number}`),
    workDirectory: join(directory, `work-${number}`),
    mode,
  };
  const file = join(directory, `task-${number}.json`);
  writeFileSync(file, JSON.stringify(task));
  const command = `umask ${umask}; exec "$0" "$@"`;
  const child = spawn("sh", ["-c", command, process.execPath, CHILD, file], {
    env: { ...process.env, TZ: zone, LANG: "C", LC_ALL: "POSIX" },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const chunks: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
  const [code] = (await once(child, "close")) as [number];
  assert.equal(code, 0);
  return JSON.parse(Buffer.concat(chunks).toString("utf8")) as readonly Result[];
}

test("one lock gives one component, whoever builds it and where", async () => {
  const [first, second] = await Promise.all([
    buildElsewhere(1, "022", "UTC", "auto"),
    buildElsewhere(2, "077", "Asia/Tokyo", "unshare"),
  ]);
  assert.deepEqual(second, first);

  const [os, program] = first;
  assert.ok(os && program);
  assert.ok(os.paths.includes("usr/bin/apt-get") && os.paths.includes("usr/bin/dpkg"));
  for (const gone of ["etc/passwd", "etc/hostname", "etc/ld.so.cache", "var/lib/dpkg/status"]) {
    assert.ok(!os.paths.includes(gone), gone);
  }
  assert.match(os.fragmentTexts["/etc/passwd"] ?? "", /^root:/);

  assert.ok(program.paths.includes("usr/bin/dbus-daemon"));
  assert.ok(program.paths.includes("etc/tiny.conf"));
  assert.ok(!program.paths.includes("usr/bin/apt-get"), "the OS is not part of the program");
  assert.ok(!program.paths.includes("var/lib/dbus/machine-id"), "instance data stays out");
  assert.match(program.fragmentTexts["/etc/passwd"] ?? "", /^messagebus:x:501:501:[^\n]*\n$/);
  assert.match(program.fragmentTexts["/var/lib/dpkg/status"] ?? "", /^Package: dbus\n/m);
  assert.doesNotMatch(program.fragmentTexts["/var/lib/dpkg/status"] ?? "", /^Package: apt\n/m);
});

test("resolving again gives the same lock, and the lock reads back", async () => {
  const again = await lockRecipe(world, PROGRAM, [osLock], places);
  assert.equal(writeLock(again), writeLock(programLock));
  assert.deepEqual(readLock(writeLock(again), "lock"), again);
  assert.deepEqual(readdirSync(places.workDirectory), [], "nothing is left behind");
});

test("an account without a fixed id is refused", async () => {
  const loose: Recipe = { ...PROGRAM, users: [] };
  const request = {
    recipe: loose,
    lock: programLock,
    base: { recipe: OS, lock: osLock },
    ...places,
  };
  await assert.rejects(
    buildComponent(world, request),
    (error) => hasCode(error, "build.user-not-fixed") && error.subject === "messagebus",
  );
  assert.deepEqual(readdirSync(places.workDirectory), [], "nothing is left behind");
});

test("a lock over another OS is refused before anything is installed", async () => {
  const other: Lock = { ...osLock, epoch_s: osLock.epoch_s - 1 };
  const request = { recipe: PROGRAM, lock: programLock, base: { recipe: OS, lock: other } };
  await assert.rejects(buildComponent(world, { ...request, ...places }), (error) =>
    hasCode(error, "build.base-mismatch"),
  );
});

test("what the archive does not have is told, and apt of this machine is left alone", async () => {
  const state = readFileSync("/var/lib/dpkg/status", "utf8");
  const unknown = { ...PROGRAM, packages: ["no-such-package-here"] };
  await assert.rejects(lockRecipe(world, unknown, [osLock], places), (error) =>
    hasCode(error, "build.resolve-failed"),
  );
  assert.equal(readFileSync("/var/lib/dpkg/status", "utf8"), state);
});
