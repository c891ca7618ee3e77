import { canonicalJson, compareDebianVersions, type Constraint, type Json } from "#core";
import { field, type Stanza } from "./stanzas.ts";

type Relation = NonNullable<Constraint["relation"]>;

const HOLDS: Readonly<Record<Relation, (order: number) => boolean>> = {
  "<<": (order) => order < 0,
  "<=": (order) => order <= 0,
  "=": (order) => order === 0,
  ">=": (order) => order >= 0,
  ">>": (order) => order > 0,
};

/** Does `offered` stand in `relation` to `needed`? */
export function satisfies(offered: string, relation: Relation, needed: string): boolean {
  return HOLDS[relation](compareDebianVersions(offered, needed));
}

const RELATION =
  /^([a-z0-9][a-z0-9.+-]*)(?::[a-z0-9-]+)?(?:\s*\(\s*(<<|<=|=|>=|>>)\s*([^\s)]+)\s*\))?$/;

/** One relation such as `libc6 (>= 2.34)`; undefined when it is none. */
function parseRelation(text: string): Constraint | undefined {
  const [, name, relation, version] = RELATION.exec(text.trim()) ?? [];
  if (name === undefined) return undefined;
  if (relation === undefined || version === undefined) return { type: "package", name };
  return { type: "package", name, version, relation: relation as Relation };
}

/** A list of relations: `a (>= 1), b | c` (Debian policy 7.1). Alternatives follow the first. */
export function parseRelations(text: string): Constraint[] {
  return text.split(",").flatMap((group) => {
    const [first, ...others] = group.split("|").map(parseRelation);
    if (first === undefined) return [];
    const alternatives = others.filter((other) => other !== undefined);
    return [alternatives.length === 0 ? first : { ...first, alternatives }];
  });
}

/** The packages themselves and the names that they provide. */
export function packageProvides(controls: readonly Stanza[]): Constraint[] {
  return controls.flatMap((control) => [
    {
      type: "package" as const,
      name: field(control, "Package"),
      version: field(control, "Version"),
    },
    ...parseRelations(field(control, "Provides")).map(({ name, version }) => ({
      type: "package" as const,
      name,
      ...(version === undefined ? {} : { version }),
    })),
  ]);
}

/** Does one of `offers` meet `need` or one of its alternatives? An offer without a version meets
 * only needs without one (Debian policy 7.5). */
export function packageNeedMet(need: Constraint, offers: readonly Constraint[]): boolean {
  return [need, ...(need.alternatives ?? [])].some((option) =>
    offers.some((offer) => {
      if (offer.type !== "package" || offer.name !== option.name) return false;
      if (option.version === undefined || option.relation === undefined) return true;
      return (
        offer.version !== undefined && satisfies(offer.version, option.relation, option.version)
      );
    }),
  );
}

/** What packages depend on and do not bring themselves. */
export function packageRequires(controls: readonly Stanza[]): Constraint[] {
  const offers = packageProvides(controls);
  const needs = controls.flatMap((control) =>
    ["Pre-Depends", "Depends"].flatMap((name) => parseRelations(field(control, name))),
  );
  return sortConstraints(needs.filter((need) => !packageNeedMet(need, offers)));
}

/** One order and no duplicates. */
export function sortConstraints(constraints: readonly Constraint[]): Constraint[] {
  const byText = new Map(
    constraints.map((constraint) => [canonicalJson(constraint as unknown as Json), constraint]),
  );
  return [...byText]
    .map(([text, constraint]) => ({
      key: `${constraint.type} ${constraint.name} ${text}`,
      constraint,
    }))
    .toSorted((a, b) => (a.key < b.key ? -1 : 1))
    .map(({ constraint }) => constraint);
}
