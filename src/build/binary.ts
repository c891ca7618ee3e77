import { compareDebianVersions, type Constraint } from "#core";
import type { Tree, TreeEntry } from "#image";
import { readElf, type Elf } from "./elf.ts";
import { sortConstraints } from "./relations.ts";

/** ELF machine numbers by Debian architecture. */
const MACHINES: Readonly<Record<string, number>> = { amd64: 62, arm64: 183, riscv64: 243 };

interface Binary {
  readonly path: string;
  readonly elf: Elf;
}

type FileEntry = Extract<TreeEntry, { type: "file" }>;

async function elfOf({ content }: FileEntry): Promise<Elf | undefined> {
  const read = async (position: number, length: number): Promise<Uint8Array> => {
    const target = new Uint8Array(length);
    await content.read(target, position);
    return target;
  };
  return readElf(read, content.sizeBytes);
}

/** The dynamically linked files of a tree, in its order. */
export async function binariesOf(tree: Tree, architecture: string): Promise<Binary[]> {
  const machine = MACHINES[architecture];
  const binaries: Binary[] = [];
  for (const entry of tree.entries) {
    if (entry.type !== "file") continue;
    const elf = await elfOf(entry);
    if (elf?.dynamic && elf.machine === machine) binaries.push({ path: entry.path, elf });
  }
  return binaries;
}

/** Where the dynamic linker looks without being told (ld.so(8), Debian's multiarch). */
const LIBRARY_DIRECTORY = /^(usr\/)?lib(64|\/[a-z0-9_]+-linux-gnu[a-z0-9]*)?\/[^/]+$/;

/** `GLIBC_2.34` is version 2.34 of the series `GLIBC`; without a number it is its own series. */
function seriesOf(version: string): { series: string; number: string } {
  const match = /^(.*?)_?v?(\d[0-9.]*[a-z]?)$/.exec(version);
  return { series: match?.[1] ?? version, number: match?.[2] ?? "" };
}

/** The highest version of each series, sorted. */
export function highestVersions(versions: Iterable<string>): string[] {
  const highest = new Map<string, { number: string; version: string }>();
  for (const version of versions) {
    const { series, number } = seriesOf(version);
    const known = highest.get(series);
    if (known === undefined || compareDebianVersions(known.number, number) < 0) {
      highest.set(series, { number, version });
    }
  }
  return [...highest.values()].map(({ version }) => version).toSorted();
}

function constraintsOf(versions: ReadonlyMap<string, ReadonlySet<string>>): Constraint[] {
  const constraints = [...versions].flatMap(([name, set]): Constraint[] => {
    const highest = highestVersions(set);
    if (highest.length === 0) return [{ type: "soname", name }];
    return highest.map((version) => ({ type: "soname", name, version }));
  });
  return sortConstraints(constraints);
}

function merge(into: Map<string, Set<string>>, name: string, versions: readonly string[]): void {
  const set = into.get(name) ?? new Set();
  for (const version of versions) set.add(version);
  into.set(name, set);
}

function sonameOf({ path, elf }: Binary): string {
  return elf.soname ?? path.slice(path.lastIndexOf("/") + 1);
}

/** The shared libraries that others can link with, and the symbol versions that they define. */
export function binaryProvides(binaries: readonly Binary[]): Constraint[] {
  const provided = new Map<string, Set<string>>();
  for (const binary of binaries) {
    const isLibrary = LIBRARY_DIRECTORY.test(binary.path) && /\.so(\.|$)/.test(binary.path);
    if (isLibrary) merge(provided, sonameOf(binary), binary.elf.defined);
  }
  return constraintsOf(provided);
}

/** The libraries, with symbol versions, that the files need and do not bring, wherever they lie. */
export function binaryRequires(binaries: readonly Binary[]): Constraint[] {
  const own = new Set(binaries.map(sonameOf));
  const needed = new Map<string, Set<string>>();
  for (const { elf } of binaries) {
    for (const name of elf.needed) if (!own.has(name)) merge(needed, name, []);
    for (const { library, versions } of elf.required) {
      if (!own.has(library)) merge(needed, library, versions);
    }
  }
  return constraintsOf(needed);
}
