/** The components and appliances of a scenario: families, their versions over time, what is made of them. */
import type { Appliance, ComponentKind, ComponentReference, Digest } from "#core";
import type { CatalogueSpec, Scenario } from "./contract.ts";
import { RandomStream, WeightedDraw, zipfWeights } from "./random.ts";

export interface Release {
  readonly time_s: number;
  readonly family: number;
}

/** An appliance with the versions of its components at one time. */
export interface Revision {
  readonly appliance: Appliance;
  /** Components, the kernel first. */
  readonly components: readonly number[];
  /** As one image. */
  readonly sizeBytes: number;
}

export interface Components {
  readonly count: number;
  readonly families: readonly { readonly name: string; readonly kind: ComponentKind }[];
  /** By component; the versions of a family are beside each other, the oldest first. */
  readonly sizes: Float64Array;
  readonly ratios: Float64Array;
  readonly familyOf: Int32Array;
  /** By family: its first component, and one beyond its last. */
  readonly firsts: Int32Array;
  readonly ends: Int32Array;
  readonly references: readonly ComponentReference[];
  readonly ratiosById: ReadonlyMap<Digest, number>;
  /** Those after the start, by time. */
  readonly releases: readonly Release[];
  /** Families of each appliance. */
  readonly appliances: readonly { readonly name: string; readonly families: readonly number[] }[];
  readonly popularity: WeightedDraw;
}

/** Draws what the scenario leaves open. @throws `simulator.scenario-invalid` (misuse) by `indexOf` */
export function makeComponents(scenario: Scenario): Components {
  const { catalogue } = scenario;
  const random = new RandomStream(scenario.seed, 11);
  const releases = drawReleases(scenario, random);
  const versions = catalogue.components.map(() => 1);
  for (const { family } of releases) versions[family] = (versions[family] ?? 0) + 1;
  const firsts = Int32Array.from(versions, (_, family) =>
    versions.slice(0, family).reduce((sum, count) => sum + count, 0),
  );
  const ends = firsts.map((first, family) => first + (versions[family] ?? 0));
  const familyOf = Int32Array.from(versions.flatMap((count, family) => Array(count).fill(family)));
  const family = (component: number) => catalogue.components[familyOf[component] ?? 0];
  const sizes = Float64Array.from(familyOf, (_, component) => family(component)?.sizeBytes ?? 0);
  const ratios = Float64Array.from(familyOf, (_, component) => family(component)?.ratio ?? 0);
  const references = Array.from(familyOf, (index, component) =>
    referenceOf(catalogue, index, component, component - (firsts[index] ?? 0)),
  );
  const appliances = catalogue.named.length > 0 ? named(catalogue) : drawn(catalogue, random);
  const ratiosById = new Map(references.map(({ id }, index) => [id, ratios[index] ?? 0]));
  const popularity = new WeightedDraw(zipfWeights(appliances.length, catalogue.zipf));
  const made = { sizes, ratios, familyOf, firsts, ends, references, ratiosById };
  const families = catalogue.components;
  return { count: familyOf.length, families, ...made, releases, appliances, popularity };
}

function drawReleases({ catalogue, duration_s }: Scenario, random: RandomStream): Release[] {
  const every_s = catalogue.releaseEvery_s;
  if (every_s === undefined) return [];
  const releases: Release[] = [];
  for (const family of catalogue.components.keys()) {
    let time_s = random.exponential(every_s);
    for (; time_s < duration_s; time_s += random.exponential(every_s)) {
      releases.push({ time_s, family });
    }
  }
  return releases.toSorted((a, b) => a.time_s - b.time_s || a.family - b.family);
}

/** A digest that names a component of the simulation and nothing else. */
function digestOf(number: number): Digest {
  // The head, by which offers name components, is to be different.
  return `sha256:${number.toString(16).padStart(16, "0").padEnd(64, "0")}`;
}

function referenceOf(
  { components }: CatalogueSpec,
  family: number,
  component: number,
  version: number,
): ComponentReference {
  const { kind = "program", name = "", sizeBytes = 0 } = components[family] ?? {};
  const id = digestOf(component);
  const manifest = { digest: id, sizeBytes: 1 };
  return { id, kind, name, version: String(version + 1), sizeBytes, manifest };
}

