import { join } from "node:path";
import { isDigest, TesseraError, type World } from "#core";
import { downloadPackages, packagePath } from "./archive.ts";
import { lastLines, runClean } from "./commands.ts";
import type { BuildPlaces, Lock, LockedPackage, Recipe, Source } from "./contract.ts";
import { packageTime, readControl } from "./deb.ts";
import { lockDigest, sortPackages } from "./lock.ts";
import { aptSettings } from "./settings.ts";
import { formatStanzas } from "./stanzas.ts";

/** What `mmdebstrap` calls the minbase variant: a system whose apt and dpkg work. */
const MINBASE = ["?essential", "?priority(required)", "apt"];
const OUTPUT_BYTES_MAX = 4 * 2 ** 20;

/**
 * Resolves what a recipe asks for against its archives as they are now, with apt's own resolver in
 * a private root: the machine's apt state is neither read nor changed, and root is not needed.
 * `base` holds the locks that are installed already (for a program: its OS). All package files are
 * downloaded, since the lock's epoch is the time of the newest of them: the same packages give the
 * same lock.
 *
 * @throws `build.resolve-failed`, `build.base-outdated` (environment), and those of
 *   {@link downloadPackages}
 */
export async function lockRecipe(
  world: World,
  recipe: Recipe,
  base: readonly Lock[],
  places: BuildPlaces,
): Promise<Lock> {
  places.progress?.({ step: "resolve", detail: recipe.name });
  const [os] = base;
  if (recipe.kind === "program" && os === undefined) throw baseMissing(recipe);
  const directory = join(places.workDirectory, `resolve-${world.random.uuid()}`);
  try {
    const uris = await printUris(world, recipe, base, directory, places);
    const packages = uris.map((line) => parseUri(line, recipe.sources));
    checkBase(recipe, packages, base);
    const lock: Lock = {
      name: recipe.name,
      architecture: recipe.architecture,
      epoch_s: 0,
      ...(os === undefined ? {} : { base: lockDigest(os) }),
      sources: Object.fromEntries(recipe.sources.map(({ name, uri }) => [name, uri])),
      packages: sortPackages(wanted(recipe, packages)),
    };
    await downloadPackages(world, lock, places);
    return { ...lock, epoch_s: await newestTime(world, lock, places) };
  } finally {
    await world.files.removeTree(directory);
  }
}

async function newestTime(world: World, lock: Lock, places: BuildPlaces): Promise<number> {
  const times: number[] = [];
  for (const { sha256 } of lock.packages) {
    times.push(await packageTime(world, packagePath(places.cacheDirectory, sha256)));
  }
  return Math.max(...times);
}

/**
 * A kernel is taken apart, not installed, so of what its packages depend on it keeps only what
 * holds the kernel and the tools that the recipe names.
 */
function wanted(recipe: Recipe, packages: readonly LockedPackage[]): LockedPackage[] {
  if (recipe.kind !== "kernel") return [...packages];
  const names = new Set([...recipe.packages, ...recipe.tools]);
  return packages.filter(({ name }) => names.has(name) || name.startsWith("linux-image-"));
}

/** Lines of `sources.list(5)` for a recipe. */
export function sourceLines(recipe: Recipe): string[] {
  return recipe.sources.flatMap(({ uri, suites, components, keyring }) =>
    suites.map((suite) => `deb [signed-by=${keyring}] ${uri} ${suite} ${components.join(" ")}`),
  );
}

async function printUris(
  world: World,
  recipe: Recipe,
  base: readonly Lock[],
  directory: string,
  places: BuildPlaces,
): Promise<string[]> {
  await world.files.makeDirectory(directory);
  const settings = await aptSettings(world, directory, recipe.architecture);
  const root = join(directory, "apt");
  const status = await installedStatus(world, base, places);
  await world.files.writeFileAtomic(join(root, "var/lib/dpkg/status"), status);
  await world.files.writeFileAtomic(
    join(root, "etc/apt/sources.list"),
    `${sourceLines(recipe).join("\n")}\n`,
  );
  const names = [...(recipe.kind === "os" ? MINBASE : []), ...recipe.packages, ...recipe.tools];
  const force = ["-o", "Acquire::ForceHash=SHA256"];
  await aptGet(world, recipe, settings, ["update", "--error-on=any"]);
  const install = [...force, "--print-uris", "--yes", "install", "--", ...names];
  const output = await aptGet(world, recipe, settings, install);
  return output.split("\n").filter((line) => line.startsWith("'"));
}

