/** What is put into a user data block: which paths it may have, and the directories that it needs. */
import { TesseraError } from "#core";
import type { InstanceDirectory, InstanceFile, InstanceLink, InstanceParts } from "./contract.ts";

const FILES_MAX = 1000;
const PATH_BYTES_MAX = 1024;
const BYTES_MAX = 64 * 2 ** 20;

/** Every character that a name in a command of debugfs can have without quotes. */
const NAME = /^[A-Za-z0-9._@+,:=~\\%-]{1,255}$/;

/**
 * A directory of the upper layer hides mode and owner of the one below it, so these are made as
 * Debian has them; all others are 0755.
 */
const DIRECTORY_MODES: ReadonlyMap<string, number> = new Map([
  ["/root", 0o700],
  ["/tmp", 0o1777],
  ["/var/tmp", 0o1777],
]);

/** Mounted over by the guest, so that a file there would never be seen. */
const HIDDEN = ["/dev", "/proc", "/run", "/sys"];

/** Checked, each path once, sorted by path; directories with all their parents, these before. */
export interface CheckedParts {
  readonly files: readonly InstanceFile[];
  readonly links: readonly InstanceLink[];
  readonly directories: readonly InstanceDirectory[];
}

/**
 * The last file, link and directory of each path.
 *
 * @throws `compose.instance-path-invalid` (misuse)
 */
export function checkInstanceParts(parts: InstanceParts): CheckedParts {
  const files = lastOfEach(parts.files);
  const links = lastOfEach(parts.links ?? []).filter(
    ({ path }) => !files.some((file) => file.path === path),
  );
  const given = lastOfEach(parts.directories ?? []);
  for (const file of files) checkFile(file);
  for (const link of links) checkLink(link);
  for (const directory of given) checkPath(directory.path);
  const directories = withParents([...files, ...links, ...given], given);
  const taken = new Set(directories.map(({ path }) => path));
  const both = [...files, ...links].find(({ path }) => taken.has(path));
  if (both !== undefined) throw invalid(both.path, "is a file and a directory");
  return { files, links, directories };
}

function lastOfEach<T extends { readonly path: string }>(all: readonly T[]): T[] {
  if (all.length > FILES_MAX) throw invalid("/", `is one of more than ${FILES_MAX} instance files`);
  const byPath = new Map(all.map((one) => [one.path, one]));
  return [...byPath.values()].toSorted((a, b) => (a.path < b.path ? -1 : 1));
}

function checkLink({ path, target }: InstanceLink): void {
  checkPath(path);
  const names = target.split("/").filter((name) => name !== "");
  if (target.length <= PATH_BYTES_MAX && names.every((name) => NAME.test(name))) return;
  throw invalid(path, "is a link to what is no plain path");
}

function checkFile({ path, mode = 0o644, uid = 0, gid = 0, content }: InstanceFile): void {
  checkPath(path);
  if (!Number.isInteger(mode) || mode < 0 || mode > 0o7777) {
    throw invalid(path, "has a mode outside 0 to 07777");
  }
  const owned = [uid, gid].every((id) => Number.isInteger(id) && id >= 0 && id < 2 ** 32);
  if (!owned) throw invalid(path, "has an owner that is no number of 32 bits");
  if (content.byteLength > BYTES_MAX) throw invalid(path, `is larger than ${BYTES_MAX} bytes`);
}

function checkPath(path: string): void {
  const names = path.split("/").slice(1);
  const plain = names.every((name) => NAME.test(name) && name !== "." && name !== "..");
  if (!path.startsWith("/") || !plain) throw invalid(path, "is not a plain absolute path");
  if (path.length > PATH_BYTES_MAX) throw invalid(path, "is too long");
  if (HIDDEN.some((hidden) => path === hidden || path.startsWith(`${hidden}/`))) {
    throw invalid(path, "is where the guest mounts a file system of its own");
  }
}

function invalid(path: string, problem: string): TesseraError {
  const message = `instance file ${JSON.stringify(path)} ${problem}`;
  return new TesseraError("misuse", "compose.instance-path-invalid", message, {
    subject: path,
    remedy: "use absolute paths of letters, digits and . _ @ + , : = ~ % - without . or ..",
  });
}

/** All parents and what is given, each before what is in it. */
function withParents(
  entries: readonly { readonly path: string }[],
  given: readonly InstanceDirectory[],
): InstanceDirectory[] {
  const all = new Map<string, InstanceDirectory>();
  for (const { path } of entries) {
    const names = path.split("/").slice(1, -1);
    for (const depth of names.keys()) {
      const parent = `/${names.slice(0, depth + 1).join("/")}`;
      all.set(parent, { path: parent, mode: modeOf(parent), uid: 0, gid: 0 });
    }
  }
  for (const directory of given) all.set(directory.path, directory);
  return [...all.values()].toSorted((a, b) => (a.path < b.path ? -1 : 1));
}

function modeOf(path: string): number {
  return DIRECTORY_MODES.get(path) ?? (path.endsWith("/.ssh") ? 0o700 : 0o755);
}
