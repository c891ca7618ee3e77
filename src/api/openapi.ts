/** The OpenAPI 3.1 document of the agent's API, made from the same schemas that check it. */
import type { Json } from "#core";
import * as z from "zod";
import { NDJSON } from "./codec.ts";
import type { Operation } from "./operation.ts";
import { OPERATION_NAMES, operationOf, type OperationName } from "./operations.ts";
import * as view from "./views.ts";
import * as word from "./words.ts";

type Members = Readonly<Record<string, Json | undefined>>;

/** Schemas that have a name in the document; others are written where they are used. */
const NAMED: Readonly<Record<string, z.ZodType>> = {
  AgentInfo: view.agentInfo,
  Appliance: word.appliance,
  ApplianceCheck: view.applianceCheck,
  BuildProgress: view.buildProgress,
  CloudStatus: view.cloudStatus,
  CollectReport: view.collectReport,
  Component: word.component,
  ComponentDescription: word.componentDescription,
  ComponentReference: word.componentReference,
  Constraint: word.constraint,
  ErrorReport: word.errorReport,
  LockedRecipe: view.lockedRecipe,
  Machine: word.machine,
  MigrationProgress: view.migrationProgress,
  MigrationStatus: view.migrationStatus,
  MigrationSummary: view.migrationSummary,
  Offer: word.offer,
  PeerCard: view.peerCard,
  PeerStatus: view.peerStatus,
  Plan: word.plan,
  SignedReceipt: word.signedReceipt,
  VerifyReport: view.verifyReport,
};

const registry = z.registry<{ id: string }>();
for (const [id, schema] of Object.entries(NAMED)) registry.add(schema, { id });

export function openApiDocument(): Json {
  const schemas: Record<string, Json> = {};
  const paths: Record<string, Record<string, Json>> = {};
  for (const name of OPERATION_NAMES) {
    const { path, method } = operationOf(name);
    const methods = (paths[path] ??= {});
    methods[method.toLowerCase()] = describe(name, schemas);
  }
  schemas["ErrorAnswer"] = {
    type: "object",
    properties: { error: schemaOf(word.errorReport, schemas) },
    required: ["error"],
  };
  return {
    openapi: "3.1.1",
    info: {
      title: "Tessera agent API",
      version: "1",
      description: "HTTP over the agent's unix socket. See doc/api.md.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: "http://localhost", description: "the agent's unix socket" }],
    paths,
    components: {
      schemas: Object.fromEntries(Object.entries(schemas).toSorted(([a], [b]) => compare(a, b))),
    },
  };
}

function compare(a: string, b: string): number {
  return a < b ? -1 : 1;
}

function describe(name: OperationName, schemas: Record<string, Json>): Json {
  const operation = operationOf(name);
  const parameters = parametersOf(operation, schemas);
  return {
    operationId: name,
    tags: [name.split(".")[0] ?? name],
    summary: operation.summary,
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(operation.method === "POST" ? { requestBody: bodyOf(operation, schemas) } : {}),
    responses: {
      "200": resultOf(operation, schemas),
      default: {
        description: "The error; doc/errors.md has the rule of codes and statuses",
        content: { "application/json": { schema: { $ref: "#/components/schemas/ErrorAnswer" } } },
      },
    },
  };
}

function inPath({ path }: Operation): string[] {
  return [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1] ?? "");
}

function parametersOf(operation: Operation, schemas: Record<string, Json>): Json[] {
  const path = inPath(operation);
  const input = schemaOf(operation.input, schemas) as Members;
  const properties = (input["properties"] ?? {}) as Members;
  const required = (input["required"] ?? []) as readonly string[];
  return Object.entries(properties)
    .filter(([member]) => operation.method !== "POST" || path.includes(member))
    .map(([member, schema]) => ({
      name: member,
      in: path.includes(member) ? "path" : "query",
      required: required.includes(member),
      schema,
    }));
}

function bodyOf(operation: Operation, schemas: Record<string, Json>): Json {
  const path = inPath(operation);
  const members = Object.entries(operation.input.shape).filter(([key]) => !path.includes(key));
  const input = z.strictObject(Object.fromEntries(members));
  return {
    required: true,
    content: { "application/json": { schema: schemaOf(input, schemas) } },
  };
}

function lineOf(member: string, schema: Json): Json {
  return { type: "object", properties: { [member]: schema }, required: [member] };
}

function resultOf({ result, progress }: Operation, schemas: Record<string, Json>): Json {
  const schema = schemaOf(result, schemas);
  if (progress === undefined) {
    return { description: "The result", content: { "application/json": { schema } } };
  }
  const lines = [
    lineOf("progress", schemaOf(progress, schemas)),
    lineOf("result", schema),
    { $ref: "#/components/schemas/ErrorAnswer" },
  ];
  return {
    description: "JSON Lines: any number of progress, then one result or one error",
    content: { [NDJSON]: { schema: { oneOf: lines } } },
  };
}

/** The JSON Schema of a schema; what it refers to by name is added to `schemas`. */
function schemaOf(schema: z.ZodType, schemas: Record<string, Json>): Json {
  const made = z.toJSONSchema(schema, { io: "input", metadata: registry }) as unknown as Members;
  const { $schema: _, $defs, ...rest } = made;
  for (const [name, definition] of Object.entries($defs ?? {})) {
    schemas[name] = relocate(definition as Json);
  }
  const id = registry.get(schema)?.id;
  if (id === undefined) return relocate(rest);
  const { id: __, ...definition } = rest;
  schemas[id] ??= relocate(definition);
  return { $ref: `#/components/schemas/${id}` };
}

/** References go to the document's components; `readOnly` means something else in OpenAPI. */
function relocate(value: Json): Json {
  if (Array.isArray(value)) return (value as readonly Json[]).map(relocate);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).flatMap(([key, member]): [string, Json][] => {
    if (member === undefined || (key === "readOnly" && member === true)) return [];
    if (key !== "$ref" || typeof member !== "string") return [[key, relocate(member)]];
    return [[key, member.replace("#/$defs/", "#/components/schemas/")]];
  });
  return Object.fromEntries(entries);
}
