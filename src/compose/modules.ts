/** Which kernel modules the initramfs loads, and in which order: pure. */
import { TesseraError } from "#core";

export interface ModuleWish {
  /** Without these no machine starts. */
  readonly needed: readonly string[];
  /** Taken where the kernel has them. */
  readonly wanted: readonly string[];
}

/** Beside what is needed: many disks on one controller, and checksums. */
const COMPOSED: ModuleWish = {
  needed: ["virtio_pci", "virtio_blk", "erofs", "overlay", "ext4"],
  wanted: ["virtio_scsi", "sd_mod", "crc32c_generic"],
};

/** The texts of a kernel's module lists, as depmod(8) and the kernel's build write them. */
export interface ModuleLists {
  /** `modules.dep`: `path: path path`, what a module needs with the nearest first. */
  readonly dependencies: string;
  /** `modules.builtin`: one path per line. */
  readonly builtIn: string;
}

/**
 * Paths of the modules below the kernel's directory, each after what it depends on. What is built
 * into the kernel is left out.
 *
 * @throws `compose.kernel-unsuitable` (misuse) where the kernel lacks a module that is needed,
 *   or has one compressed, which the initramfs cannot load
 */
export function modulesToLoad(
  lists: ModuleLists,
  release: string,
  { needed, wanted }: ModuleWish = COMPOSED,
): string[] {
  const dependencies = parseDependencies(lists.dependencies);
  const paths = new Map([...dependencies.keys()].map((path) => [moduleName(path), path]));
  const builtIn = new Set(lists.builtIn.split("\n").map(moduleName));
  const order = new Set<string>();
  for (const name of [...wanted, ...needed]) {
    const path = paths.get(name);
    if (path !== undefined) load(path, dependencies, order);
    else if (!builtIn.has(name) && needed.includes(name)) {
      throw unsuitable(release, `has no module ${name}, which every machine needs`);
    }
  }
  const packed = [...order].find((path) => !path.endsWith(".ko"));
  if (packed !== undefined) throw unsuitable(release, `has the module ${packed} compressed`);
  return [...order];
}

/** Names of all that a kernel has as a module or built in, with underscores. */
export function moduleNames(lists: ModuleLists): Set<string> {
  const paths = [...parseDependencies(lists.dependencies).keys(), ...lists.builtIn.split("\n")];
  return new Set(paths.map(moduleName));
}

function unsuitable(release: string, problem: string): TesseraError {
  const message = `the kernel ${release} ${problem}`;
  return new TesseraError("misuse", "compose.kernel-unsuitable", message, {
    subject: release,
    remedy: "choose a kernel component for virtual machines",
  });
}

function parseDependencies(text: string): Map<string, string[]> {
  return new Map(
    text.split("\n").flatMap((line): [string, string[]][] => {
      const [path = "", rest = ""] = line.split(":");
      const needs = rest.split(" ").filter((need) => need !== "");
      return path === "" ? [] : [[path.trim(), needs]];
    }),
  );
}

/** depmod lists all that a module needs, but the nearest first: so each is followed by itself. */
function load(
  path: string,
  dependencies: ReadonlyMap<string, readonly string[]>,
  order: Set<string>,
  above: readonly string[] = [],
): void {
  if (order.has(path) || above.includes(path)) return;
  for (const need of dependencies.get(path) ?? []) {
    load(need, dependencies, order, [...above, path]);
  }
  order.add(path);
}

/** `virtio_blk` of `kernel/drivers/block/virtio-blk.ko.xz`: hyphen and underscore are one. */
function moduleName(path: string): string {
  const name = path.slice(path.lastIndexOf("/") + 1);
  return name.replace(/\.ko(\.\w+)?$/, "").replaceAll("-", "_");
}
