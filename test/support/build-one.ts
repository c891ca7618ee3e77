/**
 * Program: `build-one.ts TASK` builds a stack of recipes as the task file says, and prints what
 * came out as JSON: digests, paths and fragments of each component.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { buildComponent, type BuildRequest, type LockedRecipe } from "#build";
import { writeErofs } from "#image";
import { realWorld } from "#system";

interface Task {
  readonly stack: readonly LockedRecipe[];
  readonly cacheDirectory: string;
  readonly workDirectory: string;
  readonly mode: NonNullable<BuildRequest["mode"]>;
}

const { stack, ...places } = JSON.parse(readFileSync(process.argv[2] ?? "", "utf8")) as Task;
const [os] = stack;
const results = [];
for (const own of stack) {
  const base = own === os || os === undefined ? {} : { base: os };
  const built = await buildComponent(realWorld(), { ...own, ...base, ...places });
  const { digest } = await writeErofs(built.tree, { write: () => Promise.resolve() });
  const fragments = createHash("sha256").update(JSON.stringify(built.fragments)).digest("hex");
  results.push({
    image: digest,
    fragments: `sha256:${fragments}`,
    description: built.description,
    paths: built.tree.entries.map(({ path }) => path),
    fragmentTexts: Object.fromEntries(built.fragments.map(({ path, text }) => [path, text])),
  });
  await built.close();
}
console.log(JSON.stringify(results));
