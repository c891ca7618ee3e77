import { join } from "node:path";
import {
  TesseraError,
  type Component,
  type ComponentDescription,
  type ComponentKind,
  type Fragment,
  type World,
} from "#core";
import { fileSource, readAll, readTar, treeDifference, writeErofsFile, type Tree } from "#image";
import type { ComponentStore } from "#repository";
import { checkAccounts, checkInstalled, settleFragments, userConstraints } from "./accounts.ts";
import { downloadPackages } from "./archive.ts";
import { binariesOf, binaryProvides, binaryRequires } from "./binary.ts";
import { canonicalRoot, hidesBase, withBaseTimes, withOwnTimes } from "./canonical.ts";
import type { BuildRequest, BuiltComponent, LockedRecipe } from "./contract.ts";
import { programFragments, takeFragments } from "./fragments.ts";
import { cachedTree, installPackages, readControls } from "./install.ts";
import { buildKernelTree } from "./kernel.ts";
import { lockDigest, originDigest } from "./lock.ts";
import { packageProvides, packageRequires, sortConstraints } from "./relations.ts";
import { sourceLines } from "./resolve.ts";
import { field, type Stanza } from "./stanzas.ts";

/**
 * Makes a component from a recipe and its lock: the same two (and, for a program, the same base)
 * give the same tree and fragments on any machine. Packages that the cache lacks are downloaded.
 * The tree reads from files in the work directory until the result is closed.
 *
 * @throws `build.base-missing`, `build.base-mismatch`, `build.user-not-fixed` (misuse),
 *   `build.package-gone`, `build.download-failed`, `build.install-failed` (environment)
 */
export async function buildComponent(world: World, request: BuildRequest): Promise<BuiltComponent> {
  checkRequest(request);
  const directory = join(request.workDirectory, `build-${world.random.uuid()}`);
  await world.files.makeDirectory(directory);
  const closers: (() => Promise<void>)[] = [() => world.files.removeTree(directory)];
  const close = async (): Promise<void> => {
    for (const closer of closers.splice(0).reverse()) await closer();
  };
  const scope: Scope = { world, request, directory, closers };
  try {
    await downloadPackages(world, request.lock, request);
    if (request.base !== undefined) await downloadPackages(world, request.base.lock, request);
    const made = await MAKERS[request.recipe.kind](scope);
    return { ...made, close };
  } catch (error) {
    await close();
    throw error;
  }
}

type Made = Omit<BuiltComponent, "close">;

interface Scope {
  readonly world: World;
  readonly request: BuildRequest;
  /** Removed when the component is closed. */
  readonly directory: string;
  readonly closers: (() => Promise<void>)[];
}

const MAKERS: Readonly<Record<ComponentKind, (scope: Scope) => Promise<Made>>> = {
  kernel: makeKernel,
  os: makeOs,
  program: makeProgram,
};

function checkRequest({ recipe, lock, base }: BuildRequest): void {
  const fail = (code: string, text: string, remedy: string): never => {
    throw new TesseraError("misuse", code, text, { subject: recipe.name, remedy });
  };
  if (lock.name !== recipe.name || lock.architecture !== recipe.architecture) {
    fail("build.lock-mismatch", `the lock is that of ${lock.name}`, "give the recipe's own lock");
  }
  if (recipe.kind !== "program") return;
  if (base === undefined || base.recipe.name !== recipe.base) {
    const text = `${recipe.name} is built over ${recipe.base ?? "an OS"}`;
    fail("build.base-missing", text, "give the recipe and lock of that OS");
  } else if (lock.base !== lockDigest(base.lock)) {
    const text = `the lock of ${recipe.name} was made over another lock of ${base.recipe.name}`;
    fail("build.base-mismatch", text, "make it anew: tessera component build --relock");
  }
}

async function openTree(scope: Scope, path: string): Promise<Tree> {
  const source = await fileSource(scope.world, path);
  scope.closers.push(() => source.close());
  return readTar(source);
}

interface Root {
  readonly tree: Tree;
  /** Whole files. */
  readonly fragments: readonly Fragment[];
}

/** A canonical root tree and its whole fragments, from an installed one. */
async function canonicalParts(
  installed: Tree,
  stack: readonly LockedRecipe[],
  controls: readonly Stanza[],
  epoch_s: number,
): Promise<Root> {
  const recipes = stack.map(({ recipe }) => recipe);
  const [os] = recipes;
  const sources = os === undefined ? [] : sourceLines(os);
  const { tree, fragments } = await takeFragments(
    canonicalRoot(installed, recipes, sources, epoch_s),
  );
  const settled = settleFragments(fragments, controls, recipes, epoch_s);
  checkAccounts(settled, recipes);
  const names = stack.flatMap(({ lock }) => lock.packages.map(({ name }) => name));
  checkInstalled(settled, names, recipes.at(-1)?.name ?? "");
  return { tree, fragments: settled };
}

async function makeOs(scope: Scope): Promise<Made> {
  const { world, request } = scope;
  const { recipe, lock } = request;
  const own: LockedRecipe = { recipe, lock };
  const installed = await openTree(scope, await cachedTree(world, own, request));
  const controls = await readControls(world, lock, request.cacheDirectory);
  const { tree, fragments } = await canonicalParts(installed, [own], controls, lock.epoch_s);
  const binaries = await binariesOf(tree, lock.architecture);
  const description: ComponentDescription = {
    ...commonDescription(request),
    version: `${await debianVersion(tree)}-${dateOf(lock.epoch_s)}`,
    provides: sortConstraints([
      { type: "os", name: recipe.name },
      ...userConstraints(fragments),
      ...packageProvides(controls),
      ...binaryProvides(binaries),
    ]),
    requires: [],
  };
  return { description, fragments, tree };
}

