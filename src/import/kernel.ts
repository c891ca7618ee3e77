/** The kernel component of a machine: its own kernel, unpacked, with its modules. */
import { join } from "node:path";
import { BUSYBOX_PATH, unpackKernel } from "#build";
import { compareDebianVersions, TesseraError, type World } from "#core";
import { bufferSource, fileSource, readAll, readErofs, type Tree, type TreeEntry } from "#image";
import type { ComponentStore } from "#repository";
import { entryAt } from "./paths.ts";

const VMLINUZ_BYTES_MAX = 128 * 2 ** 20;
const BUSYBOX_BYTES_MAX = 16 * 2 ** 20;
const MODULES = "usr/lib/modules";
const ELF_MAGIC = 0x7f45_4c46;
const INTERPRETER = 3;
const NO_XATTRS: ReadonlyMap<string, Uint8Array> = new Map();

export interface FoundKernel {
  /** As `uname -r` prints it. */
  readonly release: string;
  readonly image: Extract<TreeEntry, { type: "file" }>;
}

/** The newest kernel that has its modules; undefined where there is none. */
export function newestKernel(tree: Tree): FoundKernel | undefined {
  const found = tree.entries.flatMap((entry): FoundKernel[] => {
    const release = /^boot\/vmlinuz-([A-Za-z0-9.+~_-]{1,200})$/.exec(entry.path)?.[1];
    if (entry.type !== "file" || release === undefined) return [];
    return tree.get(`${MODULES}/${release}`)?.type === "directory"
      ? [{ release, image: entry }]
      : [];
  });
  return found.toSorted((a, b) => compareDebianVersions(b.release, a.release))[0];
}

/** Does this path belong to the kernel's modules? Its index is made when it is installed. */
export function isOfModules(path: string, release: string): boolean {
  return path.startsWith(`${MODULES}/${release}/`);
}

function noBusybox(): TesseraError {
  const message = "no static busybox for the machine's initramfs: not in the image, nor here";
  return new TesseraError("environment", "import.busybox-not-found", message, {
    remedy: "install the package busybox-static on the agent's host, or build a kernel component",
  });
}

/** A program that needs no dynamic linker (ELF-64, program headers). */
function isStatic(bytes: Buffer): boolean {
  if (bytes.length < 64 || bytes.readUInt32BE(0) !== ELF_MAGIC || bytes[4] !== 2) return false;
  const [at, entryBytes] = [Number(bytes.readBigUInt64LE(32)), bytes.readUInt16LE(54)];
  for (let index = 0; index < bytes.readUInt16LE(56); index += 1) {
    const start = at + index * entryBytes;
    if (start + 4 > bytes.length || bytes.readUInt32LE(start) === INTERPRETER) return false;
  }
  return true;
}

async function ownBusybox(tree: Tree): Promise<Uint8Array | undefined> {
  const entry = entryAt(tree, "/bin/busybox");
  if (entry?.type !== "file" || entry.content.sizeBytes > BUSYBOX_BYTES_MAX) return undefined;
  const bytes = Buffer.from(await readAll(entry.content, BUSYBOX_BYTES_MAX));
  return isStatic(bytes) ? bytes : undefined;
}

async function heldBusybox(world: World, store: ComponentStore): Promise<Uint8Array | undefined> {
  const kernels = (await store.list()).filter(({ description }) => description.kind === "kernel");
  for (const { id } of kernels.toSorted((a, b) => (a.id < b.id ? -1 : 1))) {
    const image = await fileSource(world, await store.imagePath(id));
    try {
      const entry = (await readErofs(image)).get(BUSYBOX_PATH);
      if (entry?.type === "file") return await readAll(entry.content, BUSYBOX_BYTES_MAX);
    } finally {
      await image.close();
    }
  }
  return undefined;
}

async function hostBusybox(world: World): Promise<Uint8Array | undefined> {
  for (const path of ["/usr/bin/busybox", "/bin/busybox"]) {
    if ((await world.files.status(path))?.kind !== "file") continue;
    const bytes = Buffer.from(await world.files.readFile(path, BUSYBOX_BYTES_MAX));
    if (isStatic(bytes)) return bytes;
  }
  return undefined;
}

function isCompressed(tree: Tree, release: string): boolean {
  return tree.entries.some(
    ({ path }) => isOfModules(path, release) && /\.ko\.(xz|zst|gz)$/.test(path),
  );
}

/**
 * What a kernel component has beside the files of the kernel's package: the kernel as an ELF file
 * that starts by PVH, and a static busybox for the initramfs.
 *
 * @throws `import.kernel-unsuitable` (misuse), `import.busybox-not-found` (environment),
 *   `build.kernel-invalid` (corrupt)
 */
export async function kernelParts(
  world: World,
  store: ComponentStore,
  tree: Tree,
  kernel: FoundKernel,
  directory: string,
): Promise<TreeEntry[]> {
  if (isCompressed(tree, kernel.release)) {
    const message = `the modules of kernel ${kernel.release} are compressed, which the initramfs cannot load`;
    throw new TesseraError("misuse", "import.kernel-unsuitable", message, {
      subject: kernel.release,
      remedy: "name a kernel component to start it with: --kernel NAME",
    });
  }
  const busybox =
    (await ownBusybox(tree)) ?? (await heldBusybox(world, store)) ?? (await hostBusybox(world));
  if (busybox === undefined) throw noBusybox();
  const { image } = kernel;
  const work = join(directory, `kernel-${world.random.uuid()}`);
  await world.files.makeDirectory(work);
  try {
    const vmlinuz = await readAll(image.content, VMLINUZ_BYTES_MAX);
    const vmlinux = await unpackKernel(world, vmlinuz, work);
    const common = {
      type: "file",
      uid: 0,
      gid: 0,
      mtime_s: image.mtime_s,
      xattrs: NO_XATTRS,
    } as const;
    return [
      { ...common, path: "boot/vmlinux", mode: 0o644, content: bufferSource(vmlinux) },
      { ...common, path: BUSYBOX_PATH, mode: 0o755, content: bufferSource(busybox) },
    ];
  } finally {
    await world.files.removeTree(work);
  }
}
