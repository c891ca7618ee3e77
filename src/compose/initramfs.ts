/** The initramfs: busybox, a few modules of the kernel component, and our two scripts. */
import { TesseraError } from "#core";
import { bufferSource, canonicalTree, readAll } from "#image";
import type { ContentSource, Tree, TreeEntry } from "#image";
import { APPLETS, INIT_SCRIPT, SHUTDOWN_SCRIPT } from "./init-script.ts";
import { moduleNames, modulesToLoad, type ModuleLists, type ModuleWish } from "./modules.ts";

const BUSYBOX = "usr/lib/tessera/initramfs/busybox";
const VMLINUX = "boot/vmlinux";
const LIST_BYTES_MAX = 8 * 2 ** 20;

/** Where the script mounts what it needs, and where the kernel looks for its first console. */
const DIRECTORIES = ["bin", "data", "dev", "l", "modules", "proc", "root", "run", "sys"];

/** The kernel itself: an uncompressed ELF file that QEMU starts by PVH. */
export function vmlinuxOf(kernel: Tree): ContentSource {
  return contentOf(kernel, VMLINUX);
}

async function moduleLists(kernel: Tree, release: string): Promise<ModuleLists> {
  const directory = `usr/lib/modules/${release}`;
  return {
    dependencies: await textOf(kernel, `${directory}/modules.dep`),
    builtIn: await textOf(kernel, `${directory}/modules.builtin`),
  };
}

/** Names of the modules of a kernel component, those that are built in among them. */
export async function kernelModules(kernel: Tree, release: string): Promise<Set<string>> {
  return moduleNames(await moduleLists(kernel, release));
}

/** What an initramfs runs in place of the composed machine's scripts. */
export interface InitramfsProgram {
  readonly init: string;
  readonly modules: ModuleWish;
}

/**
 * The tree of the initramfs for a kernel component.
 *
 * @param kernel the kernel component's tree
 * @param release as `uname -r` prints it
 * @throws `compose.kernel-unsuitable` (misuse) where a file or a module is not there
 */
export async function initramfsTree(
  kernel: Tree,
  release: string,
  program?: InitramfsProgram,
): Promise<Tree> {
  const directory = `usr/lib/modules/${release}`;
  const lists = await moduleLists(kernel, release);
  const modules = modulesToLoad(lists, release, program?.modules).map((path) => ({
    name: path.slice(path.lastIndexOf("/") + 1),
    content: contentOf(kernel, `${directory}/${path}`),
  }));
  return canonicalTree([
    ...["", ...DIRECTORIES].map(directoryEntry),
    ...modules.map(({ name, content }) => file(`modules/${name}`, content, 0o644)),
    file("modules/order", text(modules.map(({ name }) => `${name}\n`).join("")), 0o644),
    file("bin/busybox", contentOf(kernel, BUSYBOX), 0o755),
    ...APPLETS.map(applet),
    file("init", text(program?.init ?? INIT_SCRIPT), 0o755),
    ...(program === undefined ? [file("shutdown", text(SHUTDOWN_SCRIPT), 0o755)] : []),
    { ...common("dev/console", 0o600), type: "character", major: 5, minor: 1 },
  ]);
}

const common = (path: string, mode: number) => ({
  path,
  mode,
  uid: 0,
  gid: 0,
  mtime_s: 0,
  xattrs: new Map<string, Uint8Array>(),
});

function directoryEntry(path: string): TreeEntry {
  return { ...common(path, 0o755), type: "directory" };
}

function applet(name: string): TreeEntry {
  return { ...common(`bin/${name}`, 0o777), type: "symlink", target: "busybox" };
}

function file(path: string, content: ContentSource, mode: number): TreeEntry {
  return { ...common(path, mode), type: "file", content };
}

function text(content: string): ContentSource {
  return bufferSource(Buffer.from(content));
}

function contentOf(tree: Tree, path: string): ContentSource {
  const entry = tree.get(path);
  if (entry?.type === "file") return entry.content;
  const message = `the kernel component has no file /${path}`;
  throw new TesseraError("misuse", "compose.kernel-unsuitable", message, {
    subject: path,
    remedy: "build the kernel component again",
  });
}

async function textOf(tree: Tree, path: string): Promise<string> {
  return Buffer.from(await readAll(contentOf(tree, path), LIST_BYTES_MAX)).toString("utf8");
}