async function makeProgram(scope: Scope): Promise<Made> {
  const { world, request } = scope;
  const { recipe, lock, base, cacheDirectory } = request;
  if (base === undefined) throw new TesseraError("bug", "build.base-missing", "no base");
  const stack = [base, { recipe, lock }];
  const osTree = await openTree(scope, await cachedTree(world, base, request));
  request.progress?.({ step: "install", detail: recipe.name });
  const stacked = join(scope.directory, "stacked.tar");
  await installPackages(world, stack, request, stacked);
  request.progress?.({ step: "difference", detail: recipe.name });
  const osControls = await readControls(world, base.lock, cacheDirectory);
  const controls = await readControls(world, lock, cacheDirectory);
  const epoch_s = lock.epoch_s;
  const os = await canonicalParts(osTree, [base], osControls, epoch_s);
  const all = [...osControls, ...controls];
  const full = await canonicalParts(await openTree(scope, stacked), stack, all, epoch_s);
  const added = await treeDifference(os.tree, withBaseTimes(full.tree, os.tree));
  const tree = withOwnTimes(added, full.tree, os.tree);
  checkAdded(world, recipe.name, tree, os.tree);
  const fragments = programFragments(os.fragments, full.fragments);
  const binaries = await binariesOf(tree, lock.architecture);
  const description: ComponentDescription = {
    ...commonDescription(request),
    version: programVersion(request),
    provides: sortConstraints([
      ...userConstraints(fragments),
      ...packageProvides(controls),
      ...binaryProvides(binaries),
    ]),
    requires: [...packageRequires(controls), ...binaryRequires(binaries)],
  };
  return { description, fragments, tree };
}

/**
 * A program must not rely on the linker's cache, which components do not carry; files of the OS
 * that it changes are told, as two programs that change one cannot both have it.
 */
function checkAdded(world: World, name: string, tree: Tree, os: Tree): void {
  const configuration = tree.entries.find(({ path }) => path.startsWith("etc/ld.so.conf.d/"));
  if (configuration !== undefined) {
    const text = `${name} adds the library directory of /${configuration.path}`;
    throw new TesseraError("misuse", "build.library-directory", text, {
      subject: configuration.path,
      remedy: "leave the package out: components carry no /etc/ld.so.cache that would name it",
    });
  }
  for (const { path } of tree.entries.filter((entry) => hidesBase(entry, os))) {
    world.log.log("warn", "a program changes a file of its OS", { program: name, path });
  }
}

async function makeKernel(scope: Scope): Promise<Made> {
  const { world, request, directory } = scope;
  const { recipe, lock, cacheDirectory } = request;
  request.progress?.({ step: "install", detail: recipe.name });
  const { tree, release } = await buildKernelTree(world, request, directory, (path) =>
    openTree(scope, path),
  );
  const tools = new Set(recipe.tools);
  const all = await readControls(world, lock, cacheDirectory);
  const controls = all.filter((control) => !tools.has(field(control, "Package")));
  const image = controls.find((control) => field(control, "Package").endsWith(release));
  const description: ComponentDescription = {
    ...commonDescription(request),
    packages: commonDescription(request).packages.filter((entry) => !tools.has(entry.name)),
    version: image === undefined ? release : field(image, "Version"),
    provides: sortConstraints(packageProvides(controls)),
    requires: [],
    kernelRelease: release,
  };
  return { description, fragments: [], tree };
}

function commonDescription({ recipe, lock, base }: BuildRequest) {
  return {
    kind: recipe.kind,
    name: recipe.name,
    architecture: recipe.architecture,
    packages: lock.packages.map(({ name, version, architecture }) => {
      return { name, version, architecture };
    }),
    instancePaths: recipe.instancePaths,
    recipe: originDigest({ recipe, lock }, base),
  };
}

/** Debian's point release, for instance `12.12`. */
async function debianVersion(tree: Tree): Promise<string> {
  const entry = tree.get("etc/debian_version");
  if (entry?.type !== "file") return "0";
  const text = Buffer.from(await readAll(entry.content, 4096)).toString("utf8");
  return /^[A-Za-z0-9.+~/-]{1,40}$/.exec(text.trim())?.[0] ?? "0";
}

function dateOf(epoch_s: number): string {
  return new Date(epoch_s * 1000).toISOString().slice(0, 10).replaceAll("-", "");
}

/** The version of the first package that the recipe names. */
function programVersion({ recipe, lock }: BuildRequest): string {
  const [name] = recipe.packages;
  return lock.packages.find((entry) => entry.name === name)?.version ?? "0";
}

/**
 * Builds a component, writes its EROFS image and adds it to a repository.
 *
 * @throws those of {@link buildComponent} and of the repository's `add`
 */
export async function buildInto(
  world: World,
  store: ComponentStore,
  request: BuildRequest,
): Promise<Component> {
  const built = await buildComponent(world, request);
  const path = join(request.workDirectory, `image-${world.random.uuid()}.erofs`);
  try {
    request.progress?.({ step: "image", detail: request.recipe.name });
    await writeErofsFile(world, built.tree, path);
    const image = await fileSource(world, path);
    try {
      const { description, fragments } = built;
      return await store.add({ description, fragments, image });
    } finally {
      await image.close();
    }
  } finally {
    await world.files.remove(path);
    await built.close();
  }
}
