/** Builds the demo's components at `messina`, unless they are there. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { hasCode } from "#core";
import { DEMO, type DemoCloud } from "./clouds.ts";
import { say, tessera } from "./screen.ts";

const RECIPES = resolve(import.meta.dirname, "../../examples/components");
const OS = "debian-12";
const NAMES = ["kernel-cloud", OS, "nginx", "redis"] as const;

interface FileText {
  readonly fileName: string;
  readonly text: string;
}

function fileText(fileName: string): FileText {
  return { fileName, text: readFileSync(fileName, "utf8") };
}

/** A lock that the demo had to renew because the archive moved on, else the example's own. */
function lockOf(name: string): FileText {
  const renewed = join(DEMO, "locks", `${name}.lock.json`);
  return fileText(existsSync(renewed) ? renewed : join(RECIPES, `${name}.lock.json`));
}

async function build(cloud: DemoCloud, name: string, relock: boolean): Promise<void> {
  const recipe = fileText(join(RECIPES, `${name}.yaml`));
  const isProgram = name !== OS && name !== "kernel-cloud";
  const base = { recipe: fileText(join(RECIPES, `${OS}.yaml`)), lock: lockOf(OS) };
  const begin = performance.now();
  const { component, lock } = await cloud.api.call("component.build", {
    recipe,
    ...(relock ? { relock: true } : { lock: lockOf(name) }),
    bases: isProgram ? [base] : [],
  });
  if (relock) {
    mkdirSync(join(DEMO, "locks"), { recursive: true });
    writeFileSync(join(DEMO, "locks", `${name}.lock.json`), lock);
  }
  const seconds = ((performance.now() - begin) / 1000).toFixed(1);
  say(`built ${name} ${component.description.version} from Debian packages in ${seconds} s`);
}

async function held(cloud: DemoCloud): Promise<string[]> {
  const { components } = await cloud.api.call("component.list", {});
  return components.map(({ description }) => description.name);
}

export async function buildComponents(cloud: DemoCloud, reused: boolean): Promise<void> {
  const there = reused ? await held(cloud) : [];
  const missing = NAMES.filter((name) => !there.includes(name));
  if (missing.length === 0) say("the components that were built before are reused");
  let relock = false;
  for (const name of missing) {
    try {
      await build(cloud, name, relock);
    } catch (error) {
      if (
        relock ||
        !(hasCode(error, "build.package-gone") || hasCode(error, "build.base-mismatch"))
      ) {
        throw error;
      }
      say(
        `the Debian archive has moved on since the locks were made: resolving anew (${error.message})`,
      );
      relock = true;
      if (name !== OS && name !== "kernel-cloud") await build(cloud, OS, true);
      await build(cloud, name, true);
    }
  }
  await tessera(cloud.directory, ["component", "ls"]);
}
