/** Instance files: which paths they may have, and the directories that they need. */
import { TesseraError } from "#core";
import type { InstanceFile } from "./contract.ts";

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

/**
 * The last file of each path, sorted by path.
 *
 * @throws `compose.instance-path-invalid` (misuse)
 */
export function checkInstanceFiles(files: readonly InstanceFile[]): InstanceFile[] {
  if (files.length > FILES_MAX) {
    throw invalid("/", `there are more than ${FILES_MAX} instance files`);
  }
  const byPath = new Map(files.map((file) => [file.path, file]));
  for (const file of byPath.values()) checkFile(file);
  const sorted = [...byPath.values()].toSorted((a, b) => (a.path < b.path ? -1 : 1));
  const parents = new Set(directoriesOf(sorted).map(({ path }) => path));
  const both = sorted.find(({ path }) => parents.has(path));
  if (both !== undefined) throw invalid(both.path, "is a file and a directory");
  return sorted;
}

function checkFile({ path, mode = 0o644, content }: InstanceFile): void {
  const names = path.split("/").slice(1);
  const plain = names.every((name) => NAME.test(name) && name !== "." && name !== "..");
  if (!path.startsWith("/") || !plain) throw invalid(path, "is not a plain absolute path");
  if (path.length > PATH_BYTES_MAX) throw invalid(path, "is too long");
  if (HIDDEN.some((hidden) => path === hidden || path.startsWith(`${hidden}/`))) {
    throw invalid(path, "is where the guest mounts a file system of its own");
  }
  if (!Number.isInteger(mode) || mode < 0 || mode > 0o7777) {
    throw invalid(path, "has a mode outside 0 to 07777");
  }
  if (content.byteLength > BYTES_MAX) throw invalid(path, `is larger than ${BYTES_MAX} bytes`);
}

function invalid(path: string, problem: string): TesseraError {
  const message = `instance file ${JSON.stringify(path)} ${problem}`;
  return new TesseraError("misuse", "compose.instance-path-invalid", message, {
    subject: path,
    remedy: "use absolute paths of letters, digits and . _ @ + , : = ~ % - without . or ..",
  });
}

/** All parents of the files, each before what is in it. */
export function directoriesOf(
  files: readonly InstanceFile[],
): { readonly path: string; readonly mode: number }[] {
  const paths = new Set<string>();
  for (const { path } of files) {
    const names = path.split("/").slice(1, -1);
    for (const depth of names.keys()) paths.add(`/${names.slice(0, depth + 1).join("/")}`);
  }
  return [...paths].toSorted().map((path) => ({ path, mode: modeOf(path) }));
}

function modeOf(path: string): number {
  return DIRECTORY_MODES.get(path) ?? (path.endsWith("/.ssh") ? 0o700 : 0o755);
}
