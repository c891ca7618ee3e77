/** The tree of an exported root: the machine's, and what lets it start by itself. */
import { kernelModules, READY_PATHS, vmlinuxOf } from "#compose";
import {
  bufferSource,
  canonicalTree,
  mergeTrees,
  readAll,
  type ContentSource,
  type Tree,
  type TreeEntry,
} from "#image";
import { readUserData, type FineTree } from "#import";
import type { ExportMachine } from "./contract.ts";
import { unsuitable } from "./errors.ts";
import { newFstab } from "./fstab.ts";
import { BOOT_DIRECTORY, grubConfig } from "./grub.ts";
import { exportInitramfs } from "./initramfs.ts";
import { kernelImage } from "./kernel-image.ts";
import { plainUpper, shownFractions } from "./upper.ts";

const FSTAB = "etc/fstab";
const FSTAB_BYTES_MAX = 2 ** 20;
/** Every new file system has one of its own. */
export const LOST_AND_FOUND = "lost+found";
/** 2020-01-01, as for other files of ours. */
const TIME_S = 1_577_836_800;

export interface ExportedRoot {
  /** As the machine shows it. */
  readonly machine: FineTree;
  /** As it is to be written. */
  readonly target: FineTree;
  readonly added: readonly string[];
  readonly changed: readonly string[];
  readonly leftOut: readonly string[];
  readonly leftFstab: readonly string[];
  readonly kernel: "own" | "made";
  /** Names of the kernel's modules, with underscores. */
  readonly modules: ReadonlySet<string>;
}

const common = (path: string, mode: number) => ({
  path,
  mode,
  uid: 0,
  gid: 0,
  mtime_s: TIME_S,
  xattrs: new Map<string, Uint8Array>(),
});

function file(path: string, content: ContentSource, mode = 0o644): TreeEntry {
  return { ...common(path, mode), type: "file", content };
}

const text = (content: string): ContentSource => bufferSource(Buffer.from(content));

interface ShownMachine {
  readonly fine: FineTree;
  readonly withoutFstab: boolean;
  /** What comes from the glue and is of use only to us. */
  readonly ready: readonly string[];
}

/** An entry that the machine has from the glue, unchanged. */
function isFrom(layer: Tree | undefined, shown: Tree, path: string): boolean {
  const [own, here] = [layer?.get(path), shown.get(path)];
  if (own?.type === "file" && here?.type === "file") return own.content === here.content;
  return own?.type === "symlink" && here?.type === "symlink" && own.target === here.target;
}

async function shownMachine({ data }: ExportMachine, layers: readonly Tree[]) {
  const { upper, withoutFstab } = await readUserData(data);
  const plain = plainUpper(upper);
  const tree = mergeTrees([...layers, plain.tree]);
  const fine = { tree, fractions: shownFractions(tree, plain) };
  const ready = READY_PATHS.filter((path) => isFrom(layers.at(-1), tree, path));
  return { fine, withoutFstab, ready } satisfies ShownMachine;
}

function checkDirectory(tree: Tree, path: string): void {
  const type = tree.get(path)?.type;
  if (type === undefined || type === "directory") return;
  throw unsuitable(`/${path}`, "is no directory in this machine", "make it one, and export again");
}

function checkLostAndFound(tree: Tree): void {
  const inside = tree.entries.find(({ path }) => path.startsWith(`${LOST_AND_FOUND}/`));
  const other = tree.get(LOST_AND_FOUND);
  if (inside === undefined && (other === undefined || other.type === "directory")) return;
  const remedy = "move what is in it elsewhere, and export again";
  throw unsuitable(`/${LOST_AND_FOUND}`, "is not empty in this machine", remedy);
}

