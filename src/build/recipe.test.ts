import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { hasCode } from "#core";
import { readLock } from "./lock.ts";
import { parseRecipe } from "./recipe.ts";

const PROGRAM = `kind: program
name: redis
base: debian-12
packages: [redis-server]
users:
  - { name: redis, id: 521, home: /var/lib/redis }
files:
  - { path: /etc/x, text: "a", mode: "0600" }
`;

function messageOf(text: string): string {
  try {
    parseRecipe(text, "r.yaml");
  } catch (error) {
    assert.ok(hasCode(error, "build.recipe-invalid"));
    return error.message;
  }
  return assert.fail(`was taken: ${text}`);
}

test("a recipe is read with its defaults", () => {
  const recipe = parseRecipe(PROGRAM, "r.yaml");
  assert.equal(recipe.kind, "program");
  assert.equal(recipe.base, "debian-12");
  assert.equal(recipe.architecture, "amd64");
  assert.deepEqual(
    recipe.sources.map((source) => source.suites),
    [["bookworm", "bookworm-updates"], ["bookworm-security"]],
  );
  assert.deepEqual(recipe.users[0], {
    name: "redis",
    id: 521,
    home: "/var/lib/redis",
    shell: "/usr/sbin/nologin",
    comment: "",
  });
  assert.deepEqual(recipe.files, [{ path: "/etc/x", text: "a", mode: 0o600 }]);
});

test("a fault names the line and the field", () => {
  assert.match(messageOf(PROGRAM.replace("id: 521", "id: 5")), /^r\.yaml:6: users\.0\.id: /);
  assert.match(messageOf(PROGRAM.replace("base:", "bsae:")), /^r\.yaml:\d: (base|bsae): /);
  assert.match(messageOf(PROGRAM.replace("[redis-server]", "redis")), /^r\.yaml:4: packages: /);
  assert.match(messageOf(PROGRAM.replace("kind: program", "kind: disk")), /^r\.yaml:1: kind: /);
  assert.match(messageOf(`${PROGRAM}colour: red\n`), /^r\.yaml:9: colour: /);
  assert.match(messageOf("kind: [program\n"), /^r\.yaml:\d: /);
  assert.match(messageOf(""), /^r\.yaml:1: /);
});

test("what could leave its field or its directory is refused", () => {
  for (const path of ["/etc/../x", "etc/x", "/", "/a//b", "/a/.", "/a b"]) {
    assert.match(messageOf(PROGRAM.replace("/etc/x", path)), /files\.0\.path/, path);
  }
  assert.match(messageOf(PROGRAM.replace("[redis-server]", '["redis --x"]')), /packages\.0/);
  assert.match(messageOf(PROGRAM.replace("[redis-server]", '["-o=x"]')), /packages\.0/);
  assert.match(messageOf(PROGRAM.replace("name: redis,", 'name: "a:b",')), /users\.0\.name/);
  assert.match(
    messageOf(PROGRAM.replace("id: 521", 'id: 521, comment: "a:b"')),
    /users\.0\.comment/,
  );
  const source = `sources: [{ name: x, uri: "http://x/ [trusted=yes]", suites: [s], components: [c] }]`;
  assert.match(messageOf(`${PROGRAM}${source}\n`), /^r\.yaml:9: sources\.0\.uri/);
});

test("nothing is there twice", () => {
  assert.match(messageOf(PROGRAM.replace("[redis-server]", "[a1, a1]")), /a1 is there twice/);
  const twice = PROGRAM.replace("users:", "users:\n  - { name: other, id: 521 }");
  assert.match(messageOf(twice), /521 is there twice/);
});

test("aliases are not expanded", () => {
  assert.ok(messageOf("kind: &a os\nname: *a\npackages: [x1]\n"));
});

test("the example recipes and their locks are valid and belong together", () => {
  const directory = resolve(import.meta.dirname, "../../examples/components");
  const names = readdirSync(directory).filter((name) => name.endsWith(".yaml"));
  assert.ok(names.length >= 4);
  for (const file of names) {
    const recipe = parseRecipe(readFileSync(join(directory, file), "utf8"), file);
    assert.equal(`${recipe.name}.yaml`, file);
    const lockFile = file.replace(".yaml", ".lock.json");
    const lock = readLock(readFileSync(join(directory, lockFile), "utf8"), lockFile);
    assert.equal(lock.name, recipe.name);
    assert.equal(lock.base !== undefined, recipe.kind === "program");
    const locked = lock.packages.map(({ name }) => name);
    for (const name of recipe.packages) assert.ok(locked.includes(name), name);
  }
});

test("no two example recipes give one id to different accounts", () => {
  const directory = resolve(import.meta.dirname, "../../examples/components");
  const names = readdirSync(directory).filter((name) => name.endsWith(".yaml"));
  const owners = new Map<number, string>();
  for (const file of names) {
    const recipe = parseRecipe(readFileSync(join(directory, file), "utf8"), file);
    for (const { name, id } of [...recipe.users, ...recipe.groups]) {
      assert.equal(owners.get(id) ?? name, name, `id ${id}`);
      owners.set(id, name);
    }
  }
});
