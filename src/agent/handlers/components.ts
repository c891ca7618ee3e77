import { isAbsolute, join } from "node:path";
import { buildInto, lockRecipe, parseRecipe, readLock, writeLock, type LockedRecipe } from "#build";
import { isDigest, TesseraError, type Component, type Digest, type FileSystem } from "#core";
import { fileSource, readErofs } from "#image";
import { openRepository, type ComponentStore } from "#repository";
import type { Handlers, Input } from "#api";
import { addContainer } from "../container-images.ts";
import { pushMade } from "../upstream/push.ts";
import type { Upstream } from "../upstream/upstream.ts";
import type { Parts } from "./parts.ts";

type ComponentOperations = Pick<
  Handlers,
  | "component.list"
  | "component.show"
  | "component.build"
  | "component.add"
  | "component.remove"
  | "component.collect"
>;

export function componentHandlers(parts: Parts): ComponentOperations {
  const { store } = parts;
  return {
    "component.list": async ({ kind, upstream }, { signal }) => {
      const all = upstream === true ? await upstreamOf(parts).list({ signal }) : await store.list();
      return { components: all.filter((c) => kind === undefined || c.description.kind === kind) };
    },
    "component.show": async ({ component: text }) => {
      const component = await store.resolve(text);
      const pins = [...(await store.pins())].filter(([, ids]) => ids.includes(component.id));
      return { component, pinnedBy: pins.map(([owner]) => owner) };
    },
    "component.build": async (input, { progress, signal }) => {
      const built = await build(parts, input, progress, signal);
      await parts.offerChanged();
      return { ...built, ...(await pushMade(parts, [built.component], signal)) };
    },
    "component.add": async ({ source }, { signal }) => {
      const { components, remarks } = await add(parts, source, signal);
      await parts.offerChanged();
      const pushed = await pushMade(parts, components, signal);
      const all = [...remarks, ...(pushed.remarks ?? [])];
      return { components, ...(all.length === 0 ? {} : { remarks: all }) };
    },
    "component.remove": async ({ component: text }) => {
      const id = await idOf(store, text);
      await store.remove(id);
      await parts.offerChanged();
      return { removed: id };
    },
    "component.collect": ({ dryRun }) => store.collect({ dryRun: dryRun ?? false }),
  };
}

async function add(
  parts: Parts,
  source: Input<"component.add">["source"],
  signal: AbortSignal,
): Promise<{ readonly components: Component[]; readonly remarks: readonly string[] }> {
  switch (source.from) {
    case "container":
      return await addContainer(parts, source, signal);
    case "image":
      return { components: [await addImage(parts, source)], remarks: [] };
    case "oci-layout":
      return { components: await addLayout(parts, source.path), remarks: [] };
  }
}

/** @throws `agent.upstream-none` (misuse) */
function upstreamOf({ upstream }: Parts): Upstream {
  if (upstream !== undefined) return upstream;
  throw new TesseraError("misuse", "agent.upstream-none", "this cloud has no upstream registry", {
    remedy: 'name one in cloud.yaml: "upstream: { registry: oci://… }"',
  });
}

/** A damaged component is not found by its name; by its whole digest it must be. */
export async function idOf(store: ComponentStore, text: string): Promise<Digest> {
  return isDigest(text) ? text : (await store.resolve(text)).id;
}

async function build(
  parts: Parts,
  input: Input<"component.build">,
  progress: (event: {
    step: "resolve" | "download" | "install" | "difference" | "image";
    detail: string;
  }) => void,
  signal: AbortSignal,
): Promise<{ component: Component; lock: string }> {
  const { world, store, layout } = parts;
  const places = {
    cacheDirectory: layout.cache,
    workDirectory: layout.work,
    progress,
    signal,
  };
  await world.files.makeDirectory(layout.cache);
  await world.files.makeDirectory(layout.work);
  const bases = input.bases.map(readLocked);
  const recipe = parseRecipe(input.recipe.text, input.recipe.fileName);
  const given = input.relock === true ? undefined : input.lock;
  const lock =
    given === undefined
      ? await lockRecipe(
          world,
          recipe,
          bases.map((base) => base.lock),
          places,
        )
      : readLock(given.text, given.fileName);
  const base = bases.at(-1);
  const request = { recipe, lock, ...places, ...(base === undefined ? {} : { base }) };
  const component = await buildInto(world, store, request);
  return { component, lock: writeLock(lock) };
}

function readLocked({ recipe, lock }: Input<"component.build">["bases"][number]): LockedRecipe {
  return {
    recipe: parseRecipe(recipe.text, recipe.fileName),
    lock: readLock(lock.text, lock.fileName),
  };
}

async function addImage(
  { world, store }: Parts,
  source: Extract<Input<"component.add">["source"], { from: "image" }>,
): Promise<Component> {
  if (!isAbsolute(source.path)) {
    throw new TesseraError("misuse", "agent.path-relative", `${source.path} is not absolute`, {
      subject: source.path,
      remedy: "give the absolute path of the image",
    });
  }
  const kind = (await world.files.status(source.path))?.kind;
  if (kind !== "file" && kind !== "link") throw pathMissing("image", source.path);
  const image = await fileSource(world, source.path);
  try {
    await readErofs(image);
    return await store.add({
      description: source.description,
      fragments: source.fragments ?? [],
      image,
    });
  } finally {
    await image.close();
  }
}

/**
 * Copies every component of an OCI image layout that is not held yet; of a layout that is damaged,
 * none.
 */
async function addLayout({ world, store }: Parts, path: string): Promise<Component[]> {
  await requireLayout(world.files, path);
  const other = await openRepository(world, path);
  await requireSound(other, path);
  const added: Component[] = [];
  for (const component of await other.list()) {
    const { description, id } = component;
    const fragments = await other.fragments(id);
    const image = await other.openBlob(id);
    try {
      added.push(await store.add({ description, fragments, image }));
    } finally {
      await image.close();
    }
  }
  return added;
}

/** Asked first, since opening what is not there would make it. */
async function requireLayout(files: FileSystem, path: string): Promise<void> {
  const kind = isAbsolute(path) ? (await files.status(path))?.kind : undefined;
  if (kind === "directory" || kind === "link") {
    const parts = ["oci-layout", "index.json"].map((name) => files.status(join(path, name)));
    if ((await Promise.all(parts)).every((status) => status?.kind === "file")) return;
  }
  throw pathMissing("OCI layout", path);
}

function pathMissing(what: "image" | "OCI layout", path: string): TesseraError {
  return new TesseraError("misuse", "agent.path-missing", `no ${what} at ${path}`, {
    subject: path,
    remedy:
      what === "image"
        ? "give the absolute path of an EROFS image, on the agent's host"
        : "give the absolute path of a directory that holds oci-layout and index.json",
  });
}

async function requireSound(other: ComponentStore, path: string): Promise<void> {
  const { findings } = await other.verify();
  const [first] = findings;
  if (first === undefined) return;
  const what = `${first.digest} of ${first.component ?? "no component"} (${first.problem})`;
  const message = `the OCI layout at ${path} is damaged: ${what}; ${findings.length} in all`;
  throw new TesseraError("corrupt", "agent.layout-corrupt", message, {
    subject: path,
    remedy: "copy the layout again from where it came",
  });
}
