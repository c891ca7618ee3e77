import { join } from "node:path";
import { TesseraError, type World } from "#core";
import { bufferSource, canonicalTree, readAll, type Tree, type TreeEntry } from "#image";
import { packagePath } from "./archive.ts";
import { decompress, payloadOf, VMLINUX_BYTES_MAX, type Payload } from "./bzimage.ts";
import { clampTimes } from "./canonical.ts";
import { runChecked } from "./commands.ts";
import type { BuildRequest, LockedPackage } from "./contract.ts";
import { unpackFiles, writeFilesTar } from "./deb.ts";

const VMLINUZ_BYTES_MAX = 128 * 2 ** 20;
const INDEX_BYTES_MAX = 64 * 2 ** 20;
const NO_XATTRS: ReadonlyMap<string, Uint8Array> = new Map();

/** Where the composer finds the program that its initramfs runs. */
export const BUSYBOX_PATH = "usr/lib/tessera/initramfs/busybox";

/** How a locked program of another Debian is run: by its own dynamic linker. */
const LINKERS: Readonly<Record<string, { linker: string; libraries: readonly string[] }>> = {
  amd64: {
    linker: "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    libraries: ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"],
  },
  arm64: {
    linker: "lib/aarch64-linux-gnu/ld-linux-aarch64.so.1",
    libraries: ["lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu"],
  },
};

export interface KernelTree {
  readonly tree: Tree;
  /** As `uname -r` prints it. */
  readonly release: string;
}

function incomplete(recipeName: string, what: string): TesseraError {
  const text = `the packages of ${recipeName} have no ${what}`;
  return new TesseraError("misuse", "build.kernel-incomplete", text, {
    subject: recipeName,
    remedy: "name a kernel image package, busybox-static, and kmod with its libraries as tools",
  });
}

/**
 * Takes a kernel's packages apart: `/boot/vmlinux` as an uncompressed ELF file (QEMU starts it by
 * PVH, and it patches well between versions), the modules with their index, and busybox for the
 * composer's initramfs. Nothing of the packages runs but the locked `depmod`. Tars that are made in
 * `directory` are read through `open` as long as the tree is used.
 *
 * @throws `build.kernel-incomplete` (misuse), `build.kernel-invalid` (corrupt)
 */
export async function buildKernelTree(
  world: World,
  request: BuildRequest,
  directory: string,
  open: (tarPath: string) => Promise<Tree>,
): Promise<KernelTree> {
  const { recipe, lock } = request;
  const shipped = await shippedEntries(world, request, directory, open);
  const find = (pattern: RegExp): TreeEntry | undefined =>
    shipped.find((entry) => entry.type === "file" && pattern.test(entry.path));
  const image = find(/^boot\/vmlinuz-[^/]+$/);
  const busybox = find(/^(usr\/)?bin\/busybox$/);
  if (image?.type !== "file") throw incomplete(recipe.name, "boot/vmlinuz");
  if (busybox?.type !== "file") throw incomplete(recipe.name, "busybox");
  const release = image.path.slice("boot/vmlinuz-".length);
  const vmlinuz = await readAll(image.content, VMLINUZ_BYTES_MAX);
  const vmlinux = await unpackKernel(world, vmlinuz, directory);
  const common = { mode: 0o644, uid: 0, gid: 0, mtime_s: lock.epoch_s, xattrs: NO_XATTRS };
  const entries = canonicalTree([
    { ...common, type: "file", path: "boot/vmlinux", content: bufferSource(vmlinux) },
    { ...common, type: "file", path: BUSYBOX_PATH, mode: 0o755, content: busybox.content },
    ...moduleEntries(shipped, release),
    ...(await moduleIndex(world, request, directory, release)),
  ]).entries.map((entry) => (entry.mtime_s === 0 ? { ...entry, mtime_s: lock.epoch_s } : entry));
  const tree = clampTimes(canonicalTree(entries), lock.epoch_s);
  return { tree, release };
}

/** The files of the recipe's packages, without those of its tools. */
async function shippedEntries(
  world: World,
  request: BuildRequest,
  directory: string,
  open: (tarPath: string) => Promise<Tree>,
): Promise<TreeEntry[]> {
  const tools = new Set(request.recipe.tools);
  const packages = request.lock.packages.filter(({ name }) => !tools.has(name));
  const entries: TreeEntry[] = [];
  for (const [index, { sha256 }] of packages.entries()) {
    const tar = join(directory, `package-${index}.tar`);
    await writeFilesTar(world, packagePath(request.cacheDirectory, sha256), tar);
    entries.push(...(await open(tar)).entries);
  }
  return entries;
}

