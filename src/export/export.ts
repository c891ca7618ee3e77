/** From a stopped machine to one disk that boots without Tessera; or what that disk would be. */
import { basename, dirname, join } from "node:path";
import { openFileDevice } from "#block";
import type { World } from "#core";
import { fileSource, readErofs, type Tree } from "#image";
import { contentBytes } from "#import";
import type {
  ExportedFile,
  ExportMachine,
  ExportProof,
  ExportRequest,
  ExportSurvey,
  ExportTarget,
} from "./contract.ts";
import { convertDisk } from "./convert.ts";
import { writeDisk } from "./disk.ts";
import { unsuitable } from "./errors.ts";
import { makeBootLoader, requireGrub } from "./grub.ts";
import { identityOf, type DiskIdentity } from "./identity.ts";
import { checkFormat, diskLayout, type DiskLayout } from "./layout.ts";
import { writeOva } from "./ova.ts";
import { hardwareOf } from "./ovf.ts";
import { proveExport } from "./proof.ts";
import { exportedRoot, type ExportedRoot } from "./root.ts";

/** A machine that was read, as long as its layers are open. */
export interface PlannedExport {
  readonly survey: ExportSurvey;
  /** Writes the disk. Of a failure nothing is left at the target's path. */
  readonly write: (
    target: ExportTarget,
  ) => Promise<{ readonly file: ExportedFile; readonly proof: ExportProof }>;
}

interface Job {
  readonly world: World;
  readonly request: ExportRequest;
  readonly root: ExportedRoot;
  readonly layout: DiskLayout;
  readonly identity: DiskIdentity;
}

function surveyOf({ request, root, layout, identity }: Job): ExportSurvey {
  const { entries } = root.target.tree;
  const { controller, network } = hardwareOf(root.modules);
  return {
    entries: entries.length,
    contentBytes: contentBytes(entries),
    rootBytes: layout.rootBytes,
    diskBytes: layout.diskBytes,
    kernelRelease: request.machine.kernelRelease,
    kernel: root.kernel,
    fileSystem: identity.fileSystem,
    added: root.added,
    changed: root.changed,
    leftOut: root.leftOut,
    leftFstab: root.leftFstab,
    controller: controller.name,
    network: network.name,
  };
}

/** The raw disk, read back and proven. */
async function makeRaw(
  { world, request, root, layout, identity }: Job,
  path: string,
  directory: string,
) {
  const { progress, signal, machine } = request;
  progress({ step: "boot", detail: "GRUB for BIOS and UEFI" });
  const { fileSystem } = identity;
  const loader = await makeBootLoader(world, directory, fileSystem, layout.biosSector);
  signal.throwIfAborted();
  progress({ step: "root", detail: machine.name });
  await writeDisk(world, path, layout, identity, loader, root.target);
  signal.throwIfAborted();
  progress({ step: "prove", detail: machine.name });
  const disk = await openFileDevice(world, path, { readOnly: true });
  try {
    return await proveExport(disk, root);
  } finally {
    await disk.close();
  }
}

async function pack(job: Job, raw: string, beside: string, directory: string): Promise<void> {
  const { world, request, root, layout } = job;
  const { progress, signal, machine } = request;
  const { name, uuid, cpus, memoryBytes } = machine;
  const disk = join(directory, "disk.vmdk");
  const { diskBytes } = layout;
  progress({ step: "convert", detail: "vmdk (streamOptimized)" });
  await convertDisk(world, { raw, target: disk, diskBytes }, "stream-vmdk", signal);
  progress({ step: "pack", detail: basename(request.machine.name) });
  const populatedBytes = (await world.files.status(raw))?.allocatedBytes ?? 0;
  const described = { name, uuid, cpus, memoryBytes, diskBytes, populatedBytes };
  const hardware = hardwareOf(root.modules);
  await writeOva(world, disk, beside, { ...described, ...hardware }, signal);
}

/** From the proven raw disk to the format that was asked for. */
async function finish(job: Job, raw: string, beside: string, directory: string): Promise<void> {
  const { world, request, layout } = job;
  const { format, progress, signal } = request;
  if (format === "raw") return;
  if (format === "ova") await pack(job, raw, beside, directory);
  else {
    progress({ step: "convert", detail: format });
    const { diskBytes } = layout;
    await convertDisk(world, { raw, target: beside, diskBytes }, format, signal);
  }
  await world.files.remove(raw);
}

async function makeDurable(world: World, path: string): Promise<void> {
  const file = await world.files.open(path, "write");
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

async function write(job: Job, { path, directory }: ExportTarget) {
  const { world, request } = job;
  await requireGrub(world);
  const beside = join(dirname(path), `.${basename(path)}.new-${world.random.uuid()}`);
  const raw = request.format === "raw" ? beside : join(directory, "disk.raw");
  try {
    const proof = await makeRaw(job, raw, directory);
    await finish(job, raw, beside, directory);
    await makeDurable(world, beside);
    request.signal.throwIfAborted();
    /* A link fails where something has come meanwhile; a rename would replace it. */
    await world.files.link(beside, path);
    const status = await world.files.status(path);
    const { sizeBytes = 0, allocatedBytes = 0 } = status ?? {};
    return { file: { path, sizeBytes, allocatedBytes }, proof };
  } finally {
    await world.files.remove(beside);
  }
}

function checkArchitecture({ architecture, name }: ExportMachine): void {
  if (architecture === "amd64") return;
  const problem = `is for ${architecture}; only machines of amd64 are exported`;
  throw unsuitable(`machine "${name}"`, problem, "export it on a cloud that can");
}

async function withLayers<T>(
  world: World,
  { disks }: ExportMachine,
  work: (layers: readonly Tree[]) => Promise<T>,
): Promise<T> {
  const sources: Awaited<ReturnType<typeof fileSource>>[] = [];
  try {
    const layers: Tree[] = [];
    for (const { path } of disks.layers) {
      const source = await fileSource(world, path);
      sources.push(source);
      layers.push(await readErofs(source));
    }
    return await work(layers);
  } finally {
    for (const source of sources) await source.close();
  }
}

/**
 * Reads a machine and plans its disk; `use` may have it written, and ends before the layers are closed.
 *
 * @throws `export.machine-unsuitable`, `export.size-invalid` (misuse), `export.boot-loader-missing`,
 *   `export.tool-failed` (environment), `export.proof-failed` (bug), and what reading the layers and
 *   the user data block throws
 */
export async function planExport<T>(
  world: World,
  request: ExportRequest,
  use: (planned: PlannedExport) => Promise<T>,
): Promise<T> {
  const { machine, progress, signal, sizeBytes } = request;
  checkArchitecture(machine);
  progress({ step: "read", detail: machine.name });
  const identity = identityOf(machine.uuid);
  return await withLayers(world, machine, async (layers) => {
    const root = await exportedRoot(machine, layers, identity.fileSystem);
    signal.throwIfAborted();
    const layout = diskLayout(root.target.tree, machine.data.sizeBytes, sizeBytes);
    checkFormat(request.format, layout);
    const job = { world, request, root, layout, identity };
    return await use({ survey: surveyOf(job), write: (target) => write(job, target) });
  });
}
