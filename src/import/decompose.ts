/** Which component has which file: pure. What no component has becomes the user data block. */
import type { ComponentKind, PackageReference } from "#core";
import type { Tree, TreeEntry } from "#image";
import type { InstalledPackage, PackageDatabase } from "./dpkg.ts";
import { groupPackages } from "./groups.ts";
import { isOfModules, type FoundKernel } from "./kernel.ts";
import { contentBytes, type FineTree } from "./tree.ts";

export interface Part {
  readonly kind: ComponentKind;
  readonly name: string;
  readonly version: string;
  readonly packages: readonly PackageReference[];
  readonly entries: readonly TreeEntry[];
}

export interface Distribution {
  /** `debian-12`, from os-release(5); `unknown` where that is missing. */
  readonly name: string;
  readonly version: string;
}

const PART_NAME = /[^a-z0-9.+_-]/g;
const PART_VERSION = /[^A-Za-z0-9.+~:_-]/g;

/** What a repository takes as a name and as a version. */
export const partName = (text: string): string =>
  text
    .toLowerCase()
    .replaceAll(PART_NAME, "-")
    .replace(/^[^a-z0-9]+/, "")
    .slice(0, 100) || "unknown";
const partVersion = (text: string): string =>
  text
    .replaceAll(PART_VERSION, "-")
    .replace(/^[^A-Za-z0-9]+/, "")
    .slice(0, 100) || "0";

function referenceOf({ name, version, architecture }: InstalledPackage): PackageReference {
  return { name, version, architecture };
}

/** Entries by path, without the files that have a link outside of the set: they stay together. */
function wholeGroups(tree: Tree, paths: ReadonlySet<string>): TreeEntry[] {
  const broken = new Set<string>();
  for (const entry of tree.entries) {
    if (entry.type !== "file" || entry.linkGroup === undefined) continue;
    if (!paths.has(entry.path)) broken.add(entry.linkGroup);
  }
  return tree.entries.filter((entry) => {
    if (!paths.has(entry.path)) return false;
    return entry.type !== "file" || entry.linkGroup === undefined || !broken.has(entry.linkGroup);
  });
}

interface Sorted {
  readonly byPackage: ReadonlyMap<InstalledPackage, ReadonlySet<string>>;
}

function sortByPackage(database: PackageDatabase, intact: ReadonlySet<string>): Sorted {
  const byPackage = new Map<InstalledPackage, Set<string>>();
  for (const [path, owner] of database.owned) {
    if (!intact.has(path)) continue;
    const paths = byPackage.get(owner.package) ?? new Set<string>();
    paths.add(path);
    byPackage.set(owner.package, paths);
  }
  return { byPackage };
}

function pathsOf(packages: readonly InstalledPackage[], { byPackage }: Sorted): Set<string> {
  return new Set(packages.flatMap((item) => [...(byPackage.get(item) ?? [])]));
}

/** The modules' index, which installing makes: its time is that of the kernel, as it is no package's. */
function indexEntries(tree: Tree, { release, image }: FoundKernel): TreeEntry[] {
  const pattern = /\/modules\.[a-z.]+$/;
  return tree.entries
    .filter(
      (entry) =>
        entry.type === "file" && isOfModules(entry.path, release) && pattern.test(entry.path),
    )
    .map((entry) => ({ ...entry, mtime_s: image.mtime_s }));
}

function kernelPart(
  fine: FineTree,
  kernel: FoundKernel,
  packages: readonly InstalledPackage[],
  paths: ReadonlySet<string>,
  extra: readonly TreeEntry[],
): Part {
  const { tree } = fine;
  const own = wholeGroups(tree, paths);
  const taken = new Set(own.map(({ path }) => path));
  const index = indexEntries(tree, kernel).filter(({ path }) => !taken.has(path));
  const [first] = packages;
  return {
    kind: "kernel",
    name: partName(first?.name ?? `linux-${kernel.release}`),
    version: partVersion(first?.version ?? kernel.release),
    packages: packages.map(referenceOf),
    entries: [...own, ...index, ...extra],
  };
}

