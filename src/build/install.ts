import { join } from "node:path";
import { hexOf, TesseraError, type Digest, type World } from "#core";
import { packagePath } from "./archive.ts";
import { lastLines, runClean } from "./commands.ts";
import type { BuildRequest, FixedUser, Lock, LockedRecipe } from "./contract.ts";
import { readControl } from "./deb.ts";
import { lockDigest, originDigest } from "./lock.ts";
import { formatStanzas, type Stanza } from "./stanzas.ts";

const SECOND_PER_DAY = 86_400;

/** Control records by package, of every package of a lock. */
export async function readControls(
  world: World,
  lock: Lock,
  cacheDirectory: string,
): Promise<Stanza[]> {
  const controls: Stanza[] = [];
  for (const { sha256 } of lock.packages) {
    controls.push(await readControl(world, packagePath(cacheDirectory, sha256)));
  }
  return controls;
}

/**
 * Makes an archive of exactly the locked packages: an index beside the cached files, which it
 * names. Returns the line for `sources.list(5)`; what it points to was verified by its sha256.
 */
async function flatArchive(
  world: World,
  locks: readonly Lock[],
  cacheDirectory: string,
): Promise<string> {
  const stanzas: string[] = [];
  for (const lock of locks) {
    const controls = await readControls(world, lock, cacheDirectory);
    for (const [index, { sizeBytes, sha256 }] of lock.packages.entries()) {
      const hex = hexOf(sha256);
      const place = `Filename: packages/${hex}.deb\nSize: ${sizeBytes}\nSHA256: ${hex}`;
      stanzas.push(`${controls[index]?.text ?? ""}\n${place}`);
    }
  }
  const name = locks.map((lock) => hexOf(lockDigest(lock)).slice(0, 16)).join("-");
  const directory = join(cacheDirectory, "index", name);
  await world.files.makeDirectory(directory);
  await world.files.writeFileAtomic(join(directory, "Packages"), formatStanzas(stanzas));
  return `deb [trusted=yes] copy:${encodeURI(cacheDirectory)} index/${name}/`;
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** A shell command that gives every fixed user and group its id before a package could. */
export function usersHook(recipes: readonly LockedRecipe["recipe"][], epoch_s: number): string {
  const users = recipes.flatMap((recipe) => recipe.users);
  const groups = [...users, ...recipes.flatMap((recipe) => recipe.groups)];
  const day = Math.floor(epoch_s / SECOND_PER_DAY);
  const files: readonly (readonly [string, readonly string[]])[] = [
    ["passwd", users.map(passwdLine)],
    ["group", groups.map(({ name, id }) => `${name}:x:${id}:`)],
    ["shadow", users.map(({ name }) => `${name}:!:${day}::::::`)],
    ["gshadow", groups.map(({ name }) => `${name}:!::`)],
  ];
  return files
    .filter(([, lines]) => lines.length > 0)
    .map(([name, lines]) => `printf '%s\\n' ${lines.map(quoted).join(" ")} >> "$1/etc/${name}"`)
    .join(" && ");
}

function passwdLine({ name, id, comment, home, shell }: FixedUser): string {
  return `${name}:x:${id}:${id}:${comment}:${home}:${shell}`;
}

/**
 * Installs exactly the locked packages, of the OS and, for a program, of the program over it, in
 * a new tree, and writes it as a tar. Nothing outside `workDirectory` changes. As root the tree is
 * made in a chroot; otherwise in a user namespace (mmdebstrap(1), mode `unshare`).
 *
 * @throws `build.install-failed` (environment)
 */
export async function installPackages(
  world: World,
  stack: readonly LockedRecipe[],
  request: BuildRequest,
  tarPath: string,
): Promise<void> {
  const locks = stack.map(({ lock }) => lock);
  const recipes = stack.map(({ recipe }) => recipe);
  const epoch_s = Math.max(...locks.map((lock) => lock.epoch_s));
  const archive = await flatArchive(world, locks, request.cacheDirectory);
  const names = locks.flatMap((lock) => lock.packages.map(({ name }) => name));
  const hook = usersHook(recipes, epoch_s);
  const [os] = recipes;
  const args = [
    `--mode=${request.mode ?? "auto"}`,
    `--architectures=${os?.architecture ?? ""}`,
    "--variant=apt",
    "--format=tar",
    `--include=${names.join(",")}`,
    "--dpkgopt=force-unsafe-io",
    ...(hook === "" ? [] : [`--essential-hook=${hook}`]),
    os?.sources[0]?.suites[0] ?? "",
    tarPath,
    archive,
  ];
  const result = await runClean(world, "mmdebstrap", args, {
    environment: { SOURCE_DATE_EPOCH: String(epoch_s), TMPDIR: request.workDirectory },
    ...(request.signal && { signal: request.signal }),
  });
  if (result.exitCode === 0) return;
  throw installError(request, result.exitCode, result.errorText);
}

function installError(request: BuildRequest, exitCode: number, errorText: string): TesseraError {
  const missing = exitCode === 127;
  const code = missing ? "system.program-missing" : "build.install-failed";
  const { name } = request.recipe;
  const text = missing
    ? "cannot run mmdebstrap"
    : `cannot install the packages of ${name}: ${lastLines(errorText)}`;
  return new TesseraError("environment", code, text, {
    subject: name,
    remedy: missing
      ? "install the package mmdebstrap, or build where it is"
      : "as a normal user, uidmap and /etc/subuid are needed and the work directory must be " +
        "open to other users; otherwise see the message",
  });
}

/** Where the installed tree of an OS is kept, so that its programs need not make it again. */
function treePath(cacheDirectory: string, origin: Digest): string {
  return join(cacheDirectory, "trees", `${hexOf(origin)}.tar`);
}

/**
 * The OS's installed tree as a tar, from the cache or made now; complete when it is there.
 *
 * @returns its path
 */
export async function cachedTree(
  world: World,
  os: LockedRecipe,
  request: BuildRequest,
): Promise<string> {
  const path = treePath(request.cacheDirectory, originDigest(os));
  if ((await world.files.status(path)) !== undefined) return path;
  request.progress?.({ step: "install", detail: os.recipe.name });
  await world.files.makeDirectory(join(request.cacheDirectory, "trees"));
  const beside = `${path}.${world.random.uuid()}.new`;
  try {
    await installPackages(world, [os], request, beside);
    await syncFile(world, beside);
    await world.files.rename(beside, path);
  } finally {
    await world.files.remove(beside);
  }
  return path;
}

async function syncFile(world: World, path: string): Promise<void> {
  const file = await world.files.open(path, "write");
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
