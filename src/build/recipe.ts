import { parseDocument, LineCounter, isMap, isScalar, isSeq, type Document, type Node } from "yaml";
import { z } from "zod";
import { TesseraError } from "#core";
import type { Recipe, Source } from "./contract.ts";

const TEXT_BYTES_MAX = 256 * 1024;
const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";

/** Debian 12 with its updates, for recipes that name no source. */
export const DEBIAN_12: readonly Source[] = [
  {
    name: "debian",
    uri: "http://deb.debian.org/debian",
    suites: ["bookworm", "bookworm-updates"],
    components: ["main"],
    keyring: KEYRING,
  },
  {
    name: "security",
    uri: "http://deb.debian.org/debian-security",
    suites: ["bookworm-security"],
    components: ["main"],
    keyring: KEYRING,
  },
];

const word = (pattern: RegExp, what: string) =>
  z.string().max(200).regex(pattern, `must be ${what}`);
const name = word(/^[a-z0-9][a-z0-9.+-]*$/, "a lower-case name");
const packageName = word(/^[a-z0-9][a-z0-9.+-]+$/, "a Debian package name");
const userName = word(/^[a-z_][a-z0-9_-]{0,31}$/, "a user name");
const path = word(/^(\/(?!\.\.?(\/|$))[^/\s:,]+)+$/, "an absolute path without . or ..");
const suite = word(/^[a-z0-9][a-z0-9./_-]*$/, "a suite");
const line = word(/^[^:\n]*$/, "one line without a colon");
const id = z.int().min(100).max(999);

const source = z.strictObject({
  name,
  uri: word(
    /^(https?|file):\/\/[^\s[\]]+[^\s[\]/]$/,
    "an http, https or file URI without a final /",
  ),
  suites: z.array(suite).min(1).max(8),
  components: z.array(name).min(1).max(8),
  keyring: path.default(KEYRING),
});

const file = z.strictObject({
  path,
  text: z.string().max(64 * 1024),
  mode: word(/^0[0-7]{3,4}$/, "an octal mode such as 0644").default("0644"),
});

const common = {
  name,
  architecture: word(/^[a-z0-9]+$/, "a Debian architecture").default("amd64"),
  sources: z
    .array(source)
    .min(1)
    .max(16)
    .default([...DEBIAN_12].map(writable)),
  packages: z.array(packageName).min(1).max(500),
};

const installed = {
  users: z
    .array(
      z.strictObject({
        name: userName,
        id,
        home: z.union([z.literal("/"), path]).default("/nonexistent"),
        shell: path.default("/usr/sbin/nologin"),
        comment: line.default(""),
      }),
    )
    .max(100)
    .default([]),
  groups: z
    .array(z.strictObject({ name: userName, id }))
    .max(100)
    .default([]),
  files: z.array(file).max(200).default([]),
  links: z
    .array(z.strictObject({ path, target: word(/^[^\s]+$/, "a link target") }))
    .max(200)
    .default([]),
  instancePaths: z.array(path).max(50).default([]),
};

const schema = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("kernel"),
    ...common,
    tools: z.array(packageName).max(50).default([]),
  }),
  z.strictObject({ kind: z.literal("os"), ...common, ...installed }),
  z.strictObject({ kind: z.literal("program"), base: name, ...common, ...installed }),
]);

function writable(value: Source) {
  return { ...value, suites: [...value.suites], components: [...value.components] };
}

function invalid(place: string, problem: string, cause?: unknown): TesseraError {
  return new TesseraError("misuse", "build.recipe-invalid", `${place}: ${problem}`, {
    subject: place,
    remedy: "correct the recipe; its format is in doc/recipes.md",
    cause,
  });
}

/** Line and column of the deepest node of `path` that exists. */
function positionOf(document: Document, counter: LineCounter, path: readonly PropertyKey[]) {
  let node: unknown = document.contents;
  let offset = offsetOf(node);
  for (const key of path) {
    if (isMap(node)) {
      const pair = node.items.find((item) => isScalar(item.key) && item.key.value === key);
      if (pair === undefined) break;
      offset = offsetOf(pair.key);
      node = pair.value;
    } else if (isSeq(node) && typeof key === "number") {
      node = node.items[key];
      offset = offsetOf(node) || offset;
    } else break;
  }
  return counter.linePos(offset);
}

function offsetOf(node: unknown): number {
  return (node as Node | null | undefined)?.range?.[0] ?? 0;
}

function fieldOf(path: readonly PropertyKey[]): string {
  return path.length === 0 ? "the recipe" : path.map(String).join(".");
}

/**
 * Reads a recipe (YAML 1.2). Every fault is told as `FILE:LINE: field: problem`.
 *
 * @throws `build.recipe-invalid` (misuse)
 */
export function parseRecipe(text: string, fileName: string): Recipe {
  if (text.length > TEXT_BYTES_MAX) throw invalid(fileName, "is longer than 256 KiB");
  const counter = new LineCounter();
  const document = parseDocument(text, { lineCounter: counter });
  const [fault] = document.errors;
  if (fault !== undefined) {
    const { line } = counter.linePos(fault.pos[0]);
    throw invalid(`${fileName}:${line}`, fault.message.split("\n")[0] ?? "is not YAML", fault);
  }
  const checked = schema.safeParse(plainValue(document, fileName));
  if (!checked.success) {
    const issue = checked.error.issues[0];
    const keys = issue?.code === "unrecognized_keys" ? issue.keys.slice(0, 1) : [];
    const path = [...(issue?.path ?? []), ...keys];
    const { line } = positionOf(document, counter, path);
    throw invalid(`${fileName}:${line}`, `${fieldOf(path)}: ${issue?.message ?? "is not valid"}`);
  }
  const recipe = recipeOf(checked.data);
  checkUnique(recipe, fileName);
  return recipe;
}

/** Aliases are refused: a short text could stand for a huge value. */
function plainValue(document: Document, fileName: string): unknown {
  try {
    return document.toJS({ maxAliasCount: 0 });
  } catch (cause) {
    throw invalid(fileName, "has an alias (*name), which recipes may not have", cause);
  }
}

function recipeOf(data: z.infer<typeof schema>): Recipe {
  const nothing = { tools: [], users: [], groups: [], files: [], links: [], instancePaths: [] };
  if (data.kind === "kernel") return { ...nothing, ...data };
  const files = data.files.map((entry) => ({ ...entry, mode: Number.parseInt(entry.mode, 8) }));
  return { ...nothing, ...data, files };
}

/** What a shape cannot say: no two entries may claim one name, id or path. */
function checkUnique(recipe: Recipe, fileName: string): void {
  const groups = [...recipe.users, ...recipe.groups];
  const lists: readonly (readonly [string, readonly (string | number)[]])[] = [
    ["sources", recipe.sources.map((source) => source.name)],
    ["packages", recipe.packages],
    ["users and groups", groups.map((group) => group.name)],
    ["users and groups", groups.map((group) => group.id)],
    ["files and links", [...recipe.files, ...recipe.links].map((entry) => entry.path)],
  ];
  for (const [field, values] of lists) {
    const twice = values.find((value, index) => values.indexOf(value) !== index);
    if (twice !== undefined) throw invalid(fileName, `${field}: ${twice} is there twice`);
  }
}
