/**
 * A machine's user data on disk. Where there is a `disk.FORMAT`, that is the user data block, and
 * nothing else counts (see formatted-data.ts). Else `data.raw` alone is the user data block; with `data.qcow2` over it,
 * the overlay is, and `data.raw` stays as it arrived: the machine's lineage. Lists of block digests
 * say which data a file holds: `data.raw.blocks` those of `data.raw`, `handed.blocks` those of the
 * user data block as it was when it was sent to another cloud. A list is removed before what it tells
 * of changes, so one that is there is true.
 */
import { join } from "node:path";
import {
  applyOverlay,
  convertDisk,
  createOverlay,
  openFileDevice,
  openOverlayDevice,
  readBlockDigests,
  saveBlockDigests,
  type BlockDevice,
  type BlockDigests,
} from "#block";
import { reportOf, type Digest, type DiskFormat, type World } from "#core";
import { blocksPath, type Lineage } from "#transfer";
import { formattedIn, formattedPath, openFormatted, removeFormatted } from "./formatted-data.ts";

const rawPath = (directory: string): string => join(directory, "data.raw");
const overlayPath = (directory: string): string => join(directory, "data.qcow2");
const arrivedPath = (directory: string): string => blocksPath(rawPath(directory));
const handedPath = (directory: string): string => join(directory, "handed.blocks");

/** What a hypervisor attaches. */
export interface MachineDisk {
  readonly dataPath: string;
  /** Absent: raw, or an overlay over `basePath`. */
  readonly dataFormat?: DiskFormat;
  /** The raw file under an overlay. */
  readonly basePath?: string;
}

async function exists({ files }: World, path: string): Promise<boolean> {
  return (await files.status(path)) !== undefined;
}

export async function diskOf(world: World, directory: string): Promise<MachineDisk> {
  const formatted = await formattedIn(world, directory);
  if (formatted !== undefined) {
    return { dataPath: formatted.path, dataFormat: formatted.format };
  }
  const dataPath = overlayPath(directory);
  if (!(await exists(world, dataPath))) return { dataPath: rawPath(directory) };
  return { dataPath, basePath: rawPath(directory) };
}

/** Called before a machine runs: lists that will not be true any more go. */
export async function beginRun(world: World, directory: string): Promise<void> {
  await world.files.remove(handedPath(directory));
  if (!(await exists(world, overlayPath(directory)))) {
    await world.files.remove(arrivedPath(directory));
  }
}

/**
 * The user data block, read-only, whichever files it is made of. The machine should not run.
 *
 * @throws `system.not-found`, `block.overlay-unsupported`, `agent.disk-unreadable`
 */
export async function openMachineData(world: World, directory: string): Promise<BlockDevice> {
  const formatted = await formattedIn(world, directory);
  if (formatted !== undefined) return await openFormatted(world, formatted);
  return (await openParts(world, directory)).device;
}

async function openParts(world: World, directory: string) {
  const raw = await openFileDevice(world, rawPath(directory), { readOnly: true });
  try {
    if (!(await exists(world, overlayPath(directory)))) return { device: raw };
    const overlay = await openOverlayDevice(world, overlayPath(directory), raw);
    return { device: overlay, overlay };
  } catch (cause) {
    await raw.close();
    throw cause;
  }
}

/**
 * The user data block as it arrived, with what has changed since, when its digest is this one and it
 * is still there.
 */
export async function openArrived(
  world: World,
  directory: string,
  digest: Digest,
): Promise<Lineage | undefined> {
  if ((await formattedIn(world, directory)) !== undefined) return undefined;
  const digests = await arrivedDigests(world, directory);
  if (digests?.userDataDigest().digest !== digest) return undefined;
  const { overlay } = await openParts(world, directory);
  if (overlay === undefined) return undefined;
  const changed = overlay.changed();
  await overlay.close();
  const old = await openFileDevice(world, rawPath(directory), { readOnly: true });
  return { old, changed, digests };
}

async function digestsIn(
  world: World,
  directory: string,
  path: string,
): Promise<BlockDigests | undefined> {
  const status = await world.files.status(rawPath(directory));
  return status === undefined ? undefined : await readBlockDigests(world, path, status.sizeBytes);
}

async function arrivedDigests(world: World, directory: string): Promise<BlockDigests | undefined> {
  return await digestsIn(world, directory, arrivedPath(directory));
}

/** Notes which data were sent to another cloud. */
export async function noteSent(
  world: World,
  directory: string,
  digests: BlockDigests,
): Promise<void> {
  await saveBlockDigests(world, handedPath(directory), digests);
}

/**
 * Brings data that have arrived whole to their place. A copy of earlier data goes before; what is
 * done twice changes nothing.
 */
export async function placeArrived(
  world: World,
  arrived: string,
  directory: string,
): Promise<void> {
  const { files } = world;
  if (!(await exists(world, arrived))) return;
  await files.remove(handedPath(directory));
  await files.remove(overlayPath(directory));
  await files.remove(arrivedPath(directory));
  await removeFormatted(world, directory);
  if (await exists(world, blocksPath(arrived))) {
    await files.rename(blocksPath(arrived), arrivedPath(directory));
  }
  await files.rename(arrived, rawPath(directory));
}

