/**
 * Program: `pairs.ts [--relock] NAME...` builds the named components of `bench/transfer/components`
 * into `build/bench/images` unless they are there: the image, and its description and fragments as
 * JSON. `--relock` resolves their packages against the archives as they are now and writes the locks
 * that are committed; where an archive no longer has a locked package, the recipe is resolved anew
 * for this work tree alone, and that is said.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import {
  buildComponent,
  lockRecipe,
  originDigest,
  parseRecipe,
  readLock,
  writeLock,
  type LockedRecipe,
  type Recipe,
} from "#build";
import { hasCode } from "#core";
import { writeErofsFile } from "#image";
import { realWorld } from "#system";

const RECIPES = join(import.meta.dirname, "components");
const ROOT = resolve(import.meta.dirname, "../../build/bench");
const places = { cacheDirectory: join(ROOT, "cache"), workDirectory: join(ROOT, "work") };
const world = realWorld();

function recipeOf(name: string): Recipe {
  const file = join(RECIPES, `${name}.yaml`);
  return parseRecipe(readFileSync(file, "utf8"), file);
}

function load(name: string): LockedRecipe {
  const own = join(ROOT, "locks", `${name}.lock.json`);
  const file = existsSync(own) ? own : join(RECIPES, `${name}.lock.json`);
  return { recipe: recipeOf(name), lock: readLock(readFileSync(file, "utf8"), file) };
}

async function relock(name: string, directory: string): Promise<void> {
  mkdirSync(directory, { recursive: true });
  const lock = await lockRecipe(world, recipeOf(name), [], places);
  writeFileSync(join(directory, `${name}.lock.json`), writeLock(lock));
}

async function build(name: string): Promise<void> {
  const own = load(name);
  const directory = join(ROOT, "images", name);
  const file = join(directory, "component.json");
  const origin = originDigest(own);
  if (existsSync(file)) {
    const { description } = JSON.parse(readFileSync(file, "utf8")) as Built;
    if (description.recipe === origin) return;
  }
  console.log(`building ${name} from ${own.lock.packages.length} packages`);
  mkdirSync(directory, { recursive: true });
  const built = await buildComponent(world, { ...own, ...places });
  try {
    await writeErofsFile(world, built.tree, join(directory, "image"));
    const { description, fragments } = built;
    writeFileSync(`${file}.new`, JSON.stringify({ description, fragments }));
    renameSync(`${file}.new`, file);
  } finally {
    await built.close();
  }
}

interface Built {
  readonly description: { readonly recipe?: string };
}

async function buildOrRelock(name: string): Promise<void> {
  try {
    await build(name);
  } catch (error) {
    if (!hasCode(error, "build.package-gone")) throw error;
    console.log(`${error.message}: ${name} is resolved anew, so figures will differ a little`);
    await relock(name, join(ROOT, "locks"));
    await build(name);
  }
}

const [first, ...rest] = process.argv.slice(2);
if (first === "--relock") for (const name of rest) await relock(name, RECIPES);
else for (const name of first === undefined ? [] : [first, ...rest]) await buildOrRelock(name);
