/** YAML that operators write, with bounds: no aliases, no depth without end. */
import { TesseraError } from "#core";
import { LineCounter, parseDocument, visit, type Document, type Tags } from "yaml";
import type { z } from "zod";

const TEXT_LENGTH_MAX = 256 * 1024;
/** The parser is recursive: nesting is bounded before. */
const DEPTH_MAX = 256;

/** What the text is called in messages, and by the flag that gave it. */
export type DocumentName = "user-data" | "meta-data" | "network-config";

/** @throws `compose.cloud-init-invalid` (misuse) */
export function checkSize(name: DocumentName, text: string): void {
  if (text.length <= TEXT_LENGTH_MAX) return;
  throw invalid(name, `is longer than ${TEXT_LENGTH_MAX} characters`);
}

/**
 * The value of a document as cloud-init reads it, which is YAML 1.1: `0644` is octal.
 *
 * @throws `compose.cloud-init-invalid` (misuse)
 */
export function readYaml(name: DocumentName, text: string): unknown {
  checkSize(name, text);
  if (isDeep(text)) throw invalid(name, `is nested more than ${DEPTH_MAX} levels deep`);
  const lines = new LineCounter();
  const options = {
    version: "1.1",
    lineCounter: lines,
    prettyErrors: false,
    merge: false,
    // As for PyYAML the last of equal keys counts; comparing all with all takes time without bound.
    uniqueKeys: false,
    customTags: (tags: Tags) => tags.filter((tag) => !isOdd(tag)),
    // A warning of the library would quote what may be secret.
    logLevel: "error",
  } as const;
  const document = parseDocument(text, options);
  const [fault] = document.errors;
  if (fault !== undefined) {
    throw invalid(name, `line ${lines.linePos(fault.pos[0]).line}: ${fault.message}`);
  }
  refuseAliases(name, document, lines);
  try {
    return document.toJS({ maxAliasCount: 0 }) as unknown;
  } catch (cause) {
    throw invalid(name, cause instanceof Error ? cause.message : "cannot be read", cause);
  }
}

/**
 * Counts brackets wherever they stand, and levels of indentation: an upper bound of the nesting, which
 * is only ever near the limit for what no operator writes.
 */
function isDeep(text: string): boolean {
  let brackets = 0;
  let most = 0;
  for (const character of text) {
    if (character === "[" || character === "{") most = Math.max(most, (brackets += 1));
    if (character === "]" || character === "}") brackets = Math.max(0, brackets - 1);
  }
  const deepest = text
    .split("\n")
    .reduce((most, line) => Math.max(most, /^[ ?:-]*/.exec(line)?.[0].length ?? 0), 0);
  return most > DEPTH_MAX || deepest > DEPTH_MAX * 2;
}

/** Types that nobody needs here; collections of some compare all of their items with all. */
function isOdd(tag: Tags[number]): boolean {
  const name = typeof tag === "string" ? tag : tag.tag;
  return ["binary", "omap", "pairs", "set", "timestamp"].some((odd) => name.endsWith(`:${odd}`));
}

/** An alias is never needed here, and nested ones can unfold without bound. */
function refuseAliases(name: DocumentName, document: Document, lines: LineCounter): void {
  visit(document, {
    Alias: (_key, { source, range }) => {
      const { line } = lines.linePos(range?.[0] ?? 0);
      throw invalid(name, `line ${line}: *${source}: YAML aliases are not taken; write it out`);
    },
  });
}

/** @throws `compose.cloud-init-invalid`, `compose.cloud-init-unsupported` (misuse) */
export function checked<T>(name: DocumentName, schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const path = [...(issue?.path ?? [])];
  if (issue?.code === "unrecognized_keys") {
    throw unsupported(
      name,
      issue.keys.map((key) => fieldName([...path, key])),
    );
  }
  throw invalid(name, `${fieldName(path)}: ${issue?.message ?? "is invalid"}`);
}

/** `users[0].shell` */
function fieldName(path: readonly PropertyKey[]): string {
  const text = path
    .map((part) => (typeof part === "number" ? `[${part}]` : `.${String(part)}`))
    .join("");
  return text.replace(/^\./, "") || "(document)";
}

export function invalid(name: DocumentName, problem: string, cause?: unknown): TesseraError {
  const message = `${name} ${problem}`;
  return new TesseraError("misuse", "compose.cloud-init-invalid", message, {
    subject: name,
    remedy: `correct it; doc/cloud-init.md has what is taken`,
    cause,
  });
}

/** What only cloud-init itself could do, in a machine that does not have it. */
export function unsupported(name: DocumentName, what: readonly string[]): TesseraError {
  const list = what.slice(0, 8).join(", ");
  const message = `${name}: this machine has no cloud-init, and without it this is not applied: ${list}`;
  return new TesseraError("misuse", "compose.cloud-init-unsupported", message, {
    subject: what[0] ?? name,
    remedy: "leave it out, or add a program with the package cloud-init to the appliance",
  });
}
