/** Which packages become which component: pure, and the same for the same packages. */
import type { InstalledPackage } from "./dpkg.ts";

export interface PackageGroup {
  readonly kind: "os" | "program";
  /** Of an OS empty; of a program the package that was asked for. */
  readonly name: string;
  readonly version: string;
  readonly packages: readonly InstalledPackage[];
}

export interface PackageGroups {
  readonly groups: readonly PackageGroup[];
  /** Those of kernels: images, modules. */
  readonly kernels: readonly InstalledPackage[];
}

/** A machine has no more disks than fit on the kernel's command line; leaves some for others. */
const PROGRAMS_MAX = 24;
const KERNEL = /^linux-(image|modules)-/;

const compare = (a: InstalledPackage, b: InstalledPackage): number =>
  a.name < b.name || (a.name === b.name && a.architecture < b.architecture) ? -1 : 1;

class Graph {
  readonly #byName = new Map<string, InstalledPackage[]>();

  constructor(packages: readonly InstalledPackage[]) {
    for (const item of packages) {
      for (const name of item.provides) {
        this.#byName.set(name, [...(this.#byName.get(name) ?? []), item]);
      }
    }
  }

  /** What a package depends on, of each alternative all that is installed. */
  #needs({ depends }: InstalledPackage): InstalledPackage[] {
    const names = depends.flatMap((need) => [
      need.name,
      ...(need.alternatives ?? []).map((a) => a.name),
    ]);
    return names.flatMap((name) => this.#byName.get(name) ?? []);
  }

  /** The packages and all that they depend on. */
  closure(roots: readonly InstalledPackage[], without: ReadonlySet<InstalledPackage>) {
    const found = new Set<InstalledPackage>();
    const pending = [...roots];
    for (let item = pending.pop(); item !== undefined; item = pending.pop()) {
      if (found.has(item) || without.has(item)) continue;
      found.add(item);
      pending.push(...this.#needs(item));
    }
    return found;
  }
}

function groupOf(root: InstalledPackage, packages: Iterable<InstalledPackage>): PackageGroup {
  const { name, version } = root;
  return { kind: "program", name, version, packages: [...packages].toSorted(compare) };
}

/** What several programs need, as a program of its own that lies below them. */
function sharedGroup(name: string, packages: readonly InstalledPackage[]): PackageGroup[] {
  if (packages.length === 0) return [];
  return [{ kind: "program", name, version: "", packages: packages.toSorted(compare) }];
}

/** What is important but here only for the sake of others differs between machines of one OS. */
function isBase({ essential, priority, automatic }: InstalledPackage): boolean {
  return essential || priority === "required" || (priority === "important" && !automatic);
}

/**
 * The OS is what is required, or important and asked for, with all that it depends on. Each package beyond it that
 * was asked for is a program with what only it needs; what several need is one more program, below
 * them; and the smallest are joined to one where there would be too many.
 *
 * @param bytesOf of a package's files
 */
export function groupPackages(
  packages: readonly InstalledPackage[],
  bytesOf: (item: InstalledPackage) => number,
): PackageGroups {
  const sorted = packages.toSorted(compare);
  const kernels = sorted.filter(({ name }) => KERNEL.test(name));
  const graph = new Graph(sorted);
  const base = sorted.filter(isBase);
  const os = graph.closure(base, new Set(kernels));
  const without = new Set([...os, ...kernels]);
  const rest = sorted.filter((item) => !without.has(item));
  const asked = rest.filter(({ automatic }) => !automatic);
  const uses = new Map<InstalledPackage, InstalledPackage[]>();
  for (const root of asked) {
    for (const item of graph.closure([root], without))
      uses.set(item, [...(uses.get(item) ?? []), root]);
  }
  const own = asked.map((root) =>
    groupOf(
      root,
      rest.filter((item) => isOnly(uses.get(item), root)),
    ),
  );
  const shared = rest.filter((item) => (uses.get(item)?.length ?? 0) !== 1);
  const programs = limit(
    own.filter((group) => group.packages.length > 0),
    bytesOf,
  );
  const osGroup: PackageGroup = {
    kind: "os",
    name: "",
    version: "",
    packages: [...os].toSorted(compare),
  };
  return { kernels, groups: [osGroup, ...sharedGroup("shared-packages", shared), ...programs] };
}

function isOnly(users: readonly InstalledPackage[] | undefined, root: InstalledPackage): boolean {
  return users?.length === 1 && users[0] === root;
}

function limit(
  groups: readonly PackageGroup[],
  bytesOf: (item: InstalledPackage) => number,
): PackageGroup[] {
  if (groups.length <= PROGRAMS_MAX) return [...groups];
  const size = ({ packages }: PackageGroup): number =>
    packages.reduce((sum, item) => sum + bytesOf(item), 0);
  const bySize = groups.toSorted((a, b) => size(b) - size(a) || (a.name < b.name ? -1 : 1));
  const large = new Set(bySize.slice(0, PROGRAMS_MAX - 1));
  const small = groups.filter((group) => !large.has(group)).flatMap((group) => group.packages);
  return [...sharedGroup("small-packages", small), ...groups.filter((group) => large.has(group))];
}
