/** From wished features to an appliance: what is held, what would come and from whom. */
import {
  checkConstraints,
  choicesFor,
  combine,
  parseWish,
  resolveAppliance,
  type ApplianceRecipe,
  type Choice,
  type Elsewhere,
  type UnmetConstraint,
  type Wish,
} from "#compose";
import {
  componentsOf,
  hasCode,
  referenceOf,
  reportOf,
  TesseraError,
  type Appliance,
  type Component,
  type ComponentReference,
  type Digest,
} from "#core";
import type { ComponentStore } from "#repository";
import { findElsewhere, type Found } from "./help/find.ts";
import { askHelpers } from "./help/helpers.ts";
import type { MigrationTools } from "./migrations/tools.ts";
import type { Signers } from "./signers.ts";
import type { Upstream } from "./upstream/upstream.ts";
import { gatherWithUpstream, wordsOf } from "./upstream/gather.ts";

/** One feature and what was found for it. */
export interface SelectedFeature {
  readonly wish: string;
  readonly kind: Wish["kind"];
  /** Absent where nothing will do. */
  readonly component?: ComponentReference;
  readonly held: boolean;
  /** Clouds that would send it; empty where it is held. */
  readonly clouds: readonly string[];
  /** Where nothing will do: why, and what comes nearest. */
  readonly reason?: string;
}

export interface Selection {
  readonly features: readonly SelectedFeature[];
  readonly unmet: readonly UnmetConstraint[];
  /** Everything is there or can be had, and no constraint is known to be unmet. */
  readonly fits: boolean;
  /** Bytes of images that would come. */
  readonly fetchBytes: number;
  /** What could not be asked. */
  readonly remarks?: readonly string[];
}

interface Selected {
  readonly selection: Selection;
  readonly recipe: ApplianceRecipe;
  readonly found: readonly Found[];
}

/** Resolves features and fetches what they need. */
export class Selector {
  readonly #tools: MigrationTools;

  constructor(tools: MigrationTools) {
    this.#tools = tools;
  }

  /** @throws `compose.wish-invalid` (misuse) */
  async select(recipe: ApplianceRecipe): Promise<Selected> {
    const { store, world, transport, rates } = this.#tools;
    const wishes = wishesOf(recipe);
    const components = await store.list();
    const lacking = wishes.filter((wish) => choicesFor(wish, components, []).held.length === 0);
    const asker = { world, transport, distrusts: (cloud: string) => rates.distrusts(cloud) };
    const [members, above] = await Promise.all([
      findElsewhere(asker, lacking),
      this.#findUpstream(lacking),
    ]);
    const { allowed, refused } = await judged(this.#tools, [...members, ...above.found]);
    const others = elsewhereOf(allowed);
    const choices = wishes.map((wish) => choicesFor(wish, components, others));
    const selection = { ...selectionOf(choices, refused), ...above.remarks };
    return { selection, recipe, found: allowed };
  }

  /** A registry that is away is a remark: what the members hold is enough in most cases. */
  async #findUpstream(
    lacking: readonly Wish[],
  ): Promise<{ readonly found: Found[]; readonly remarks?: Pick<Selection, "remarks"> }> {
    const { upstream } = this.#tools;
    if (upstream === undefined || lacking.length === 0) return { found: [] };
    try {
      return { found: await upstream.find(lacking) };
    } catch (error) {
      const remark = `${upstream.name} does not say what it has: ${wordsOf(error)}`;
      return { found: [], remarks: { remarks: [remark] } };
    }
  }

