/** The parts of an image as components. */
import { hash } from "node:crypto";
import { join } from "node:path";
import type { Component, ComponentDescription, Digest, World } from "#core";
import {
  canonicalTree,
  fileSource,
  treeDigest,
  writeErofs,
  writeErofsFile,
  type Tree,
} from "#image";
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

/**
 * Makes the components that are not held, and adds each to `made`, also when a later one fails.
 * `owner` pins them; who gives the pin up may remove those that were made.
 */
export async function makeComponents(
  world: World,
  store: ComponentStore,
  image: SurveyedImage,
  { progress, signal, directory }: ImportRequest,
  owner: string,
  made: MadeComponent[],
): Promise<void> {
  const { parts } = image;
  const osName = parts.find(({ kind }) => kind === "os")?.name ?? "";
  for (const [index, part] of parts.entries()) {
    signal.throwIfAborted();
    progress({ step: "components", detail: part.name, done: index, total: parts.length });
    const plan = await planned(part);
    const known = await heldOf(store, plan.origin);
    if (known !== undefined) await store.pin(owner, [known.id]);
    const description = descriptionOf(plan, image, osName);
    const component = known ?? (await make(world, store, plan, description, directory, owner));
    made.push({ component, part: described(plan, component.id, known !== undefined) });
  }
}

async function make(
  world: World,
  store: ComponentStore,
  { tree }: PlannedPart,
  description: ComponentDescription,
  directory: string,
  owner: string,
): Promise<Component> {
  const path = join(directory, `component-${world.random.uuid()}.erofs`);
  const { digest } = await writeErofsFile(world, tree, path);
  try {
    /* The same files under another name: what is held stays as it is. */
    const same = await store.find(digest);
    if (same !== undefined) return same;
    const image = await fileSource(world, path);
    try {
      await store.add({ description, fragments: [], image });
    } finally {
      await image.close();
    }
    await store.pin(owner, [digest]);
    return await store.resolve(digest);
  } finally {
    await world.files.remove(path);
  }
}
