/** Requests and answers as text, both ways. Everything read is decoded, then validated. */
import { TesseraError, errorFromReport } from "#core";
import type * as z from "zod";
import type { Operation } from "./operation.ts";
import {
  OPERATION_NAMES,
  operationOf,
  type Input,
  type OperationName,
  type Output,
  type ProgressOf,
} from "./operations.ts";
import { errorReport } from "./words.ts";

export const NDJSON = "application/x-ndjson";

type Members = Readonly<Record<string, unknown>>;

/** An HTTP request without a connection. `body` is JSON; GET and DELETE have none. */
export interface RequestText {
  readonly method: string;
  readonly target: string;
  readonly body?: string;
}

export function encodeRequest<N extends OperationName>(name: N, input: Input<N>): RequestText {
  const { method, path } = operationOf(name);
  const rest = new Map(Object.entries(input).filter(([, value]) => value !== undefined));
  const filled = path.replaceAll(/\{(\w+)\}/g, (_, member: string) => {
    const value = String(rest.get(member));
    rest.delete(member);
    return encodeURIComponent(value);
  });
  if (method === "POST") {
    return { method, target: filled, body: JSON.stringify(Object.fromEntries(rest)) };
  }
  const query = new URLSearchParams();
  for (const [member, value] of rest) query.append(member, queryText(value));
  return { method, target: rest.size === 0 ? filled : `${filled}?${query.toString()}` };
}

function queryText(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}

export interface Route {
  readonly name: OperationName;
  readonly operation: Operation;
  /** Members found in the path and the query, not yet validated. */
  readonly members: Members;
}

/** @throws `api.path-unknown`, `api.method-wrong`, `api.query-invalid` (misuse) */
export function findRoute(method: string, target: string): Route {
  const [path = "", query = ""] = target.split("?", 2);
  const found = OPERATION_NAMES.flatMap((name) => {
    const inPath = matchPath(operationOf(name).path, path);
    return inPath === undefined ? [] : [{ name, inPath }];
  });
  if (found.length === 0) throw misuse("path-unknown", `there is nothing at ${path}`, path);
  const route = found.find(({ name }) => operationOf(name).method === method);
  if (route === undefined) throw misuse("method-wrong", `${path} takes no ${method}`, method);
  const operation = operationOf(route.name);
  const members = { ...decodeQuery(operation, query), ...route.inPath };
  return { name: route.name, operation, members };
}

function matchPath(pattern: string, path: string): Members | undefined {
  const wanted = pattern.split("/");
  const given = path.split("/");
  if (wanted.length !== given.length) return undefined;
  const members: [string, string][] = [];
  for (const [index, part] of wanted.entries()) {
    const segment = given[index] ?? "";
    const member = /^\{(\w+)\}$/.exec(part)?.[1];
    if (member !== undefined) members.push([member, decodeSegment(segment)]);
    else if (part !== segment) return undefined;
  }
  return Object.fromEntries(members);
}

function decodeSegment(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch (cause) {
    throw misuse("path-unknown", "the path is not percent-encoded UTF-8", segment, cause);
  }
}

function decodeQuery({ input }: Operation, query: string): Members {
  const pairs = [...new URLSearchParams(query)];
  if (new Set(pairs.map(([key]) => key)).size < pairs.length) {
    throw misuse("query-invalid", "a member of the query is given twice", query);
  }
  return Object.fromEntries(pairs.map(([key, text]) => [key, interpret(input.shape[key], text)]));
}

/** A query's text as its schema wants it: as it is, or read as JSON. */
function interpret(schema: z.core.$ZodType | undefined, text: string): unknown {
  if (schema === undefined || (schema as z.ZodType).safeParse(text).success) return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/**
 * The whole input of a request: its route's members and its body.
 *
 * @throws `api.body-invalid`, `api.input-invalid` (misuse) naming the member at fault
 */
export function decodeInput(route: Route, body: string): Members {
  const members = { ...decodeBody(body), ...route.members };
  const parsed = route.operation.input.safeParse(members);
  if (parsed.success) return parsed.data;
  throw misuse("input-invalid", problemsOf(parsed.error), subjectOf(parsed.error));
}

function decodeBody(body: string): Members {
  if (body === "") return {};
  const value = parseJson(body, (cause) =>
    misuse("body-invalid", "the body is not JSON", undefined, cause),
  );
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return value as Members;
  }
  throw misuse("body-invalid", "the body is not a JSON object");
}