/** A dpkg database in which the packages of `base` are installed. */
async function installedStatus(
  world: World,
  base: readonly Lock[],
  places: BuildPlaces,
): Promise<string> {
  const stanzas: string[] = [];
  for (const lock of base) {
    await downloadPackages(world, lock, places);
    for (const { sha256 } of lock.packages) {
      const { text } = await readControl(world, packagePath(places.cacheDirectory, sha256));
      stanzas.push(text.replace(/^(Package: .*)$/m, "$1\nStatus: install ok installed"));
    }
  }
  return formatStanzas(stanzas);
}

async function aptGet(
  world: World,
  recipe: Recipe,
  settings: string,
  args: readonly string[],
): Promise<string> {
  const { exitCode, output, errorText } = await runClean(world, "apt-get", args, {
    environment: { APT_CONFIG: settings },
    outputBytesMax: OUTPUT_BYTES_MAX,
  });
  if (exitCode === 0) return Buffer.from(output).toString("utf8");
  const text = `cannot resolve the packages of ${recipe.name}: ${lastLines(errorText)}`;
  throw new TesseraError("environment", "build.resolve-failed", text, {
    subject: recipe.name,
    remedy: "correct the recipe's packages and sources, or look whether the archive can be reached",
  });
}

const URI = /^'([^']+)' ([^\s_]+)_([^\s_]+)_([^\s_]+)\.deb (\d+) SHA256:([0-9a-f]{64})$/;

/** One line of `apt-get --print-uris`: `'URI' NAME_VERSION_ARCHITECTURE.deb SIZE SHA256:HEX`. */
export function parseUri(line: string, sources: readonly Source[]): LockedPackage {
  const [, uri = "", name = "", version = "", architecture = "", size, hex] = URI.exec(line) ?? [];
  const source = sources
    .filter((candidate) => uri.startsWith(`${candidate.uri.replace(/^file:\/\//, "file:")}/`))
    .toSorted((a, b) => b.uri.length - a.uri.length)[0];
  const sha256 = `sha256:${hex}`;
  if (source === undefined || !isDigest(sha256)) {
    throw new TesseraError("environment", "build.resolve-failed", `apt said: ${line}`, {
      subject: name,
      remedy: "report the line; the recipe's sources may be of a kind that is not supported",
    });
  }
  const rootLength = source.uri.replace(/^file:\/\//, "file:").length + 1;
  return {
    name: decodeURIComponent(name),
    version: decodeURIComponent(version),
    architecture,
    file: decodeURIComponent(uri.slice(rootLength)),
    source: source.name,
    sizeBytes: Number(size),
    sha256,
  };
}

function checkBase(
  recipe: Recipe,
  packages: readonly LockedPackage[],
  base: readonly Lock[],
): void {
  const installed = new Set(base.flatMap((lock) => lock.packages.map(({ name }) => name)));
  const newer = packages.find(({ name }) => installed.has(name));
  if (newer === undefined) return;
  const text = `${recipe.name} needs ${newer.name} ${newer.version}, newer than its base has`;
  throw new TesseraError("environment", "build.base-outdated", text, {
    subject: newer.name,
    remedy: "make the lock of the base anew first: tessera component build --relock",
  });
}

function baseMissing(recipe: Recipe): TesseraError {
  const text = `${recipe.name} is a program: the lock of ${recipe.base ?? "its OS"} is needed`;
  return new TesseraError("misuse", "build.base-missing", text, {
    subject: recipe.name,
    remedy: "give the recipe and lock of the OS that it is built over",
  });
}
