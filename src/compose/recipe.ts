/** Appliance files: from YAML text to a validated recipe, with every fault at its line. */
import { TesseraError } from "#core";
import type { Resources, ServiceLevel } from "#core";
import { LineCounter, isMap, isPair, isScalar, parseDocument, visit } from "yaml";
import type { Document, Node } from "yaml";
import type { CloudInit } from "./cloud-init/contract.ts";
import type { ApplianceRecipe } from "./contract.ts";
import { recipeSchema } from "./recipe-schema.ts";
import type { ApplianceFile } from "./recipe-schema.ts";

/** An appliance file is a page of text; more than this is not one. */
const TEXT_BYTES_MAX = 65_536;

type Path = readonly PropertyKey[];

interface Source {
  readonly fileName: string;
  readonly document: Document;
  readonly lines: LineCounter;
}

/**
 * Decodes and validates an appliance file (doc/composition.md, "Appliance file").
 *
 * @param fileName used in messages only.
 * @throws `compose.appliance-invalid` (misuse): the message names file, line, column and field,
 *   and what is allowed there; the first fault in the order of the file, and how many more.
 */
export function parseAppliance(text: string, fileName: string): ApplianceRecipe {
  const source = decode(text, fileName);
  refuseAliases(source);
  const result = recipeSchema.safeParse(source.document.toJS());
  if (!result.success) throw invalid(source, result.error.issues.flatMap(faultsOf));
  return recipeOf(result.data);
}

function decode(text: string, fileName: string): Source {
  if (text.length > TEXT_BYTES_MAX) {
    const message = `${fileName} is longer than ${TEXT_BYTES_MAX} characters`;
    throw new TesseraError("misuse", "compose.appliance-invalid", message, { subject: fileName });
  }
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const fault = document.errors[0];
  if (fault !== undefined) {
    const where = position(lines, fault.pos[0]);
    throw invalidAt(fileName, where, "(syntax)", fault.message, 0);
  }
  return { fileName, document, lines };
}

/** An alias is never needed in so small a file, and nested ones can unfold without bound. */
function refuseAliases({ fileName, document, lines }: Source): void {
  visit(document, {
    Alias: (_key, { source, range }) => {
      const where = position(lines, range?.[0] ?? 0);
      const message = "YAML aliases are not allowed; write the value out";
      throw invalidAt(fileName, where, `*${source}`, message, 0);
    },
  });
}

interface FieldFault {
  readonly path: Path;
  readonly message: string;
}

interface Issue {
  readonly code?: string | undefined;
  readonly path: Path;
  readonly message: string;
  readonly keys?: readonly string[];
}

/** One fault per field: an unknown field is at its own place, not at the map that holds it. */
function faultsOf(issue: Issue): FieldFault[] {
  if (issue.code !== "unrecognized_keys") return [{ path: issue.path, message: issue.message }];
  return (issue.keys ?? []).map((key) => ({ path: [...issue.path, key], message: issue.message }));
}

function invalid(source: Source, faults: readonly FieldFault[]): TesseraError {
  const located = faults
    .map((fault) => ({ ...fault, offset: offsetOf(source.document, fault.path) }))
    .toSorted((a, b) => a.offset - b.offset);
  const first = located[0] ?? { path: [], message: "is not an appliance", offset: 0 };
  const where = position(source.lines, first.offset);
  const field = fieldName(first.path);
  return invalidAt(source.fileName, where, field, first.message, located.length - 1);
}

function invalidAt(
  fileName: string,
  where: { readonly line: number; readonly column: number },
  field: string,
  message: string,
  others: number,
): TesseraError {
  const place = `${fileName}:${where.line}:${where.column}`;
  const more = others > 0 ? ` (and ${others} more)` : "";
  return new TesseraError(
    "misuse",
    "compose.appliance-invalid",
    `${place}: ${field}: ${message}${more}`,
    { subject: fileName, remedy: `correct line ${where.line} of ${fileName}` },
  );
}

function position(lines: LineCounter, offset: number): { line: number; column: number } {
  const { line, col } = lines.linePos(offset);
  return { line: Math.max(line, 1), column: Math.max(col, 1) };
}

/** `resources.ports[0].guest` */
function fieldName(path: Path): string {
  const text = path
    .map((part) => (typeof part === "number" ? `[${part}]` : `.${String(part)}`))
    .join("");
  return text.replace(/^\./, "") || "(file)";
}

/** Where the field begins; for a missing field, where the map that lacks it begins. */
function offsetOf(document: Document, path: Path): number {
  let node: unknown = document.contents;
  let offset = startOf(node) ?? 0;
  for (const [depth, part] of path.entries()) {
    const pair = isMap(node)
      ? node.items.find((item) => isPair(item) && keyOf(item.key) === String(part))
      : undefined;
    offset = startOf(pair?.key) ?? offset;
    node = document.getIn(path.slice(0, depth + 1), true);
    if (pair === undefined) offset = startOf(node) ?? offset;
  }
  return offset;
}

function keyOf(key: unknown): string {
  return String(isScalar(key) ? key.value : key);
}

function startOf(node: unknown): number | undefined {
  return (node as Partial<Node> | null | undefined)?.range?.[0];
}

function recipeOf(file: ApplianceFile): ApplianceRecipe {
  const resources: Resources = {
    cpus: file.resources.cpus,
    memoryBytes: file.resources.memory,
    dataBytes: file.resources.data,
    ports: file.resources.ports.map(({ name, guest, host }) => ({
      name,
      guest,
      ...(host === undefined ? {} : { host }),
    })),
  };
  const { downtimeMax, ...level } = file.serviceLevel;
  const serviceLevel: ServiceLevel = {
    ...level,
    ...(downtimeMax === undefined ? {} : { downtimeMax_ms: downtimeMax }),
  };
  const { name, kernel, os, programs, cloudInit } = file;
  const own = cloudInit === undefined ? {} : { cloudInit: givenOf(cloudInit) };
  return { name, kernel, os, programs, resources, serviceLevel, ...own };
}

function givenOf(texts: NonNullable<ApplianceFile["cloudInit"]>): CloudInit {
  const { userData, metaData, networkConfig } = texts;
  return {
    ...(userData === undefined ? {} : { userData }),
    ...(metaData === undefined ? {} : { metaData }),
    ...(networkConfig === undefined ? {} : { networkConfig }),
  };
}
