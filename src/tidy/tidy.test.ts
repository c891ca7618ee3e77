/** Holds the source tree against the table of rooms in `rooms.ts`. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { test } from "node:test";
import { ROOMS } from "./rooms.ts";

const SOURCE = resolve(import.meta.dirname, "..");
const LINES_MAX = 400;

interface Import {
  readonly file: string;
  readonly room: string;
  readonly specifier: string;
}

function sourceFiles(): string[] {
  return readdirSync(SOURCE, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts") && !name.startsWith("tidy/"))
    .toSorted();
}

function importsOf(name: string): Import[] {
  const text = readFileSync(join(SOURCE, name), "utf8");
  const pattern = /(?:from\s+|import\s*\(\s*|^import\s+)["']([^"']+)["']/gm;
  const room = name.split("/")[0] ?? name;
  return [...text.matchAll(pattern)].map((match) => ({
    file: name,
    room,
    specifier: match[1] ?? "",
  }));
}

const isTest = (file: string): boolean => /\.(test|suite)\.ts$/.test(file);

/** The reason why an import breaks the table, or undefined where it is allowed. */
function fault({ file, room, specifier }: Import): string | undefined {
  const row = ROOMS[room];
  if (row === undefined) return `${file}: room ${room} has no row in src/tidy/rooms.ts`;
  if (specifier.startsWith("#")) {
    const target = specifier.slice(1);
    const allowed = row.rooms.includes(target) || target === room || isTest(file);
    return allowed ? undefined : `${file}: row "${room}" in src/tidy/rooms.ts has no "${target}"`;
  }
  if (specifier.startsWith("node:")) {
    const target = specifier.slice(5).split("/")[0] ?? "";
    const allowed = row.node.includes("*") || row.node.includes(target) || isTest(file);
    return allowed
      ? undefined
      : `${file}: row "${room}" in src/tidy/rooms.ts has no "${specifier}"`;
  }
  if (!specifier.startsWith(".")) return undefined;
  // A suite that several implementations must pass is no part of a room's face.
  if (isTest(file) && specifier.endsWith(".suite.ts")) return undefined;
  const target = relative(SOURCE, resolve(SOURCE, dirname(file), specifier)).split("/")[0];
  return target === room
    ? undefined
    : `${file}: "${specifier}" leaves its room; import "#${target}"`;
}

test("every import is allowed by the table of rooms", () => {
  const faults = sourceFiles()
    .flatMap(importsOf)
    .map(fault)
    .filter((text) => text !== undefined);
  assert.deepEqual(faults, []);
});

test("the table of rooms, package.json and the folders agree", () => {
  const packageFile = resolve(SOURCE, "..", "package.json");
  const { imports } = JSON.parse(readFileSync(packageFile, "utf8")) as {
    imports: Record<string, string>;
  };
  const names = Object.keys(ROOMS).toSorted();
  assert.deepEqual(
    Object.keys(imports)
      .map((key) => key.slice(1))
      .toSorted(),
    names,
  );
  const folders = readdirSync(SOURCE)
    .filter((name) => name !== "tidy")
    .toSorted();
  assert.deepEqual(folders, names);
});

test("rooms depend on each other in one direction", () => {
  const seen = new Set<string>();
  const walk = (room: string, path: readonly string[]): void => {
    assert.ok(!path.includes(room), `cycle of rooms: ${[...path, room].join(" -> ")}`);
    if (seen.has(room)) return;
    for (const next of ROOMS[room]?.rooms ?? []) walk(next, [...path, room]);
    seen.add(room);
  };
  for (const room of Object.keys(ROOMS)) walk(room, []);
});

test("no source file is longer than a reader can hold", () => {
  const long = sourceFiles()
    .filter((name) => !isTest(name))
    .map((name) => ({ name, lines: readFileSync(join(SOURCE, name), "utf8").split("\n").length }))
    .filter(({ lines }) => lines > LINES_MAX);
  assert.deepEqual(long, []);
});

test("the table is strict: planted faults are seen", () => {
  assert.ok(fault({ file: "core/x.ts", room: "core", specifier: "node:fs" }));
  assert.ok(fault({ file: "core/x.ts", room: "core", specifier: "#system" }));
  assert.ok(fault({ file: "image/x.ts", room: "image", specifier: "../core/index.ts" }));
  const suite = { room: "image", specifier: "../block/x.suite.ts" };
  assert.ok(fault({ file: "image/x.ts", ...suite }));
  assert.equal(fault({ file: "image/x.test.ts", ...suite }), undefined);
  assert.equal(fault({ file: "image/x.ts", room: "image", specifier: "#core" }), undefined);
});
