/** Composing: from an appliance to the disks of a machine, by reference. */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { TesseraError, componentsOf } from "#core";
import type { Appliance, Component, ComposedDisks, Digest, World } from "#core";
import { fileSource, readErofs, writeCpio, writeErofs } from "#image";
import type { ComponentStore } from "#repository";
import { refuseUnmet } from "./constraints.ts";
import { glueTree } from "./glue.ts";
import { initramfsTree, vmlinuxOf } from "./initramfs.ts";
import { APPLETS, INIT_SCRIPT, SHUTDOWN_SCRIPT } from "./init-script.ts";
import type { FragmentSource } from "./merge.ts";
import { copyTo, holds, removeStale, superblockUuid, writeOutput } from "./outputs.ts";
import { composedDigest, digestOf, readRecord, writeRecord } from "./record.ts";
import type { ComposedRecord, Layer, Output } from "./record.ts";
import { applianceDigest } from "./resolve.ts";

/** Part of the inputs: to be raised when the same components would give other bytes. */
const COMPOSER_VERSION = 1;

/** x86 takes 2048 bytes (COMMAND_LINE_SIZE); the rest is for the hypervisor and the machine. */
const COMMAND_LINE_BYTES_MAX = 1792;

export interface ComposeOptions {
  /** Compose although the package tools in the guest will complain; default false. */
  readonly allowPackageFaults?: boolean;
}

interface Job {
  readonly world: World;
  readonly store: ComponentStore;
  readonly directory: string;
  readonly components: readonly Component[];
  readonly inputs: Digest;
}

/**
 * Composes an appliance into `directory`: the components stay where the repository has them, and
 * only the glue, the kernel, the initramfs and `composed.json` are written, each atomically, the
 * last of them last. Calling it again is cheap and gives the same; what is damaged is made anew.
 * The time depends on the number of components and not on their sizes.
 *
 * @throws `compose.component-missing`, `compose.constraint-unmet`, `compose.fragment-conflict`,
 *   `compose.kernel-unsuitable`, `compose.too-many-components`, `compose.appliance-mismatch`
 *   (misuse), and what the repository and the file system throw
 */
export async function compose(
  world: World,
  store: ComponentStore,
  appliance: Appliance,
  directory: string,
  options: ComposeOptions = {},
): Promise<ComposedDisks> {
  const components = await findComponents(store, appliance);
  refuseUnmet(components, { allowPackageFaults: options.allowPackageFaults ?? false });
  const inputs = inputsDigest(components);
  const job: Job = { world, store, directory, components, inputs };
  const known = await readRecord(world, join(directory, "composed.json"));
  const record = known !== undefined && (await isCurrent(job, known)) ? known : await make(job);
  return disksOf(job, record);
}

async function findComponents(store: ComponentStore, appliance: Appliance): Promise<Component[]> {
  const references = componentsOf(appliance);
  const found = await Promise.all(references.map(({ id }) => store.find(id)));
  const missing = references.filter((_, index) => found[index] === undefined);
  if (missing.length > 0) {
    const names = missing.map(({ name, version }) => `${name} ${version}`).join(", ");
    throw new TesseraError("misuse", "compose.component-missing", `not held here: ${names}`, {
      subject: missing[0]?.id ?? "",
      remedy: "build or fetch the components first",
    });
  }
  const components = found.filter((component) => component !== undefined);
  checkAppliance(appliance, components);
  return components;
}

/** An appliance may come from another cloud: its digest and kinds are not taken on trust. */
function checkAppliance(appliance: Appliance, components: readonly Component[]): void {
  const digest = applianceDigest(components.map(({ id }) => id));
  const kinds = components.map(({ description }) => description.kind);
  const expected = kinds.map((_, index) => ["kernel", "os"][index] ?? "program");
  const fits = kinds.every((kind, index) => kind === expected[index]);
  if (digest === appliance.digest && fits) return;
  const message = fits
    ? `the appliance ${appliance.name} has the digest ${digest}, not ${appliance.digest}`
    : `the appliance ${appliance.name} is made of ${kinds.join(", ")} and not of a kernel, an OS and programs`;
  throw new TesseraError("misuse", "compose.appliance-mismatch", message, {
    subject: appliance.digest,
    remedy: "resolve the appliance again",
  });
}

function inputsDigest(components: readonly Component[]): Digest {
  const scripts = createHash("sha256");
  for (const part of [INIT_SCRIPT, SHUTDOWN_SCRIPT, ...APPLETS]) scripts.update(`${part}\0`);
  return digestOf({
    composer: COMPOSER_VERSION,
    scripts: scripts.digest("hex"),
    components: components.map(({ id, fragments, description }) => ({
      id,
      fragments: fragments.digest,
      name: description.name,
      ...(description.kernelRelease === undefined ? {} : { release: description.kernelRelease }),
    })),
  });
}

