/**
 * Program: `build-components.ts ROOT NAME...` builds the named example components into
 * `ROOT/repository` unless they are there, and prints their ids as JSON by name. Where the
 * archive no longer has a locked package, the recipes are resolved anew into `ROOT/locks`.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import {
  buildInto,
  lockRecipe,
  originDigest,
  parseRecipe,
  readLock,
  writeLock,
  type LockedRecipe,
  type Recipe,
} from "#build";
import { hasCode, type Digest } from "#core";
import { openRepository, type ComponentStore } from "#repository";
import { realWorld } from "#system";

const EXAMPLES = resolve(import.meta.dirname, "../../examples/components");
const [root = "", ...names] = process.argv.slice(2);
const world = realWorld();
const places = { cacheDirectory: join(root, "cache"), workDirectory: join(root, "work") };

function recipeOf(name: string): Recipe {
  const file = join(EXAMPLES, `${name}.yaml`);
  return parseRecipe(readFileSync(file, "utf8"), file);
}

function load(name: string): LockedRecipe {
  const own = join(root, "locks", `${name}.lock.json`);
  const file = existsSync(own) ? own : join(EXAMPLES, `${name}.lock.json`);
  return { recipe: recipeOf(name), lock: readLock(readFileSync(file, "utf8"), file) };
}

/** An OS before the programs that are resolved against it. */
async function relock(): Promise<void> {
  mkdirSync(join(root, "locks"), { recursive: true });
  const recipes = ["kernel-cloud", "debian-12", "nginx", "redis", "mariadb"].map(recipeOf);
  for (const recipe of recipes) {
    const base = recipe.base === undefined ? [] : [load(recipe.base).lock];
    const lock = await lockRecipe(world, recipe, base, places);
    writeFileSync(join(root, "locks", `${recipe.name}.lock.json`), writeLock(lock));
  }
}

async function buildOne(store: ComponentStore, name: string): Promise<Digest> {
  const own = load(name);
  const base = own.recipe.base === undefined ? undefined : load(own.recipe.base);
  const origin = originDigest(own, base);
  const held = (await store.list()).find(({ description }) => description.recipe === origin);
  if (held !== undefined) return held.id;
  const request = { ...own, ...places, ...(base === undefined ? {} : { base }) };
  return (await buildInto(world, store, request)).id;
}

/** Two side by side; an OS before its programs, which start from its tree. */
async function buildAll(): Promise<Record<string, Digest>> {
  const store = await openRepository(world, join(root, "repository"));
  const ids: Record<string, Digest> = {};
  const { bases = [], programs = [] } = Object.groupBy(names, (name) =>
    recipeOf(name).base === undefined ? "bases" : "programs",
  );
  for (const group of [bases, programs]) {
    const worker = async (): Promise<void> => {
      for (let name = group.shift(); name !== undefined; name = group.shift()) {
        ids[name] = await buildOne(store, name);
      }
    };
    const ends = await Promise.allSettled([worker(), worker()]);
    const failure = ends.find(({ status }) => status === "rejected");
    if (failure?.status === "rejected") throw failure.reason;
  }
  return ids;
}

async function main(): Promise<void> {
  let ids: Record<string, Digest>;
  try {
    ids = await buildAll();
  } catch (error) {
    if (!hasCode(error, "build.package-gone")) throw error;
    console.error(`${error.message}: the examples are resolved anew`);
    await relock();
    ids = await buildAll();
  }
  console.log(JSON.stringify(ids));
}

await main();