/**
 * Lets the machine, which has not run here yet, write to an overlay, so that what arrived stays. It
 * is no error when that cannot be: then a later migration moves more bytes.
 *
 * @param bytesMax a larger copy is not kept; 0 for none
 */
export async function keepArrived(
  world: World,
  directory: string,
  bytesMax: number,
): Promise<void> {
  const status = await world.files.status(rawPath(directory));
  const listed = await exists(world, arrivedPath(directory));
  if (listed && status !== undefined && status.allocatedBytes <= bytesMax) {
    try {
      const path = overlayPath(directory);
      if (!(await exists(world, path))) await createOverlay(world, { path, baseName: "data.raw" });
      return;
    } catch (error) {
      world.log.log("warn", "what arrived is not kept", { directory, ...reportOf(error) });
    }
  }
  await world.files.remove(arrivedPath(directory));
}

/**
 * Brings what arrived, of a machine that has not run here yet, into another format. Interrupted and
 * done again, it goes on.
 *
 * @throws `block.convert-failed`
 */
export async function formatArrived(
  world: World,
  directory: string,
  format: DiskFormat,
): Promise<void> {
  const { files } = world;
  const path = formattedPath(directory, format);
  if (!(await exists(world, path))) {
    await convertDisk(world, { path: rawPath(directory), format: "raw" }, { path, format });
  }
  await files.remove(arrivedPath(directory));
  await files.remove(rawPath(directory));
}

/**
 * Makes the copy of a machine that is gone raw again, so that it is of use when the machine comes back.
 * Interrupted, it is the same copy; done again, it goes on.
 *
 * @throws `block.convert-failed`; the copy stays as it is
 */
export async function unformatKept(world: World, directory: string): Promise<void> {
  const formatted = await formattedIn(world, directory);
  if (formatted === undefined) return;
  await convertDisk(world, formatted, { path: rawPath(directory), format: "raw" });
  await world.files.remove(formatted.path);
}

/** The digest of the copy that was handed over, of a machine that is gone. */
export async function keptDigest(world: World, directory: string): Promise<Digest | undefined> {
  const kept =
    (await digestsIn(world, directory, handedPath(directory))) ??
    ((await exists(world, overlayPath(directory)))
      ? undefined
      : await arrivedDigests(world, directory));
  return kept?.userDataDigest().digest;
}

/**
 * Makes one raw file of the copy of a machine that is gone, so that changes can be made to it.
 * Interrupted, it is the same copy; done again, it goes on.
 */
export async function joinKept(
  world: World,
  directory: string,
): Promise<{ readonly path: string; readonly digest: Digest } | undefined> {
  const { files } = world;
  const digest = await keptDigest(world, directory);
  if (digest === undefined) return undefined;
  await joinOverlay(world, directory);
  if (await exists(world, handedPath(directory))) {
    await files.rename(handedPath(directory), arrivedPath(directory));
  }
  return { path: rawPath(directory), digest };
}

async function joinOverlay(world: World, directory: string): Promise<void> {
  const { files } = world;
  if (!(await exists(world, overlayPath(directory)))) return;
  await files.remove(arrivedPath(directory));
  await applyChanges(world, directory);
  await files.remove(overlayPath(directory));
}

/**
 * Opens whatever copy there is of a machine that is not here, for changes: nobody takes it for a known
 * one any more. Interrupted and done again, it goes on.
 *
 * @returns undefined where there is none of this size
 */
export async function openKept(
  world: World,
  directory: string,
  sizeBytes: number,
): Promise<BlockDevice | undefined> {
  const { files } = world;
  const status = await files.status(rawPath(directory));
  if (status?.kind !== "file" || status.sizeBytes !== sizeBytes) return undefined;
  await files.remove(handedPath(directory));
  await files.remove(arrivedPath(directory));
  await joinOverlay(world, directory);
  return await openFileDevice(world, rawPath(directory), { readOnly: false });
}

async function applyChanges(world: World, directory: string): Promise<void> {
  const { device, overlay } = await openParts(world, directory);
  try {
    const raw = await openFileDevice(world, rawPath(directory), { readOnly: false });
    try {
      if (overlay !== undefined) await applyOverlay(overlay, raw);
    } finally {
      await raw.close();
    }
  } finally {
    await device.close();
  }
}

/** What the copy of a machine that is gone takes on the disk, and since when it is there. */
export async function keptSize(
  world: World,
  directory: string,
): Promise<{ readonly bytes: number; readonly since_ms: number } | undefined> {
  const [raw, overlay] = await Promise.all([
    world.files.status(rawPath(directory)),
    world.files.status(overlayPath(directory)),
  ]);
  const formatted = await formattedIn(world, directory);
  if (formatted !== undefined) {
    const status = await world.files.status(formatted.path);
    return { bytes: status?.allocatedBytes ?? 0, since_ms: status?.modified_ms ?? 0 };
  }
  if (raw === undefined) return undefined;
  const since_ms = Math.max(raw.modified_ms, overlay?.modified_ms ?? 0);
  return { bytes: raw.allocatedBytes + (overlay?.allocatedBytes ?? 0), since_ms };
}

/** Removes the copy of a machine that is gone; its description stays. */
export async function removeKept(world: World, directory: string): Promise<void> {
  const paths = [handedPath, arrivedPath, overlayPath, rawPath].map((path) => path(directory));
  for (const path of paths) await world.files.remove(path);
  await removeFormatted(world, directory);
}
