import type { Fragment } from "#core";
import { canonicalTree, readAll, type Tree } from "#image";
import { field, formatStanzas, parseStanzas, type Stanza } from "./stanzas.ts";

const TEXT_BYTES_MAX = 32 * 2 ** 20;

/**
 * How the records of a merged file are told apart.
 *
 * - `colon`: one per line, named by the text before the first `:` (passwd(5));
 * - `stanza`: separated by empty lines, named by fields (deb822(5));
 * - `diversion`: three lines each; named by the first (dpkg-divert(1));
 * - `line`: one per line, named by itself.
 */
type Records =
  | { readonly type: "colon"; readonly order: "id" | "name" }
  | { readonly type: "stanza"; readonly key: readonly string[] }
  | { readonly type: "diversion" }
  | { readonly type: "line" };

const MERGED: ReadonlyMap<string, Records> = new Map([
  ["etc/passwd", { type: "colon", order: "id" }],
  ["etc/group", { type: "colon", order: "id" }],
  ["etc/shadow", { type: "colon", order: "name" }],
  ["etc/gshadow", { type: "colon", order: "name" }],
  ["var/lib/dpkg/status", { type: "stanza", key: ["Package", "Architecture"] }],
  ["var/lib/dpkg/diversions", { type: "diversion" }],
  ["var/lib/dpkg/statoverride", { type: "line" }],
  ["var/lib/apt/extended_states", { type: "stanza", key: ["Package", "Architecture"] }],
  ["var/cache/debconf/config.dat", { type: "stanza", key: ["Name"] }],
  ["var/cache/debconf/templates.dat", { type: "stanza", key: ["Name"] }],
]);

const TRIGGERS = "var/lib/dpkg/triggers/";

function recordsOf(path: string): Records | undefined {
  return path.startsWith(TRIGGERS) ? { type: "line" } : MERGED.get(path);
}

function stanzaKey(stanza: Stanza, names: readonly string[]): string {
  return names.map((name) => field(stanza, name)).join("\n");
}

/** Records in the order of the file, by name; a name that occurs twice keeps its last record. */
function split(text: string, records: Records): Map<string, string> {
  if (records.type === "stanza") {
    const stanzas = parseStanzas(text);
    return new Map(stanzas.map((stanza) => [stanzaKey(stanza, records.key), stanza.text]));
  }
  const lines = text.split("\n").filter((line) => line !== "");
  if (records.type === "colon") {
    return new Map(lines.map((line) => [line.slice(0, Math.max(line.indexOf(":"), 0)), line]));
  }
  if (records.type === "line") return new Map(lines.map((line) => [line, line]));
  const triples = lines.filter((_, index) => index % 3 === 0);
  return new Map(
    triples.map((line, index) => [line, lines.slice(index * 3, index * 3 + 3).join("\n")]),
  );
}

function join(records: Records, texts: readonly string[]): string {
  if (records.type === "stanza") return formatStanzas(texts);
  return texts.map((text) => `${text}\n`).join("");
}

/** Numeric id of a passwd or group line. */
function idOf(line: string): number {
  return Number(line.split(":")[2]);
}

/** One order per file, so that the order in which packages were configured leaves no trace. */
function ordered(map: ReadonlyMap<string, string>, records: Records): [string, string][] {
  const byName = [...map].toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  if (records.type !== "colon" || records.order === "name") return byName;
  return byName.toSorted(([, a], [, b]) => idOf(a) - idOf(b));
}

/** The whole of a merged file in its one order. */
export function canonicalText(path: string, text: string): string {
  const records = recordsOf(path.slice(1)) ?? { type: "line" };
  return join(
    records,
    ordered(split(text, records), records).map(([, record]) => record),
  );
}

/** What `after` adds to `before` or replaces in it, in the order of the file. */
export function addedRecords(path: string, before: string, after: string): string {
  const records = recordsOf(path.slice(1)) ?? { type: "line" };
  const old = split(before, records);
  const added = ordered(split(after, records), records).filter(
    ([name, record]) => old.get(name) !== record,
  );
  return join(
    records,
    added.map(([, record]) => record),
  );
}

/**
 * Takes the files that several components change out of a tree. The texts are whole files, sorted
 * by path, each in its one order.
 */
export async function takeFragments(tree: Tree): Promise<{ tree: Tree; fragments: Fragment[] }> {
  const fragments: Fragment[] = [];
  const rest: Tree["entries"][number][] = [];
  for (const entry of tree.entries) {
    if (entry.type !== "file" || recordsOf(entry.path) === undefined) {
      rest.push(entry);
      continue;
    }
    const text = Buffer.from(await readAll(entry.content, TEXT_BYTES_MAX)).toString("utf8");
    const path = `/${entry.path}`;
    fragments.push({ path, text: canonicalText(path, text) });
  }
  return { tree: canonicalTree(rest), fragments };
}

/** The fragments of a program: what it adds to those of the OS; files without any are left out. */
export function programFragments(
  os: readonly Fragment[],
  stacked: readonly Fragment[],
): Fragment[] {
  const before = new Map(os.map(({ path, text }) => [path, text]));
  return stacked
    .map(({ path, text }) => ({ path, text: addedRecords(path, before.get(path) ?? "", text) }))
    .filter(({ text }) => text !== "");
}
