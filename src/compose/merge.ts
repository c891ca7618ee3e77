/** Merging the fragments of stacked components into the files of the glue: pure. */
import { TesseraError } from "#core";
import type { Fragment } from "#core";
import { fragmentPath } from "./fragment-paths.ts";
import type { FragmentPath } from "./fragment-paths.ts";
import {
  FRAGMENT_BYTES_MAX,
  conflict,
  fieldOf,
  invalid,
  joinRecords,
  parseRecords,
} from "./fragment-records.ts";
import type { FragmentRecord } from "./fragment-records.ts";

/** The fragments of one component. */
export interface FragmentSource {
  /** The component's name, for messages. */
  readonly owner: string;
  readonly fragments: readonly Fragment[];
}

export interface MergedFile {
  /** Absolute path in the guest. */
  readonly path: string;
  readonly text: string;
  readonly mode: number;
  readonly gid: number;
}

/**
 * The files of the glue, sorted by path. The OS gives each file whole; a program gives the records
 * that it added or replaced. A program may replace a record of the OS; two programs that replace
 * or add one record must agree (doc/composition.md, "Glue"). The order of fragments within a
 * component has no influence.
 *
 * @throws `compose.fragment-conflict`, `compose.fragment-unknown` (misuse),
 *   `compose.fragment-invalid` (corrupt)
 */
export function mergeFragments(
  os: FragmentSource,
  programs: readonly FragmentSource[],
): MergedFile[] {
  const paths = new Set([os, ...programs].flatMap(pathsOf));
  return [...paths].toSorted().map((path) => mergeFile(path, os, programs));
}

function pathsOf({ owner, fragments }: FragmentSource): string[] {
  const paths = fragments.map(({ path }) => path);
  const twice = paths.find((path, index) => paths.indexOf(path) !== index);
  if (twice !== undefined) throw invalid(twice, owner, "is there twice");
  return paths;
}

function mergeFile(
  path: string,
  os: FragmentSource,
  programs: readonly FragmentSource[],
): MergedFile {
  const kind = fragmentPath(path);
  if (kind === undefined) throw unknownPath(path, [os, ...programs]);
  const base = recordsOf(path, kind, os);
  const changes = new Map<string, FragmentRecord>();
  for (const record of programs.flatMap((program) => recordsOf(path, kind, program))) {
    const earlier = changes.get(record.key);
    changes.set(record.key, earlier === undefined ? record : join(path, kind, earlier, record));
  }
  const records = replace(kind, base, changes);
  refuseSharedIdentity(path, kind, records);
  refuseTwoVersions(path, kind, changes);
  return { path, text: render(kind, records), mode: kind.mode, gid: kind.gid };
}

function recordsOf(path: string, kind: FragmentPath, source: FragmentSource): FragmentRecord[] {
  const text = source.fragments.find((fragment) => fragment.path === path)?.text ?? "";
  if (text.length > FRAGMENT_BYTES_MAX) throw invalid(path, source.owner, "is too large");
  return parseRecords(path, kind, text, source.owner);
}

function join(
  path: string,
  kind: FragmentPath,
  a: FragmentRecord,
  b: FragmentRecord,
): FragmentRecord {
  const text = joinRecords(kind.format, a.text, b.text);
  if (text === undefined) throw conflict(path, kind, a, b);
  return { key: a.key, text, owner: a.owner };
}

/** The OS's records in their order, changed where a program changed them, then what is new. */
function replace(
  { format }: FragmentPath,
  base: readonly FragmentRecord[],
  changes: ReadonlyMap<string, FragmentRecord>,
): FragmentRecord[] {
  const changed = base.map((record) => {
    const change = changes.get(record.key);
    if (change === undefined) return record;
    const text = joinRecords(format, record.text, change.text) ?? change.text;
    return { ...change, text };
  });
  const held = new Set(base.map(({ key }) => key));
  const added = [...changes.values()].filter(({ key }) => !held.has(key));
  const records = [...changed, ...added];
  return format.kind === "stanza" && format.sorted ? sortByKey(records) : records;
}

/** dpkg and debconf write their files sorted by name; then the order of programs does not show. */
function sortByKey(records: readonly FragmentRecord[]): FragmentRecord[] {
  return records.toSorted((a, b) => Number(a.key > b.key) - Number(a.key < b.key));
}

/** Two users (or groups) with one id would own each other's files. The OS's own are its choice. */
function refuseSharedIdentity(
  path: string,
  kind: FragmentPath,
  records: readonly FragmentRecord[],
): void {
  if (kind.format.kind !== "colon" || kind.format.identity === undefined) return;
  const field = kind.format.identity;
  const holders = new Map<string, FragmentRecord>();
  for (const record of records) {
    const id = record.text.split(":")[field] ?? "";
    const holder = holders.get(id);
    if (holder !== undefined && holder.owner !== record.owner) {
      const message = `${kind.record} ${holder.key} of ${holder.owner} and ${kind.record} ${record.key} of ${record.owner} have the same id ${id} in ${path}`;
      throw new TesseraError("misuse", "compose.fragment-conflict", message, {
        subject: path,
        remedy: "build the programs with fixed user ids",
      });
    }
    holders.set(id, record);
  }
}

/** One package of two architectures is two records: their versions must agree all the same. */
function refuseTwoVersions(
  path: string,
  kind: FragmentPath,
  changes: ReadonlyMap<string, FragmentRecord>,
): void {
  if (path !== "/var/lib/dpkg/status") return;
  const packages = new Map<string, FragmentRecord>();
  for (const record of changes.values()) {
    const name = fieldOf(record.text, "Package") ?? record.key;
    const other = packages.get(name);
    if (other !== undefined && fieldOf(other.text, "Version") !== fieldOf(record.text, "Version")) {
      throw conflict(path, kind, other, record);
    }
    packages.set(name, record);
  }
}

function render({ format }: FragmentPath, records: readonly FragmentRecord[]): string {
  const end = format.kind === "stanza" ? "\n\n" : "\n";
  return records.map(({ text }) => `${text}${end}`).join("");
}

function unknownPath(path: string, sources: readonly FragmentSource[]): TesseraError {
  const owner = sources.find(({ fragments }) => fragments.some((item) => item.path === path));
  const message = `${owner?.owner ?? "a component"} has a fragment for ${path}, which this version cannot merge`;
  return new TesseraError("misuse", "compose.fragment-unknown", message, {
    subject: path,
    remedy: "use a newer version of Tessera, or build the component without it",
  });
}
