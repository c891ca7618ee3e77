/** The parts of an image as components. */
import { hash } from "node:crypto";
import type { Component, ComponentDescription, Digest } from "#core";
import { canonicalTree, treeDigest, writeErofs, type ByteSink, type Tree } from "#image";
import type { ComponentStore } from "#repository";
import type { ImportedPart, ImportRequest } from "./contract.ts";
import type { Part } from "./decompose.ts";
import type { SurveyedImage } from "./survey.ts";
import { contentBytes } from "./tree.ts";

interface PlannedPart {
  readonly part: Part;
  readonly tree: Tree;
  /** What the component comes from: equal trees give equal images. */
  readonly origin: Digest;
}

async function planned(part: Part): Promise<PlannedPart> {
  const tree = canonicalTree(part.entries);
  const text = `tessera import 1\n${part.kind}\n${await treeDigest(tree)}\n`;
  return { part, tree, origin: `sha256:${hash("sha256", text, "hex")}` };
}

async function heldOf(store: ComponentStore, origin: Digest): Promise<Component | undefined> {
  return (await store.list()).find(({ description }) => description.recipe === origin);
}

function described({ part }: PlannedPart, id: Digest, held: boolean): ImportedPart {
  const { kind, name, version, packages, entries } = part;
  const sums = { packages: packages.length, files: entries.length, bytes: contentBytes(entries) };
  return { kind, name, version, ...sums, id, held };
}

/** Components of an import belong to its OS: they have no accounts and no package database. */
function descriptionOf({ part, origin }: PlannedPart, image: SurveyedImage, osName: string) {
  const release = image.survey.kernelRelease;
  const { kind, name, version, packages } = part;
  const description: ComponentDescription = {
    kind,
    name,
    version,
    architecture: image.architecture,
    packages,
    provides: kind === "os" ? [{ type: "os", name }] : [],
    requires: kind === "program" ? [{ type: "os", name: osName }] : [],
    instancePaths: [],
    recipe: origin,
    ...(kind === "kernel" && release !== undefined ? { kernelRelease: release } : {}),
  };
  return description;
}

/** The parts with the ids that their components would have; nothing is written. */
export async function predictComponents(
  store: ComponentStore,
  { parts }: SurveyedImage,
  { progress, signal }: ImportRequest,
): Promise<ImportedPart[]> {
  const predicted: ImportedPart[] = [];
  for (const [index, part] of parts.entries()) {
    signal.throwIfAborted();
    progress({ step: "components", detail: part.name, done: index, total: parts.length });
    const plan = await planned(part);
    const known = await heldOf(store, plan.origin);
    const id = known?.id ?? (await writeErofs(plan.tree, { write: async () => undefined })).digest;
    const held = known !== undefined || (await store.find(id)) !== undefined;
    predicted.push(described(plan, id, held));
  }
  return predicted;
}

export interface MadeComponent {
  readonly component: Component;
  readonly part: ImportedPart;
}

/** Side by side, so that one is made while another is brought to the disk. */
const MADE_AT_ONCE = 3;

/**
 * Makes the components that are not held, and adds each to `made`, also when another one fails; in
 * the end they are in the order of the parts. `owner` pins them; who gives the pin up may remove
 * those that were made.
 */
export async function makeComponents(
  store: ComponentStore,
  image: SurveyedImage,
  { progress, signal }: ImportRequest,
  owner: string,
  made: MadeComponent[],
): Promise<void> {
  const { parts } = image;
  const total = parts.length;
  const osName = parts.find(({ kind }) => kind === "os")?.name ?? "";
  const places = new Map<MadeComponent, number>();
  const failed = new AbortController();
  const pending = parts.entries();
  const work = async (): Promise<void> => {
    for (const [index, part] of pending) {
      AbortSignal.any([signal, failed.signal]).throwIfAborted();
      progress({ step: "components", detail: part.name, done: index, total });
      const plan = await planned(part);
      const one = await makeOne(store, plan, descriptionOf(plan, image, osName), owner);
      places.set(one, index);
      made.push(one);
    }
  };
  const workers = Array.from({ length: MADE_AT_ONCE }, () =>
    work().catch((cause: unknown) => {
      failed.abort(cause);
      throw cause;
    }),
  );
  await Promise.allSettled(workers);
  signal.throwIfAborted();
  failed.signal.throwIfAborted();
  made.sort((one, other) => (places.get(one) ?? 0) - (places.get(other) ?? 0));
}

async function makeOne(
  store: ComponentStore,
  plan: PlannedPart,
  description: ComponentDescription,
  owner: string,
): Promise<MadeComponent> {
  const known = await heldOf(store, plan.origin);
  if (known !== undefined) await store.pin(owner, [known.id]);
  const component = known ?? (await makeComponent(store, { tree: plan.tree, description, owner }));
  /* The same files under another name: what is held stays as it is. */
  const isHeld = known !== undefined || component.description.recipe !== plan.origin;
  return { component, part: described(plan, component.id, isHeld) };
}

export interface ComponentToMake {
  readonly tree: Tree;
  readonly description: ComponentDescription;
  /** Pins it. */
  readonly owner: string;
}

/** A component without fragments; one that is held stays as it is. */
export async function makeComponent(
  store: ComponentStore,
  { tree, description, owner }: ComponentToMake,
): Promise<Component> {
  const image = async (sink: ByteSink) => await writeErofs(tree, sink);
  const component = await store.write({ description, fragments: [], image });
  await store.pin(owner, [component.id]);
  return component;
}
