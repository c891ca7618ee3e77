/** To write `doc/openapi.json` anew: `UPDATE=1 node --test src/api/openapi.test.ts`. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { test } from "node:test";
import type { Json } from "#core";
import { openApiDocument } from "./openapi.ts";
import { OPERATION_NAMES, operationOf } from "./operations.ts";

const PATH = resolve(import.meta.dirname, "..", "..", "doc", "openapi.json");

test("doc/openapi.json is what the schemas say", () => {
  const made = JSON.stringify(openApiDocument(), null, 2);
  if (process.env["UPDATE"] === "1") writeFileSync(PATH, `${made}\n`);
  const kept: unknown = JSON.parse(readFileSync(PATH, "utf8"));
  assert.deepEqual(kept, JSON.parse(made), "run this test with UPDATE=1");
});

test("doc/api.md lists every operation", () => {
  const text = readFileSync(resolve(PATH, "..", "api.md"), "utf8").replaceAll(/ +\|/g, " |");
  for (const name of OPERATION_NAMES) {
    const { method, path, summary, progress } = operationOf(name);
    const streams = progress === undefined ? "" : " (streams)";
    const row = `| \`${name}\` | \`${method} ${path}\` | ${summary}${streams} |`;
    assert.ok(text.includes(row), row);
  }
});

interface Walked {
  readonly references: string[];
  readonly operations: string[];
}

function walk(value: Json | undefined, found: Walked): Walked {
  if (typeof value !== "object" || value === null) return found;
  for (const [key, member] of Object.entries(value)) {
    if (key === "$ref" && typeof member === "string") found.references.push(member);
    if (key === "operationId" && typeof member === "string") found.operations.push(member);
    walk(member, found);
  }
  return found;
}

test("every reference leads to a schema, and every operation is there once", () => {
  const document = openApiDocument() as { components: { schemas: Record<string, Json> } };
  const { references, operations } = walk(document, {
    references: [],
    operations: [],
  });
  const schemas = Object.keys(document.components.schemas);
  for (const reference of references) {
    const name = reference.replace("#/components/schemas/", "");
    assert.ok(schemas.includes(name), `${reference} leads nowhere`);
  }
  assert.deepEqual(operations.toSorted(), [...OPERATION_NAMES].toSorted());
  assert.ok(references.length > 50);
});