  /**
   * Gives `use` an appliance whose components are held and cannot go meanwhile: what is missing is
   * fetched first. What nobody has stays missing: `use` says so.
   *
   * @throws what fetching throws
   */
  async complete<T>(appliance: Appliance, signal: AbortSignal, use: () => Promise<T>): Promise<T> {
    const { store, world } = this.#tools;
    const references = componentsOf(appliance);
    const owner = `select:${world.random.uuid()}`;
    try {
      await store.pin(
        owner,
        references.map(({ id }) => id),
      );
      const held = new Set((await store.list()).map(({ id }) => id));
      const missing = references.filter(({ id }) => !held.has(id));
      if (missing.length > 0) await this.#fetch(owner, missing, signal).catch(this.#nobody);
      return await use();
    } finally {
      await store.unpin(owner);
    }
  }

  /**
   * Gives `use` the appliance of features, whose components cannot go meanwhile: what is missing is
   * fetched first.
   *
   * @throws `compose.features-unmet` (misuse), and what fetching throws
   */
  async obtain<T>(
    recipe: ApplianceRecipe,
    signal: AbortSignal,
    use: (appliance: Appliance) => Promise<T>,
  ): Promise<T> {
    const { selection, found } = await this.select(recipe);
    requireFit(selection);
    const missing = selection.features.flatMap(({ held, component }) =>
      held || component === undefined ? [] : [component],
    );
    const owner = `select:${this.#tools.world.random.uuid()}`;
    try {
      await this.#tools.store.pin(owner, idsOf(selection));
      if (missing.length > 0) await this.#fetch(owner, missing, signal);
      await this.#keepSignatures(missing, found);
      const appliance = await resolveAppliance(exactly(recipe, selection), this.#tools.store);
      await this.#requireConstraints(selection);
      return await use(appliance);
    } finally {
      await this.#tools.store.unpin(owner);
    }
  }

  readonly #nobody = (error: unknown): void => {
    if (!hasCode(error, "transfer.no-source")) throw error;
    this.#tools.world.log.log("warn", "components are missing", { ...reportOf(error) });
  };

  async #fetch(
    owner: string,
    missing: readonly ComponentReference[],
    signal: AbortSignal,
  ): Promise<void> {
    const { world, store, cloud, rates, upstream } = this.#tools;
    const migration = owner.slice("select:".length);
    const need = { migration, source: cloud, missing, always: true };
    const helpers = await askHelpers(this.#tools, need);
    try {
      const { liars } = await gatherWithUpstream(world, upstream, {
        onRemark: (remark) => world.log.log("warn", "the upstream does not help", { remark }),
        store,
        sources: helpers.sources,
        references: missing,
        owner,
        signal,
      });
      for (const liar of liars) rates.distrust(liar.cloud);
    } finally {
      await helpers.close();
    }
  }

  async #keepSignatures(
    missing: readonly ComponentReference[],
    found: readonly Found[],
  ): Promise<void> {
    for (const { id } of missing) {
      const signatures = found
        .filter(({ reference }) => reference.id === id)
        .flatMap((one) => one.signatures);
      if (signatures.length > 0)
        await this.#tools.store.addSignatures(id, { signatures, own: false });
    }
  }

  async #requireConstraints({ features }: Selection): Promise<void> {
    const components = await heldOf(this.#tools.store, features);
    const unmet = checkConstraints(components);
    if (unmet.length > 0) throw featuresUnmet([], unmet);
  }
}

function idsOf({ features }: Selection): Digest[] {
  return features.flatMap(({ component }) => (component === undefined ? [] : [component.id]));
}

async function heldOf(
  store: ComponentStore,
  features: readonly SelectedFeature[],
): Promise<Component[]> {
  const ids = features.flatMap(({ component }) => component?.id ?? []);
  const found = await Promise.all(ids.map((id) => store.find(id)));
  return found.filter((component) => component !== undefined);
}

function wishesOf({ kernel, os, programs }: ApplianceRecipe): Wish[] {
  return [
    parseWish("kernel", kernel),
    parseWish("os", os),
    ...programs.map((text) => parseWish("program", text)),
  ];
}

