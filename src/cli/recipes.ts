/**
 * Reads a recipe with what it stands on from the user's files: `base: NAME` in `DIR/x.yaml` means
 * `DIR/NAME.yaml`; the lock of `DIR/x.yaml` is `DIR/x.lock.json`. The agent judges their content;
 * here only `base` is looked at.
 */
import { basename, dirname, join } from "node:path";
import type { FileText, Input, LockedRecipe } from "#api";
import { TesseraError } from "#core";
import { parse } from "yaml";
import { readIfThere, readText } from "./texts.ts";

const BASES_MAX = 8;

export function lockPath(recipePath: string): string {
  return `${recipePath.replace(/\.ya?ml$/, "")}.lock.json`;
}

/** @throws `cli.file-not-found`, `cli.base-missing`, `cli.base-unlocked`, `cli.base-cycle` (misuse) */
export async function readRecipe(path: string): Promise<Input<"component.build">> {
  const recipe = await readFileText(path);
  const lock = await readLock(path);
  const bases: LockedRecipe[] = [];
  const seen = new Set([path]);
  let base = baseOf(recipe.text);
  while (base !== undefined) {
    const found = await readBase(join(dirname(path), base), base);
    if (seen.has(found.path) || seen.size > BASES_MAX) throw cycle(found.path);
    seen.add(found.path);
    bases.unshift(found.locked);
    base = baseOf(found.locked.recipe.text);
  }
  return { recipe, bases, ...(lock === undefined ? {} : { lock }) };
}

async function readBase(
  stem: string,
  name: string,
): Promise<{ path: string; locked: LockedRecipe }> {
  for (const path of [`${stem}.yaml`, `${stem}.yml`]) {
    const text = await readIfThere(path);
    if (text === undefined) continue;
    const lock = await readLock(path);
    if (lock === undefined) throw unlocked(path, name);
    return { path, locked: { recipe: { fileName: basename(path), text }, lock } };
  }
  throw new TesseraError("misuse", "cli.base-missing", `the base "${name}" has no recipe`, {
    subject: `${stem}.yaml`,
    remedy: "put the recipe of the base beside the one that names it",
  });
}

async function readFileText(path: string): Promise<FileText> {
  return { fileName: basename(path), text: await readText(path) };
}

async function readLock(recipePath: string): Promise<FileText | undefined> {
  const path = lockPath(recipePath);
  const text = await readIfThere(path);
  return text === undefined ? undefined : { fileName: basename(path), text };
}

/** A recipe that cannot be read has no base: the agent tells what is wrong with it, and where. */
function baseOf(text: string): string | undefined {
  try {
    const recipe: unknown = parse(text, { maxAliasCount: 0, logLevel: "silent" });
    if (typeof recipe !== "object" || recipe === null || !("base" in recipe)) return undefined;
    const { base } = recipe;
    return typeof base === "string" && /^[a-z0-9][a-z0-9.+-]*$/.test(base) ? base : undefined;
  } catch {
    return undefined;
  }
}

function unlocked(path: string, name: string): TesseraError {
  return new TesseraError("misuse", "cli.base-unlocked", `the base "${name}" has no lock`, {
    subject: lockPath(path),
    remedy: `build it first: tessera component build ${path}`,
  });
}

function cycle(path: string): TesseraError {
  return new TesseraError("misuse", "cli.base-cycle", "the recipe stands on itself", {
    subject: path,
    remedy: "correct the recipes' base",
  });
}