function parseJson(text: string, wrap: (cause: unknown) => TesseraError): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw wrap(cause);
  }
}

/** @throws `api.output-invalid` (bug) when a handler returned something else than it promised */
export function encodeResult(name: OperationName, value: unknown): string {
  return JSON.stringify(checked(operationOf(name).result, value, name, "output-invalid"));
}

/** A line of a stream, with its line feed. @throws `api.output-invalid` (bug) */
export function encodeProgress(name: OperationName, value: unknown): string {
  const schema = operationOf(name).progress;
  if (schema === undefined) throw fault("output-invalid", `${name} has no progress`, name);
  return `${JSON.stringify({ progress: checked(schema, value, name, "output-invalid") })}\n`;
}

/** @throws `api.answer-invalid` (bug) */
export function decodeResult<N extends OperationName>(name: N, text: string): Output<N> {
  return checkedResult(name, decodeAnswer(name, text));
}

export type StreamLine<N extends OperationName> =
  | { readonly progress: ProgressOf<N> }
  | { readonly result: Output<N> };

/** @throws the error that the line reports, or `api.answer-invalid` (bug) */
export function decodeStreamLine<N extends OperationName>(name: N, line: string): StreamLine<N> {
  const value = decodeAnswer(name, line);
  const members: Members = typeof value === "object" && value !== null ? { ...value } : {};
  if ("error" in members) throw decodeError(name, members["error"]);
  if ("result" in members) return { result: checkedResult(name, members["result"]) };
  const schema = operationOf(name).progress;
  if (!("progress" in members) || schema === undefined) {
    throw fault("answer-invalid", `the agent's answer to ${name} has an unknown line`, name);
  }
  const progress = checked(schema, members["progress"], name, "answer-invalid") as ProgressOf<N>;
  return { progress };
}

/** The error of an answer whose status is 400 or above, or why it cannot be read. */
export function decodeErrorAnswer(name: OperationName, text: string): TesseraError {
  try {
    const value = decodeAnswer(name, text);
    const members: Members = typeof value === "object" && value !== null ? { ...value } : {};
    return decodeError(name, members["error"]);
  } catch (error) {
    return error instanceof TesseraError ? error : fault("answer-invalid", String(error), name);
  }
}

function decodeError(name: OperationName, value: unknown): TesseraError {
  return errorFromReport(checked(errorReport, value, name, "answer-invalid"));
}

function decodeAnswer(name: OperationName, text: string): unknown {
  return parseJson(text, (cause) =>
    fault("answer-invalid", `the agent's answer to ${name} is not JSON`, name, cause),
  );
}

function checkedResult<N extends OperationName>(name: N, value: unknown): Output<N> {
  return checked(operationOf(name).result, value, name, "answer-invalid") as Output<N>;
}

function checked<S extends z.ZodType>(
  schema: S,
  value: unknown,
  name: OperationName,
  reason: string,
): z.output<S> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw fault(reason, `${name} answered wrongly: ${problemsOf(parsed.error)}`, name);
}

const PROBLEMS_SHOWN_MAX = 3;

function problemsOf({ issues }: z.ZodError): string {
  const shown = issues.slice(0, PROBLEMS_SHOWN_MAX).map(({ path, message }) => {
    const where = path.map(String).join(".");
    return where === "" ? message : `${where}: ${message}`;
  });
  const more = issues.length - shown.length;
  return [...shown, ...(more > 0 ? [`and ${more} more`] : [])].join("; ");
}

function subjectOf({ issues }: z.ZodError): string | undefined {
  const path = issues[0]?.path.map(String).join(".");
  return path === "" ? undefined : path;
}

function misuse(reason: string, message: string, subject?: string, cause?: unknown): TesseraError {
  return new TesseraError("misuse", `api.${reason}`, message, {
    ...(subject === undefined ? {} : { subject }),
    cause,
  });
}

function fault(reason: string, message: string, name: string, cause?: unknown): TesseraError {
  return new TesseraError("bug", `api.${reason}`, message, {
    subject: name,
    remedy: "check that the agent and this program are of the same version",
    cause,
  });
}