async function fstabOf({ fine, withoutFstab }: ShownMachine, fileSystem: string) {
  const old = fine.tree.get(FSTAB);
  if (old !== undefined && old.type !== "file") {
    throw unsuitable(`/${FSTAB}`, "is no plain file", "make it one, and export again");
  }
  const bytes = old === undefined ? [] : await readAll(old.content, FSTAB_BYTES_MAX);
  const { text: made, left } = newFstab(
    Buffer.from(bytes).toString("utf8"),
    fileSystem,
    withoutFstab,
  );
  return { entry: file(FSTAB, text(made)), left };
}

/** The kernel that is started: the distribution's file where the machine has it. */
async function kernelFile(shown: Tree, kernelTree: Tree, release: string) {
  const path = `boot/vmlinuz-${release}`;
  const [own, held] = [shown.get(path), kernelTree.get(path)];
  if (own?.type === "file") return { path, entry: undefined };
  const made = `${BOOT_DIRECTORY}/vmlinuz`;
  if (held?.type === "file") return { path: made, entry: file(made, held.content) };
  return { path: made, entry: file(made, await kernelImage(vmlinuxOf(kernelTree))) };
}

function ancestors(path: string): string[] {
  const names = path.split("/").slice(0, -1);
  return names.map((_, index) => names.slice(0, index + 1).join("/"));
}

/** Files of ours with the directories above them that are not there. */
function additions(tree: Tree, files: readonly TreeEntry[]): TreeEntry[] {
  const directories = new Set(files.flatMap(({ path }) => ancestors(path)));
  const missing = [...directories].filter((path) => tree.get(path) === undefined);
  return [
    ...missing.map((path): TreeEntry => ({ ...common(path, 0o755), type: "directory" })),
    ...files,
  ];
}

/** What an earlier export brought, and a machine that was imported from it has. */
const isOurs = (path: string): boolean =>
  path === BOOT_DIRECTORY || path.startsWith(`${BOOT_DIRECTORY}/`);

/**
 * @param layers lowest first, the kernel component's first and the glue last
 * @param fileSystem UUID of the root's file system
 * @throws `export.machine-unsuitable`, `compose.kernel-unsuitable` (misuse), and what reading the user
 *   data block throws
 */
export async function exportedRoot(
  machine: ExportMachine,
  layers: readonly Tree[],
  fileSystem: string,
): Promise<ExportedRoot> {
  const [kernelTree = canonicalTree([])] = layers;
  const release = machine.kernelRelease;
  const shown = await shownMachine(machine, layers);
  const { tree, fractions } = shown.fine;
  for (const path of ["boot", "etc"]) checkDirectory(tree, path);
  checkLostAndFound(tree);
  const kernel = await kernelFile(tree, kernelTree, release);
  const fstab = await fstabOf(shown, fileSystem);
  const earlier = tree.entries.filter(({ path }) => isOurs(path)).map(({ path }) => path);
  const gone = new Set([...shown.ready, ...earlier, FSTAB, LOST_AND_FOUND]);
  const kept = canonicalTree(tree.entries.filter(({ path }) => !gone.has(path)));
  const files = [
    file(`${BOOT_DIRECTORY}/grub.cfg`, text(grubConfig(machine.name, fileSystem, kernel.path))),
    file(`${BOOT_DIRECTORY}/initramfs`, await exportInitramfs(kernelTree, release)),
    ...(kernel.entry === undefined ? [] : [kernel.entry]),
    fstab.entry,
  ];
  const extra = additions(kept, files);
  const [changed, added] = [true, false].map((isThere) =>
    extra.map(({ path }) => path).filter((path) => (tree.get(path) !== undefined) === isThere),
  );
  const target = canonicalTree([...kept.entries, ...extra]);
  return {
    machine: shown.fine,
    target: {
      tree: target,
      fractions: new Map([...fractions].filter(([path]) => !gone.has(path))),
    },
    added: added ?? [],
    changed: changed ?? [],
    leftOut: [...shown.ready, ...earlier.filter((path) => target.get(path) === undefined)],
    leftFstab: fstab.left,
    kernel: kernel.entry === undefined ? "own" : "made",
    modules: await kernelModules(kernelTree, release),
  };
}
