/** Fragments as records: cutting texts, joining records of one key, and finding conflicts. */
import { TesseraError } from "#core";
import type { FragmentFormat, FragmentPath } from "./fragment-paths.ts";

export interface FragmentRecord {
  readonly key: string;
  readonly text: string;
  /** Name of the component that it came from. */
  readonly owner: string;
}

/** A fragment is a text of at most this many bytes: Debian's largest is under 4 MB. */
export const FRAGMENT_BYTES_MAX = 32 * 2 ** 20;

/** @throws `compose.fragment-invalid` (corrupt) */
export function parseRecords(
  path: string,
  { format }: FragmentPath,
  text: string,
  owner: string,
): FragmentRecord[] {
  const keyed = (piece: string): FragmentRecord => {
    const key = keyOf(format, piece);
    if (key !== undefined) return { key, text: piece, owner };
    const [line = ""] = piece.split("\n");
    throw invalid(path, owner, `has a record without a name: "${line.slice(0, 80)}"`);
  };
  return pieces(path, format, text, owner).map(keyed);
}

function pieces(path: string, format: FragmentFormat, text: string, owner: string): string[] {
  if (format.kind === "stanza") {
    return text
      .split(/\n[ \t]*\n+/)
      .map((piece) => piece.replace(/^\n+|\s+$/g, ""))
      .filter((piece) => piece !== "");
  }
  const lines = text.split("\n").filter((line) => line !== "");
  if (format.kind !== "triple") return lines;
  if (lines.length % 3 !== 0) throw invalid(path, owner, "is not made of groups of three lines");
  return Array.from({ length: lines.length / 3 }, (_, index) =>
    lines.slice(index * 3, index * 3 + 3).join("\n"),
  );
}

function keyOf(format: FragmentFormat, piece: string): string | undefined {
  if (format.kind === "colon") return /^([^:]+):/.exec(piece)?.[1];
  if (format.kind === "stanza") return stanzaKey(piece, format.keys);
  if (format.kind === "triple") return piece.split("\n")[0];
  return format.key === undefined ? piece : piece.split(/\s+/)[format.key];
}

function stanzaKey(piece: string, keys: readonly string[]): string | undefined {
  const values = keys.map((key) => fieldOf(piece, key));
  return values[0] === undefined ? undefined : values.join(" ");
}

/** The value of a field of a stanza, without its continuation lines. */
export function fieldOf(stanza: string, name: string): string | undefined {
  return new RegExp(`^${name}:[ \\t]*(.*)$`, "m").exec(stanza)?.[1];
}

/**
 * One record from two with the same key that two programs bring, or that the OS has and a program
 * changes. Undefined where they contradict each other.
 *
 * Two records are one where they are equal, where only lists differ that have no order (members
 * of a group, owners of a debconf question), or where one program asks for a package that another
 * got as a dependency (apt's `Auto-Installed`).
 */
export function joinRecords(format: FragmentFormat, a: string, b: string): string | undefined {
  if (a === b) return a;
  if (format.kind === "colon") return joinFields(a, b, format.members ?? []);
  if (format.kind !== "stanza") return undefined;
  const auto = /^Auto-Installed: [01]$/m;
  if (a.replace(auto, "") === b.replace(auto, "")) return auto.exec(a)?.[0].endsWith("0") ? a : b;
  return joinOwners(a, b);
}

function joinFields(a: string, b: string, members: readonly number[]): string | undefined {
  const left = a.split(":");
  const right = b.split(":");
  const joined = left.map((value, index) =>
    members.includes(index) ? unite(value, right[index] ?? "", ",") : value,
  );
  const others = (fields: readonly string[]): string =>
    fields.filter((_, index) => !members.includes(index)).join(":");
  return others(left) === others(right) ? joined.join(":") : undefined;
}

function joinOwners(a: string, b: string): string | undefined {
  const owners = /^Owners: (.*)$/m;
  const left = owners.exec(a)?.[1];
  const right = owners.exec(b)?.[1];
  if (left === undefined || right === undefined) return undefined;
  if (a.replace(owners, "") !== b.replace(owners, "")) return undefined;
  return a.replace(owners, () => `Owners: ${unite(left, right, ", ")}`);
}

function unite(a: string, b: string, separator: string): string {
  const names = `${a},${b}`.split(",").map((name) => name.trim());
  return [...new Set(names.filter((name) => name !== ""))].toSorted().join(separator);
}

/**
 * @throws `compose.fragment-conflict` (misuse) when two records contradict each other.
 */
export function conflict(
  path: string,
  { format, record }: FragmentPath,
  a: FragmentRecord,
  b: FragmentRecord,
): TesseraError {
  const what = `${record} ${a.key.split(" ")[0] ?? a.key}`;
  const difference = differenceOf(format, a, b);
  const message = `${a.owner} and ${b.owner} disagree on ${what} in ${path}: ${difference}`;
  return new TesseraError("misuse", "compose.fragment-conflict", message, {
    subject: path,
    remedy: "use components that were built from the same archive state and user ids",
  });
}

function differenceOf(format: FragmentFormat, a: FragmentRecord, b: FragmentRecord): string {
  if (format.kind === "stanza") {
    const [left, right] = [a, b].map(({ text }) => fieldOf(text, "Version"));
    return left === right ? "their entries differ" : `version ${left} against ${right}`;
  }
  if (format.kind === "colon" && format.identity !== undefined) {
    const { identity } = format;
    const [left, right] = [a, b].map(({ text }) => text.split(":")[identity]);
    return left === right ? "their entries differ" : `id ${left} against ${right}`;
  }
  return "their entries differ";
}

/** A fragment that is not what its path says. */
export function invalid(path: string, owner: string, problem: string): TesseraError {
  const message = `the fragment ${path} of ${owner} ${problem}`;
  return new TesseraError("corrupt", "compose.fragment-invalid", message, {
    subject: path,
    remedy: "build the component again",
  });
}
