import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { hasCode } from "#core";
import type { Lock } from "./contract.ts";
import { lockDigest, originDigest, readLock, writeLock } from "./lock.ts";
import { parseRecipe } from "./recipe.ts";

const SHA = `sha256:${"ab".repeat(32)}` as const;

const LOCK: Lock = {
  name: "nginx",
  architecture: "amd64",
  epoch_s: 1_700_000_000,
  base: SHA,
  sources: { debian: "http://deb.debian.org/debian" },
  packages: [
    {
      name: "nginx",
      version: "1:1.22.1-9~deb12u1+b1",
      architecture: "amd64",
      file: "pool/main/n/nginx/nginx_1.22.1-9_amd64.deb",
      source: "debian",
      sizeBytes: 527_000,
      sha256: SHA,
    },
  ],
};

const lockedPackage = fc.record({
  name: fc.stringMatching(/^[a-z0-9][a-z0-9.+-]{1,20}$/),
  version: fc.stringMatching(/^[0-9][0-9A-Za-z.+:~-]{0,20}$/),
  architecture: fc.constantFrom("amd64", "all"),
  file: fc.stringMatching(/^pool\/[a-z0-9]{1,8}\/[a-z0-9_+~]{1,20}\.deb$/),
  source: fc.constant("debian"),
  sizeBytes: fc.integer({ min: 1, max: 2 ** 31 }),
  sha256: fc
    .uint8Array({ minLength: 32, maxLength: 32 })
    .map((bytes) => `sha256:${Buffer.from(bytes).toString("hex")}` as const),
});

const lock = fc.record({
  name: fc.stringMatching(/^[a-z][a-z0-9-]{0,10}$/),
  architecture: fc.constant("amd64"),
  epoch_s: fc.integer({ min: 0, max: 2 ** 33 }),
  sources: fc.constant(LOCK.sources),
  packages: fc.uniqueArray(lockedPackage, {
    minLength: 1,
    maxLength: 10,
    selector: ({ name }) => name,
  }),
});

test("what is written is read back, and has one text whatever the order", () => {
  fc.assert(
    fc.property(lock, (value) => {
      const text = writeLock(value);
      const read = readLock(text, "l");
      assert.equal(writeLock(read), text);
      const reversed = { ...value, packages: value.packages.toReversed() };
      assert.equal(writeLock(reversed), text);
      assert.equal(lockDigest(reversed), lockDigest(value));
    }),
  );
});

test("a lock has one package per line", () => {
  const lines = writeLock(LOCK).split("\n");
  assert.equal(lines.filter((line) => line.includes('"sizeBytes"')).length, 1);
  assert.deepEqual(readLock(writeLock(LOCK), "l"), LOCK);
});

test("a lock that breaks a rule is refused", () => {
  const broken: readonly ((lock: Record<string, unknown>) => void)[] = [
    (value) => (value["format"] = "tessera-lock/2"),
    (value) => (value["extra"] = 1),
    (value) => (value["epoch_s"] = -1),
    (value) => (value["packages"] = []),
    (value) => (value["packages"] = [{ ...LOCK.packages[0], file: "../x.deb" }]),
    (value) => (value["packages"] = [{ ...LOCK.packages[0], file: "/x.deb" }]),
    (value) => (value["packages"] = [{ ...LOCK.packages[0], file: "a/../x.deb" }]),
    (value) => (value["packages"] = [{ ...LOCK.packages[0], sha256: "md5:1" }]),
    (value) => (value["packages"] = [{ ...LOCK.packages[0], source: "other" }]),
    (value) => (value["packages"] = [LOCK.packages[0], LOCK.packages[0]]),
    (value) => (value["sources"] = { debian: "http://x [trusted=yes]" }),
  ];
  for (const change of broken) {
    const value = JSON.parse(writeLock(LOCK)) as Record<string, unknown>;
    change(value);
    assert.throws(
      () => readLock(JSON.stringify(value), "l"),
      (error) => hasCode(error, "build.lock-invalid"),
      change.toString(),
    );
  }
  assert.throws(
    () => readLock("{", "l"),
    (error) => hasCode(error, "build.lock-invalid"),
  );
});

test("the origin tells recipes, locks and bases apart", () => {
  const recipe = parseRecipe("kind: os\nname: nginx\npackages: [nginx]\n", "r");
  const other = parseRecipe("kind: os\nname: nginx\npackages: [nginx, curl]\n", "r");
  const origins = [
    originDigest({ recipe, lock: LOCK }),
    originDigest({ recipe: other, lock: LOCK }),
    originDigest({ recipe, lock: { ...LOCK, epoch_s: 1 } }),
    originDigest({ recipe, lock: LOCK }, { recipe, lock: LOCK }),
  ];
  assert.equal(new Set(origins).size, origins.length);
});