/** Those whose signatures are as this cloud requires, and why others are not taken. */
async function judged(
  { signers, upstream }: { readonly signers: Signers; readonly upstream?: Upstream },
  found: readonly Found[],
): Promise<{ readonly allowed: Found[]; readonly refused: Map<string, string> }> {
  const allowed: Found[] = [];
  const refused = new Map<string, string>();
  for (const one of found) {
    const { reference, signatures, cloud } = one;
    const name = `${reference.name} ${reference.version}`;
    const source = cloud === upstream?.name ? upstream.host : cloud;
    const objection = await signers.objection(source, { ...reference, name }, signatures);
    if (objection === undefined) allowed.push(one);
    else refused.set(`${reference.kind}/${reference.name}`, `this cloud ${objection}`);
  }
  return { allowed, refused };
}

function elsewhereOf(found: readonly Found[]): Elsewhere[] {
  const byId = new Map<string, Elsewhere>();
  for (const { cloud, reference } of found) {
    // Under one id the manifests may differ: those who agree with the first are its sources.
    const known = byId.get(reference.id);
    if (known !== undefined && known.reference.manifest.digest !== reference.manifest.digest) {
      continue;
    }
    byId.set(reference.id, { reference, clouds: [...(known?.clouds ?? []), cloud] });
  }
  return [...byId.values()];
}

function selectionOf(choices: readonly Choice[], refused: ReadonlyMap<string, string>): Selection {
  const { chosen, unmet } = combine(choices);
  const features = choices.map((choice, index) => featureOf(choice, chosen[index], refused));
  const missing = features.filter(({ held, component }) => !held && component !== undefined);
  return {
    features,
    unmet,
    fits: unmet.length === 0 && features.every(({ component }) => component !== undefined),
    fetchBytes: missing.reduce((sum, { component }) => sum + (component?.sizeBytes ?? 0), 0),
  };
}

function featureOf(
  { wish, elsewhere, nearest }: Choice,
  chosen: Component | undefined,
  refused: ReadonlyMap<string, string>,
): SelectedFeature {
  const { text, kind, name, clauses } = wish;
  const common = { wish: text, kind };
  if (chosen !== undefined) {
    return { ...common, component: referenceOf(chosen), held: true, clouds: [] };
  }
  const [best] = elsewhere;
  if (best !== undefined) {
    return { ...common, component: best.reference, held: false, clouds: best.clouds };
  }
  const what =
    nearest.length === 0
      ? `no cloud here has a ${kind} named ${name}`
      : clauses.length === 0
        ? `there is no ${kind} of that name; nearest: ${nearest.join(", ")}`
        : `no version of ${name} meets ${text.slice(text.indexOf("@") + 1)}; there is ${nearest.join(", ")}`;
  const reason = refused.get(`${kind}/${name}`) ?? what;
  return { ...common, held: false, clouds: [], reason };
}

/** The recipe with the components that were chosen, by their ids. */
function exactly(recipe: ApplianceRecipe, { features }: Selection): ApplianceRecipe {
  const [kernel, os, ...programs] = features.map(({ component }) => component?.id ?? "");
  return { ...recipe, kernel: kernel ?? "", os: os ?? "", programs };
}

function requireFit({ features, unmet, fits }: Selection): void {
  if (fits) return;
  throw featuresUnmet(
    features.flatMap(({ wish, reason }) => (reason === undefined ? [] : [`${wish}: ${reason}`])),
    unmet,
  );
}

function featuresUnmet(reasons: readonly string[], unmet: readonly UnmetConstraint[]) {
  const needs = unmet.map(({ componentName, need, found }) => {
    const instead = found === undefined ? "which nothing here provides" : `but there is ${found}`;
    return `${componentName} needs ${need.name}, ${instead}`;
  });
  const message = `the features do not fit: ${[...reasons, ...needs].slice(0, 8).join("; ")}`;
  return new TesseraError("misuse", "compose.features-unmet", message, {
    remedy: "see all with --dry-run; name other versions, or build or add what is missing",
  });
}
