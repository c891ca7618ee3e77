/** Copies of machines that were handed over: what a machine comes back to. */
import { createFileDevice, type BlockDevice } from "#block";
import { reportOf, type Digest } from "#core";
import {
  joinKept,
  keptDigest,
  keptSize,
  openKept,
  removeKept,
  unformatKept,
} from "../machine-data.ts";
import { detachShared, removeShared } from "../shared-data.ts";
import type { SourcePart } from "./record.ts";
import type { MigrationTools } from "./tools.ts";

async function isGone({ machines }: MigrationTools, uuid: string): Promise<boolean> {
  return (await machines.store.find(uuid))?.machine.state === "gone";
}

/** The digest of the copy of a machine that is elsewhere. */
export async function keptDigestOf(
  tools: MigrationTools,
  uuid: string,
): Promise<Digest | undefined> {
  if (!(await isGone(tools, uuid))) return undefined;
  return await keptDigest(tools.world, tools.machines.store.directory(uuid));
}

/**
 * Readies the copy of a machine that is on its way back. It is no error when there is none, or when
 * it cannot be used: then all blocks travel.
 */
export async function prepareKept(
  tools: MigrationTools,
  uuid: string,
): Promise<{ readonly path: string; readonly digest: Digest } | undefined> {
  if (!(await isGone(tools, uuid))) return undefined;
  try {
    return await joinKept(tools.world, tools.machines.store.directory(uuid));
  } catch (error) {
    tools.world.log.log("warn", "an earlier copy cannot be used", { uuid, ...reportOf(error) });
    return undefined;
  }
}

/** Whether a copy of a machine that is elsewhere is here, of whatever age, and may be used. */
export async function hasKept(tools: MigrationTools, uuid: string): Promise<boolean> {
  if (tools.lineageBytesMax === 0 || !(await isGone(tools, uuid))) return false;
  const directory = tools.machines.store.directory(uuid);
  return (await keptSize(tools.world, directory)) !== undefined;
}

/**
 * Moves the copy of a machine that is gone to `path`, where it becomes a part of what arrives.
 *
 * @returns whether there was one that may be used
 */
export async function takeKept(
  tools: MigrationTools,
  { uuid, sizeBytes, path }: { uuid: string; sizeBytes: number; path: string },
): Promise<boolean> {
  const { world, machines } = tools;
  if (!(await hasKept(tools, uuid))) return false;
  try {
    const device = await openKept(world, machines.store.directory(uuid), sizeBytes);
    await device?.close();
    if (device !== undefined) await world.files.rename(machines.store.dataPath(uuid), path);
    return device !== undefined;
  } catch (error) {
    world.log.log("warn", "an earlier copy cannot be used", { uuid, ...reportOf(error) });
    return false;
  }
}

/** A disk for a machine that arrives while it runs. */
export interface ArrivingFile {
  readonly device: BlockDevice;
  /** It holds an earlier copy, or part of what an earlier attempt has read: nothing of it counts. */
  readonly earlier: boolean;
  /** The earlier copy is one that this cloud kept when it handed the machine over. */
  readonly lineage: boolean;
}

/**
 * The file of a machine that arrives while it runs, at its place: what is there of the machine, or
 * else an empty one. Its directory exists.
 *
 * @param keep false: what is there goes
 */
export async function openArriving(
  tools: MigrationTools,
  { uuid, sizeBytes, keep }: { uuid: string; sizeBytes: number; keep: boolean },
): Promise<ArrivingFile> {
  const { world, machines } = tools;
  const directory = machines.store.directory(uuid);
  // What this migration has read is used in any case.
  const wanted = tools.lineageBytesMax > 0 || !(await isGone(tools, uuid));
  const kept =
    keep && wanted
      ? await openKept(world, directory, sizeBytes).catch((error: unknown) => {
          world.log.log("warn", "an earlier copy cannot be used", { uuid, ...reportOf(error) });
          return undefined;
        })
      : undefined;
  if (kept !== undefined) {
    return { device: kept, earlier: true, lineage: await isGone(tools, uuid) };
  }
  await removeKept(world, directory);
  const device = await createFileDevice(world, machines.store.dataPath(uuid), sizeBytes);
  return { device, earlier: false, lineage: false };
}

/**
 * Lets go of the user data block of a machine that has been handed over, where it lies on shared
 * storage: there no earlier copy is kept. Others stay, as raw files.
 *
 * @param together the other cloud goes on with the very file
 */
export async function releaseData(
  tools: MigrationTools,
  { machine }: SourcePart,
  together: boolean,
): Promise<void> {
  const { world, machines } = tools;
  const directory = machines.store.directory(machine.uuid);
  await (together ? detachShared : removeShared)(world, directory);
  if (tools.lineageBytesMax === 0) return;
  await unformatKept(world, directory).catch((error: unknown) => {
    const report = reportOf(error);
    world.log.log("warn", "an earlier copy stays in its format", { directory, ...report });
  });
}

/**
 * Removes copies of machines that are gone, the oldest first, until the rest is within the bound.
 * Where a migration of the machine is still open, the copy stays. Failing is logged.
 */
export async function evictKept(tools: MigrationTools): Promise<void> {
  try {
    await evict(tools);
  } catch (error) {
    tools.world.log.log("warn", "earlier copies stay", { ...reportOf(error) });
  }
}

async function evict({ world, machines, journal, lineageBytesMax }: MigrationTools): Promise<void> {
  // Without lineage copies stay until their machines are removed.
  if (lineageBytesMax === 0) return;
  const records = journal.list().filter(({ settled }) => !settled);
  const open = new Set(records.map(({ machine }) => machine.uuid));
  const copies: {
    readonly directory: string;
    readonly bytes: number;
    readonly since_ms: number;
  }[] = [];
  for (const { machine } of await machines.store.list()) {
    if (machine.state !== "gone" || open.has(machine.uuid)) continue;
    const directory = machines.store.directory(machine.uuid);
    const size = await keptSize(world, directory);
    if (size !== undefined) copies.push({ directory, ...size });
  }
  let bytes = 0;
  for (const copy of copies.toSorted((one, other) => other.since_ms - one.since_ms)) {
    bytes += copy.bytes;
    if (bytes > lineageBytesMax) await removeKept(world, copy.directory);
  }
}
