/** Package databases that are not read here, so that they can be named. */
import type { Tree } from "#image";
import { entryAt } from "./paths.ts";

const RPM_FILES = ["Packages", "Packages.db", "rpmdb.sqlite"];

const DATABASES: readonly (readonly [name: string, paths: readonly string[]])[] = [
  ["rpm", RPM_FILES.flatMap((name) => [`/var/lib/rpm/${name}`, `/usr/lib/sysimage/rpm/${name}`])],
  ["pacman", ["/var/lib/pacman/local/ALPM_DB_VERSION"]],
  ["apk", ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"]],
];

/** The package database that a machine has in place of dpkg's; undefined where none is known. */
export function unreadDatabase(tree: Tree): string | undefined {
  const found = DATABASES.find(([, paths]) =>
    paths.some((path) => entryAt(tree, path)?.type === "file"),
  );
  return found?.[0];
}