function named({ named, components }: CatalogueSpec): Components["appliances"] {
  const byName = new Map(components.map(({ name }, index) => [name, index]));
  return named.map((appliance) => ({
    name: appliance.name,
    families: appliance.components.map((name) => byName.get(name) ?? 0),
  }));
}

function drawn(catalogue: CatalogueSpec, random: RandomStream): Components["appliances"] {
  const kernel = chooser(catalogue, "kernel");
  const os = chooser(catalogue, "os");
  const program = chooser(catalogue, "program");
  return Array.from({ length: catalogue.appliances }, (_, index) => {
    const system = os(random);
    const name = catalogue.components[system]?.name ?? "";
    const families = new Set([kernel(random), system]);
    const wanted = families.size + geometric(catalogue.programsMean, random);
    // A program that does not fit the OS, or is there already, is drawn again a few times.
    for (let tries = 0; tries < 4 * wanted && families.size < wanted; tries += 1) {
      const candidate = program(random);
      const fits = catalogue.components[candidate]?.os?.includes(name) ?? true;
      if (candidate >= 0 && fits) families.add(candidate);
    }
    return { name: `appliance-${index + 1}`, families: [...families] };
  });
}

/** Draws a family of a kind by its weight, or by its rank. */
function chooser(catalogue: CatalogueSpec, kind: ComponentKind): (random: RandomStream) => number {
  const families = [...catalogue.components.keys()].filter(
    (index) => catalogue.components[index]?.kind === kind,
  );
  if (families.length === 0) return () => -1;
  const byRank = zipfWeights(families.length, catalogue.zipf);
  const weights = families.map(
    (family, rank) => catalogue.components[family]?.weight ?? byRank[rank] ?? 0,
  );
  const draw = new WeightedDraw(weights);
  return (random) => families[draw.draw(random)] ?? -1;
}

/** 0, 1, 2 and so on with this mean. */
function geometric(mean: number, random: RandomStream): number {
  if (mean <= 0) return 0;
  return Math.floor(Math.log(1 - random.fraction()) / Math.log(mean / (1 + mean)));
}

/** Appliances with the newest versions of their components; each is made when it is first asked for. */
export class Revisions {
  readonly list: Revision[] = [];
  readonly #components: Components;
  readonly #scenario: Scenario;
  /** By family: versions released so far. */
  readonly #released: Int32Array;
  readonly #current: Int32Array;
  readonly #users: readonly (readonly number[])[];

  constructor(scenario: Scenario, components: Components) {
    this.#scenario = scenario;
    this.#components = components;
    this.#released = new Int32Array(components.firsts.length).fill(1);
    this.#current = new Int32Array(components.appliances.length).fill(-1);
    const users: number[][] = Array.from(components.firsts, () => []);
    for (const [index, { families }] of components.appliances.entries()) {
      for (const family of families) users[family]?.push(index);
    }
    this.#users = users;
  }

  release(family: number): void {
    this.#released[family] = (this.#released[family] as number) + 1;
    for (const appliance of this.#users[family] ?? []) this.#current[appliance] = -1;
  }

  /** Index in `list`. */
  currentOf(appliance: number): number {
    const known = this.#current[appliance] as number;
    if (known >= 0) return known;
    this.list.push(this.#make(appliance));
    this.#current[appliance] = this.list.length - 1;
    return this.list.length - 1;
  }

  #make(appliance: number): Revision {
    const { appliances, firsts, references, sizes } = this.#components;
    const { name = "", families = [] } = appliances[appliance] ?? {};
    const components = families.map(
      (family) => (firsts[family] as number) + (this.#released[family] as number) - 1,
    );
    const [kernel, os, ...programs] = components.map((index) => references[index]);
    if (kernel === undefined || os === undefined) throw new Error("an appliance without a system");
    const { cpus, memoryBytes, userDataMedianBytes } = this.#scenario.machines;
    const resources = { cpus, memoryBytes, dataBytes: userDataMedianBytes, ports: [] };
    const serviceLevel = { clouds: [], regions: [], priority: 50, maySlowDown: true };
    const digest = digestOf(2 ** 40 + this.list.length);
    const present = programs.filter((program) => program !== undefined);
    const made = { name, digest, kernel, os, programs: present, resources, serviceLevel };
    const sizeBytes = components.reduce((sum, index) => sum + (sizes[index] ?? 0), 0);
    return { appliance: made, components, sizeBytes };
  }
}
