/**
 * Wishes for components: a name, and which versions will do (doc/composition.md, "Version ranges").
 * Pure.
 */
import {
  compareDebianVersions,
  TesseraError,
  type Component,
  type ComponentKind,
  type ComponentReference,
} from "#core";

const RELATIONS = [">=", "<=", ">", "<", "=", "~"] as const;
type Relation = (typeof RELATIONS)[number];

interface Clause {
  readonly relation: Relation;
  readonly version: string;
}

/** What is wanted in one place of an appliance. */
export interface Wish {
  readonly kind: ComponentKind;
  readonly name: string;
  /** As it was written. */
  readonly text: string;
  readonly clauses: readonly Clause[];
}

const NAME = /^[a-z0-9][a-z0-9.+_-]{0,127}$/;
const VERSION = /^[A-Za-z0-9][A-Za-z0-9.+~:_-]{0,127}$/;

/**
 * `NAME`, `NAME@VERSION`, or `NAME@RANGE`, where a range is up to 8 of `=V`, `>=V`, `>V`, `<=V`,
 * `<V`, `~V` (V itself or what it is the beginning of), separated by commas; `KIND/` may stand before.
 *
 * @throws `compose.wish-invalid` (misuse)
 */
export function parseWish(kind: ComponentKind, text: string): Wish {
  const plain = text.startsWith(`${kind}/`) ? text.slice(kind.length + 1) : text;
  const at = plain.indexOf("@");
  const name = at < 0 ? plain : plain.slice(0, at);
  if (!NAME.test(name)) throw invalid(text, `"${name}" is no name of a ${kind}`);
  if (at < 0) return { kind, name, text, clauses: [] };
  const parts = plain.slice(at + 1).split(",");
  if (parts.length > 8) throw invalid(text, "it has more than 8 conditions");
  return { kind, name, text, clauses: parts.map((part) => clauseOf(text, part)) };
}

function clauseOf(text: string, part: string): Clause {
  const relation = RELATIONS.find((candidate) => part.startsWith(candidate));
  const version = part.slice(relation?.length ?? 0);
  if (!VERSION.test(version)) throw invalid(text, `"${part}" is no condition on a version`);
  return { relation: relation ?? "=", version };
}

/** True for a text that only {@link parseWish} understands. */
export function isRange(text: string): boolean {
  return /@[<>=~]|@.*,/.test(text);
}

/** By Debian's order of versions. */
export function satisfies({ clauses }: Pick<Wish, "clauses">, version: string): boolean {
  return clauses.every(({ relation, version: wanted }) => {
    const order = compareDebianVersions(version, wanted);
    switch (relation) {
      case ">=":
        return order >= 0;
      case "<=":
        return order <= 0;
      case ">":
        return order > 0;
      case "<":
        return order < 0;
      case "=":
        return order === 0;
      case "~":
        return order === 0 || beginsWith(version, wanted);
    }
  });
}

/** `1.22` begins `1.22.1-9` and `1.22-9`, not `1.220`; the epoch may be left out. */
function beginsWith(version: string, beginning: string): boolean {
  const begins = (whole: string): boolean =>
    whole.startsWith(beginning) && !/^[A-Za-z0-9]/.test(whole.slice(beginning.length));
  return begins(version) || begins(version.replace(/^\d+:/, ""));
}

/** A component of another cloud, and who has it. */
export interface Elsewhere {
  readonly reference: ComponentReference;
  readonly clouds: readonly string[];
}

export interface Choice {
  readonly wish: Wish;
  /** What is held and will do, the newest first. */
  readonly held: readonly Component[];
  /** Where nothing held will do: what others have, the newest first. */
  readonly elsewhere: readonly Elsewhere[];
  /** Where nothing will do at all: what comes nearest, for people. */
  readonly nearest: readonly string[];
}

const NEAREST_MAX = 3;

/** What there is for a wish. What is held goes before what is newer elsewhere: it need not travel. */
export function choicesFor(
  wish: Wish,
  components: readonly Component[],
  others: readonly Elsewhere[],
): Choice {
  const named = components.filter(({ description: { kind, name } }) => isOf(wish, kind, name));
  const held = newestFirst(
    named.filter(({ description }) => satisfies(wish, description.version)),
    ({ description }) => description.version,
  );
  const offered = others.filter(({ reference: { kind, name } }) => isOf(wish, kind, name));
  const elsewhere = newestFirst(
    held.length > 0 ? [] : offered.filter(({ reference }) => satisfies(wish, reference.version)),
    ({ reference }) => reference.version,
  );
  const none = held.length + elsewhere.length === 0;
  return { wish, held, elsewhere, nearest: none ? nearestTo(wish, components, offered) : [] };
}

function isOf(wish: Wish, kind: ComponentKind, name: string): boolean {
  return wish.kind === kind && wish.name === name;
}

function newestFirst<T>(items: readonly T[], versionOf: (item: T) => string): T[] {
  return items.toSorted((a, b) => compareDebianVersions(versionOf(b), versionOf(a)));
}

/** Other versions of the same name, else the names of the kind that are most alike. */
function nearestTo(
  wish: Wish,
  components: readonly Component[],
  offered: readonly Elsewhere[],
): string[] {
  const versions = [
    ...components
      .filter(({ description: { kind, name } }) => isOf(wish, kind, name))
      .map(({ description }) => ({ version: description.version, where: "held" })),
    ...offered.map(({ reference, clouds }) => ({
      version: reference.version,
      where: `at ${clouds.join(", ")}`,
    })),
  ];
  if (versions.length > 0) {
    const newest = newestFirst(versions, ({ version }) => version).slice(0, NEAREST_MAX);
    return newest.map(({ version, where }) => `${wish.name} ${version} (${where})`);
  }
  const names = components.filter(({ description }) => description.kind === wish.kind);
  return [...new Set(names.map(({ description }) => description.name))]
    .map((name) => ({ name, distance: distanceOf(wish.name, name) }))
    .filter(({ distance, name }) => distance <= Math.max(2, name.length / 2))
    .toSorted((a, b) => a.distance - b.distance)
    .slice(0, NEAREST_MAX)
    .map(({ name }) => `${name} (held)`);
}

/** Levenshtein's distance of two names. */
function distanceOf(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const swap = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(swap, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

function invalid(text: string, reason: string): TesseraError {
  return new TesseraError("misuse", "compose.wish-invalid", `"${text}": ${reason}`, {
    subject: text,
    remedy: "write NAME, NAME@VERSION, or conditions such as NAME@>=1.22,<2 or NAME@~1.22",
  });
}