const paths = (directory: string) => ({
  glue: join(directory, "glue.erofs"),
  kernel: join(directory, "vmlinux"),
  initramfs: join(directory, "initramfs.cpio"),
  record: join(directory, "composed.json"),
});

async function isCurrent(
  { world, directory, inputs }: Job,
  known: ComposedRecord,
): Promise<boolean> {
  const glue = known.layers.at(-1);
  if (known.inputs !== inputs || glue === undefined) return false;
  const at = paths(directory);
  return (
    (await holds(world, at.glue, glue)) &&
    (await holds(world, at.initramfs, known.initramfs)) &&
    (await holds(world, at.kernel, known.kernel))
  );
}

async function make(job: Job): Promise<ComposedRecord> {
  await job.world.files.makeDirectory(job.directory);
  await removeStale(job.world, job.directory);
  const layers = [...(await componentLayers(job)), await makeGlue(job)];
  const { kernel, initramfs } = await makeBootFiles(job);
  const record: ComposedRecord = {
    inputs: job.inputs,
    appliance: applianceDigest(job.components.map(({ id }) => id)),
    kernel,
    initramfs,
    commandLine: commandLineOf(layers),
    layers,
  };
  await writeRecord(job.world, paths(job.directory).record, record);
  return record;
}

async function componentLayers({ world, store, components }: Job): Promise<Layer[]> {
  return Promise.all(
    components.map(async ({ id, sizeBytes, description }) => {
      const uuid = await superblockUuid(world, await store.imagePath(id));
      return { digest: id, sizeBytes, name: description.name, uuid };
    }),
  );
}

async function makeGlue({ world, store, directory, components }: Job): Promise<Layer> {
  const sources = await Promise.all(
    components.slice(1).map(async ({ id, description }): Promise<FragmentSource> => {
      return { owner: description.name, fragments: await store.fragments(id) };
    }),
  );
  const [os, ...programs] = sources;
  const tree = glueTree(os ?? { owner: "", fragments: [] }, programs);
  const path = paths(directory).glue;
  const output = await writeOutput(world, path, (sink) => writeErofs(tree, sink));
  return { ...output, name: "glue", uuid: await superblockUuid(world, path) };
}

async function makeBootFiles(
  job: Job,
): Promise<{ readonly kernel: Output; readonly initramfs: Output }> {
  const { world, store, directory, components } = job;
  const [component] = components;
  const release = component?.description.kernelRelease;
  if (component === undefined || release === undefined) throw withoutRelease(component);
  const image = await fileSource(world, await store.imagePath(component.id));
  try {
    const tree = await readErofs(image);
    const at = paths(directory);
    const content = vmlinuxOf(tree);
    const kernel = await writeOutput(world, at.kernel, (sink) => copyTo(sink, content));
    const archive = await initramfsTree(tree, release);
    const initramfs = await writeOutput(world, at.initramfs, (sink) => writeCpio(archive, sink));
    return { kernel, initramfs };
  } finally {
    await image.close();
  }
}

function withoutRelease(component: Component | undefined): TesseraError {
  const message = `the kernel component ${component?.description.name ?? ""} does not say its release`;
  return new TesseraError("misuse", "compose.kernel-unsuitable", message, {
    subject: component?.id ?? "",
    remedy: "build the kernel component again",
  });
}

/** A kernel that panics restarts, which ends a hypervisor process that was told not to restart. */
function commandLineOf(layers: readonly Layer[]): string {
  const uuids = layers.map(({ uuid }) => uuid.replaceAll("-", "")).join(",");
  const commandLine = `quiet panic=10 tessera.layers=${uuids}`;
  if (commandLine.length <= COMMAND_LINE_BYTES_MAX) return commandLine;
  const message = `${layers.length} layers do not fit on a kernel command line`;
  throw new TesseraError("misuse", "compose.too-many-components", message, {
    remedy: "use fewer programs",
  });
}

async function disksOf(
  { store, directory, components }: Job,
  record: ComposedRecord,
): Promise<ComposedDisks> {
  const at = paths(directory);
  const images = await Promise.all(components.map(({ id }) => store.imagePath(id)));
  return {
    appliance: record.appliance,
    digest: composedDigest(record),
    kernelPath: at.kernel,
    initramfsPath: at.initramfs,
    commandLine: record.commandLine,
    layers: record.layers.map((layer, index) => ({ ...layer, path: images[index] ?? at.glue })),
  };
}