function moduleEntries(entries: readonly TreeEntry[], release: string): TreeEntry[] {
  const pattern = /^(?:usr\/)?lib\/modules\/([^/]+)(\/.*)?$/;
  return entries.flatMap((entry) => {
    const match = pattern.exec(entry.path);
    if (match?.[1] !== release) return [];
    return [{ ...entry, path: `usr/lib/modules/${release}${match[2] ?? ""}` }];
  });
}

/**
 * The ELF file in a bzImage. What its program needs is put into `directory`.
 *
 * @throws `build.kernel-invalid` (corrupt)
 */
export async function unpackKernel(
  world: World,
  vmlinuz: Uint8Array,
  directory: string,
): Promise<Uint8Array> {
  const payload = payloadOf(vmlinuz);
  const vmlinux =
    payload.compression === "xz" ? await unpackXz(world, payload, directory) : decompress(payload);
  if (Buffer.from(vmlinux.subarray(0, 4)).toString("latin1") === "\x7fELF") return vmlinux;
  throw new TesseraError("corrupt", "build.kernel-invalid", "the kernel's payload is no ELF file");
}

async function unpackXz(world: World, payload: Payload, directory: string): Promise<Uint8Array> {
  const path = join(directory, "vmlinux");
  const limit = [`--fsize=${VMLINUX_BYTES_MAX}`, "--as=1073741824", "--"];
  await runChecked(
    world,
    "prlimit",
    [...limit, "xz", "--decompress", "--stdout", "--single-stream"],
    {
      input: payload.bytes,
      outputFile: path,
      code: "build.kernel-invalid",
      remedy: "delete the build cache and build again",
    },
  );
  return world.files.readFile(path, VMLINUX_BYTES_MAX);
}

/** Runs the locked depmod(8) over the unpacked modules and reads what it made. */
async function moduleIndex(
  world: World,
  request: BuildRequest,
  directory: string,
  release: string,
): Promise<TreeEntry[]> {
  const { recipe, lock, cacheDirectory } = request;
  const tools = join(directory, "tools");
  const root = join(directory, "root");
  const empty = join(directory, "depmod.d");
  for (const path of [tools, root, empty]) await world.files.makeDirectory(path);
  const isTool = ({ name }: LockedPackage): boolean => recipe.tools.includes(name);
  for (const entry of lock.packages) {
    const target = isTool(entry) ? tools : root;
    await unpackFiles(world, packagePath(cacheDirectory, entry.sha256), target);
  }
  const program = LINKERS[lock.architecture];
  if (program === undefined || !(await isThere(world, join(tools, program.linker)))) {
    throw incomplete(recipe.name, `dynamic linker for ${lock.architecture} among the tools`);
  }
  const libraries = program.libraries.map((path) => join(tools, path)).join(":");
  const linker = ["--argv0", "depmod", "--library-path", libraries, await kmodPath(world, tools)];
  const depmod = ["--basedir", root, "--config", empty, release];
  await runChecked(world, join(tools, program.linker), [...linker, ...depmod], {
    code: "build.kernel-invalid",
    remedy: "look whether the tools of the recipe belong to the kernel's Debian release",
  });
  return readIndex(world, join(root, "lib/modules", release), release, lock.epoch_s);
}

async function isThere(world: World, path: string): Promise<boolean> {
  return (await world.files.status(path)) !== undefined;
}

async function kmodPath(world: World, tools: string): Promise<string> {
  const usual = join(tools, "bin/kmod");
  return (await isThere(world, usual)) ? usual : join(tools, "usr/bin/kmod");
}

/** The files that depmod makes; the package itself ships order, builtin and builtin.modinfo. */
async function readIndex(
  world: World,
  directory: string,
  release: string,
  mtime_s: number,
): Promise<TreeEntry[]> {
  const shipped = new Set(["modules.builtin", "modules.builtin.modinfo", "modules.order"]);
  const names = (await world.files.list(directory)).filter(
    (name) => name.startsWith("modules.") && !shipped.has(name),
  );
  const entries: TreeEntry[] = [];
  for (const name of names) {
    const content = bufferSource(
      await world.files.readFile(join(directory, name), INDEX_BYTES_MAX),
    );
    const path = `usr/lib/modules/${release}/${name}`;
    const common = { mode: 0o644, uid: 0, gid: 0, mtime_s, xattrs: NO_XATTRS };
    entries.push({ ...common, type: "file", path, content });
  }
  return entries;
}
