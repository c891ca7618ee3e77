/** From a recipe to an appliance: names become components of a repository. */
import { createHash } from "node:crypto";
import { TesseraError, canonicalJson, referenceOf } from "#core";
import type { Appliance, Component, ComponentKind, Digest } from "#core";
import type { ComponentStore } from "#repository";
import type { ApplianceRecipe } from "./contract.ts";
import { choicesFor, isRange, parseWish } from "./wish.ts";

/**
 * The digest that names a composition: sha256 over the canonical JSON of the list of component
 * ids, the kernel first, then the OS, then the programs, lowest first. Order counts.
 */
export function applianceDigest(ids: readonly Digest[]): Digest {
  return `sha256:${createHash("sha256").update(canonicalJson(ids)).digest("hex")}`;
}

/**
 * Finds every component that the recipe names. A bare name is looked up among the components of
 * the kind that its place in the recipe asks for.
 *
 * @throws `repository.component-unknown`, `repository.component-ambiguous`,
 *   `compose.kind-mismatch`, `compose.component-twice` (misuse)
 */
export async function resolveAppliance(
  recipe: ApplianceRecipe,
  store: ComponentStore,
): Promise<Appliance> {
  const kernel = await resolve(store, "kernel", recipe.kernel);
  const os = await resolve(store, "os", recipe.os);
  const programs: Component[] = [];
  for (const text of recipe.programs) {
    const program = await resolve(store, "program", text);
    refuseTwice(programs, program, text);
    programs.push(program);
  }
  const { name, resources, serviceLevel } = recipe;
  return {
    name,
    digest: applianceDigest([kernel, os, ...programs].map(({ id }) => id)),
    kernel: referenceOf(kernel),
    os: referenceOf(os),
    programs: programs.map(referenceOf),
    resources,
    serviceLevel,
  };
}

async function resolve(
  store: ComponentStore,
  kind: ComponentKind,
  text: string,
): Promise<Component> {
  const component = isRange(text)
    ? await newestOf(store, kind, text)
    : await store.resolve(isBareName(text) ? `${kind}/${text}` : text);
  const found = component.description.kind;
  if (found === kind) return component;
  const message = `"${text}" is a component of kind ${found}; a ${kind} is needed here`;
  throw new TesseraError("misuse", "compose.kind-mismatch", message, {
    subject: component.id,
    remedy: `name a component of kind ${kind}`,
  });
}

/** @throws `repository.component-unknown`, `compose.wish-invalid` (misuse) */
async function newestOf(
  store: ComponentStore,
  kind: ComponentKind,
  text: string,
): Promise<Component> {
  const { held, nearest } = choicesFor(parseWish(kind, text), await store.list(), []);
  const [newest] = held;
  if (newest !== undefined) return newest;
  const there = nearest.length === 0 ? "" : `; there is ${nearest.join(", ")}`;
  const message = `no component meets "${text}"${there}`;
  throw new TesseraError("misuse", "repository.component-unknown", message, {
    subject: text,
    remedy: 'see "tessera component ls"',
  });
}

function isBareName(text: string): boolean {
  return !text.includes("/") && !text.startsWith("sha256:") && !/^[0-9a-f]{8,64}$/.test(text);
}

function refuseTwice(programs: readonly Component[], program: Component, text: string): void {
  const { name } = program.description;
  const twice = programs.find(({ description }) => description.name === name);
  if (twice === undefined) return;
  const message = `"${text}" is the program ${name}, which is in the appliance already`;
  throw new TesseraError("misuse", "compose.component-twice", message, {
    subject: program.id,
    remedy: "name each program once, in one version",
  });
}