/** Names must differ in one appliance. */
function withOwnNames(parts: readonly Part[]): Part[] {
  const used = new Set<string>();
  return parts.map((part) => {
    let { name } = part;
    for (let count = 2; used.has(`${part.kind} ${name}`); count += 1)
      name = `${part.name}-${count}`;
    used.add(`${part.kind} ${name}`);
    return { ...part, name };
  });
}

export interface Sources {
  readonly fine: FineTree;
  readonly distribution: Distribution;
  readonly database?: PackageDatabase | undefined;
  readonly intact: ReadonlySet<string>;
  /** Files with holes, which a component would fill. */
  readonly holed: ReadonlySet<string>;
  /** Absent where the machine is to be started with another's. */
  readonly kernel?: FoundKernel | undefined;
  /** The kernel unpacked, and what its initramfs needs. */
  readonly kernelExtra: readonly TreeEntry[];
}

/** The parts of a machine: kernel, OS, programs, in the order in which they are stacked. */
export function decompose(sources: Sources): Part[] {
  const { database } = sources;
  const parts = database === undefined ? unknownParts(sources) : packagedParts(sources, database);
  return withOwnNames(parts.filter(({ entries }) => entries.length > 0));
}

function packagedParts(sources: Sources, database: PackageDatabase): Part[] {
  const { fine, distribution, intact, kernel, kernelExtra } = sources;
  const sorted = sortByPackage(database, intact);
  const bytesOf = (item: InstalledPackage): number =>
    contentBytes(
      [...(sorted.byPackage.get(item) ?? [])].flatMap((path) => fine.tree.get(path) ?? []),
    );
  const { groups, kernels } = groupPackages(database.packages, bytesOf);
  const started = kernels.filter(
    (item) => kernel !== undefined && ownsModules(sorted, item, kernel),
  );
  const others = kernels.filter((item) => !started.includes(item));
  const parts: Part[] = [];
  if (kernel !== undefined) {
    parts.push(kernelPart(fine, kernel, started, pathsOf(started, sorted), kernelExtra));
  }
  for (const group of groups) {
    const packages = group.kind === "os" ? [...group.packages, ...others] : group.packages;
    parts.push({
      kind: group.kind,
      name: group.kind === "os" ? partName(`${distribution.name}-imported`) : partName(group.name),
      version: partVersion(
        group.kind === "os" ? distribution.version : group.version || distribution.version,
      ),
      packages: packages.map(referenceOf),
      entries: wholeGroups(fine.tree, pathsOf(packages, sorted)),
    });
  }
  return parts;
}

function ownsModules(
  { byPackage }: Sorted,
  item: InstalledPackage,
  { release, image }: FoundKernel,
): boolean {
  const paths = byPackage.get(item);
  if (paths === undefined) return false;
  return paths.has(image.path) || [...paths].some((path) => isOfModules(path, release));
}

const isPart = ({ type }: TreeEntry): boolean => type === "file" || type === "symlink";

/** Without a package database: the modules to the kernel, everything else of whole seconds to the OS. */
function unknownParts({ fine, distribution, holed, kernel, kernelExtra }: Sources): Part[] {
  const { tree, fractions } = fine;
  const whole = tree.entries.filter(
    (entry) => isPart(entry) && !fractions.has(entry.path) && !holed.has(entry.path),
  );
  const isKernel = ({ path }: TreeEntry): boolean =>
    kernel !== undefined && isOfModules(path, kernel.release);
  const modules = new Set(whole.filter(isKernel).map(({ path }) => path));
  const rest = new Set(whole.filter((entry) => !isKernel(entry)).map(({ path }) => path));
  const os: Part = {
    kind: "os",
    name: partName(`${distribution.name}-imported`),
    version: partVersion(distribution.version),
    packages: [],
    entries: wholeGroups(tree, rest),
  };
  if (kernel === undefined) return [os];
  return [kernelPart(fine, kernel, [], modules, kernelExtra), os];
}
