/** Whether components fit together: pure, over what their descriptions say. */
import { TesseraError, compareDebianVersions } from "#core";
import type { Component, Constraint } from "#core";
import type { UnmetConstraint } from "./contract.ts";
import { isSameSeries, reachesSymbolVersion } from "./symbol-version.ts";

type ConstraintType = Constraint["type"];

/** What a composition offers, by type and name; a missing version means that none is known. */
type Offers = ReadonlyMap<ConstraintType, ReadonlyMap<string, readonly (string | undefined)[]>>;

/**
 * Every need that nothing in the composition meets, in the order of the components.
 *
 * - `binary`: the shared object must be there, with at least the symbol version of the series;
 * - `package`: Debian's relations (deb-control(5), Debian policy 7.1 and 7.5): alternatives, and
 *   virtual packages, of which only a versioned `provides` meets a versioned need;
 * - `architecture`: all components are for one, or for `all`;
 * - `os`: the operating system or the system user.
 */
export function checkConstraints(components: readonly Component[]): UnmetConstraint[] {
  const offers = offersOf(components);
  const architecture = components.find(({ description }) => description.architecture !== "all");
  return components.flatMap((component) => [
    ...architectureFault(component, architecture?.description.architecture),
    ...component.description.requires.flatMap((need) => fault(component, need, offers)),
  ]);
}

/** `libc.so.6 (GLIBC_2.34)`, `mail-transport-agent | exim4 (>= 4.0)`. */
export function describeNeed(need: UnmetConstraint["need"]): string {
  if (need.type === "architecture") return `architecture ${need.name}`;
  const { name, version, relation, alternatives = [] } = need;
  const detail = version === undefined ? "" : ` (${relation ? `${relation} ` : ""}${version})`;
  return [`${name}${detail}`, ...alternatives.map(describeNeed)].join(" | ");
}

/** Does this fault forbid the composition? Package faults do not where they are allowed. */
function isForbidden(unmet: UnmetConstraint, allowPackageFaults: boolean): boolean {
  return unmet.level !== "package" || !allowPackageFaults;
}

/**
 * @throws `compose.constraint-unmet` (misuse): the message names every component and constraint.
 */
export function refuseUnmet(
  components: readonly Component[],
  options: { readonly allowPackageFaults: boolean },
): void {
  const unmet = checkConstraints(components).filter((fault) =>
    isForbidden(fault, options.allowPackageFaults),
  );
  if (unmet.length === 0) return;
  const lines = unmet.map(sentence);
  const shown = lines.slice(0, 10);
  const more = lines.length > shown.length ? `; and ${lines.length - shown.length} more` : "";
  throw new TesseraError("misuse", "compose.constraint-unmet", `${shown.join("; ")}${more}`, {
    subject: unmet[0]?.component ?? "",
    remedy: unmet.every(({ level }) => level === "package")
      ? "choose components that fit, or allow package faults: the programs run, the package tools complain"
      : "choose an OS or a program version that fits",
  });
}

function sentence({ componentName, level, need, found }: UnmetConstraint): string {
  const instead = found === undefined ? "which nothing provides" : `but found ${found}`;
  return `${componentName} needs ${describeNeed(need)}, ${instead} (${level} constraint)`;
}

function offersOf(components: readonly Component[]): Offers {
  const offers = new Map<ConstraintType, Map<string, (string | undefined)[]>>();
  const add = (type: ConstraintType, name: string, version?: string): void => {
    const names = offers.get(type) ?? new Map<string, (string | undefined)[]>();
    names.set(name, [...(names.get(name) ?? []), version]);
    offers.set(type, names);
  };
  for (const { description } of components) {
    for (const item of description.provides) add(item.type, item.name, item.version);
    for (const item of description.packages) add("package", item.name, item.version);
    if (description.kind === "os") add("os", description.name, description.version);
  }
  return offers;
}

function architectureFault(component: Component, name: string | undefined): UnmetConstraint[] {
  const found = component.description.architecture;
  if (name === undefined || found === name || found === "all") return [];
  return [unmet(component, "architecture", { type: "architecture", name }, found)];
}

function fault(component: Component, need: Constraint, offers: Offers): UnmetConstraint[] {
  const choices = [need, ...(need.alternatives ?? [])];
  if (choices.some((choice) => isMet(choice, offers))) return [];
  const found = choices.flatMap((choice) => nearest(choice, offers)).join(", ");
  return [unmet(component, LEVELS[need.type], need, found === "" ? undefined : found)];
}

function unmet(
  { id, description }: Component,
  level: UnmetConstraint["level"],
  need: UnmetConstraint["need"],
  found: string | undefined,
): UnmetConstraint {
  const common = { component: id, componentName: description.name, level, need };
  return found === undefined ? common : { ...common, found };
}

const LEVELS: Readonly<Record<ConstraintType, UnmetConstraint["level"]>> = {
  soname: "binary",
  package: "package",
  os: "os",
  user: "os",
};

function isMet(need: Constraint, offers: Offers): boolean {
  const versions = versionsOf(need, offers);
  const { type, version } = need;
  if (version === undefined || versions.length === 0) return versions.length > 0;
  if (type === "soname") return hasSymbolVersion(versions, version);
  if (type === "package") return versions.some((have) => relates(have, need));
  return versions.includes(version);
}

/** Debian's `name:any` and `name:amd64` name the package too: a composition has one architecture. */
function versionsOf({ type, name }: Constraint, offers: Offers): readonly (string | undefined)[] {
  const plain = type === "package" ? name.replace(/:[a-z0-9-]+$/, "") : name;
  return offers.get(type)?.get(plain) ?? [];
}

/** An object for which no version at all is recorded is taken to fit: it has no versions. */
function hasSymbolVersion(versions: readonly (string | undefined)[], needed: string): boolean {
  const known = versions.filter((version) => version !== undefined);
  return known.length === 0 || known.some((highest) => reachesSymbolVersion(highest, needed));
}

const RELATIONS: Readonly<Record<NonNullable<Constraint["relation"]>, (order: number) => boolean>> =
  {
    "<<": (order) => order < 0,
    "<=": (order) => order <= 0,
    "=": (order) => order === 0,
    ">=": (order) => order >= 0,
    ">>": (order) => order > 0,
  };

function relates(have: string | undefined, { version, relation = ">=" }: Constraint): boolean {
  if (have === undefined || version === undefined) return false;
  return RELATIONS[relation](compareDebianVersions(have, version));
}

/** What there is instead: the versions of that name, for a symbol version those of its series. */
function nearest(need: Constraint, offers: Offers): string[] {
  const known = versionsOf(need, offers).filter((version) => version !== undefined);
  const { version } = need;
  const series = known.filter((have) => version !== undefined && isSameSeries(have, version));
  const best = need.type === "soname" && series.length > 0 ? series : known;
  return best.map((have) => `${need.name} ${have}`);
}
