import { join } from "node:path";
import { componentsOf, TesseraError, type Machine } from "#core";
import type { DestinationEvent } from "#migration";
import { formatArrived, keepArrived, placeArrived } from "../machine-data.ts";
import { handedTo, type StoredMachine } from "../machine-store.ts";
import { detachShared } from "../shared-data.ts";
import type { Starter } from "../machine-rules.ts";
import type { Happening } from "./course.ts";
import type { DestinationPart, DestinationRecord } from "./record.ts";
import type { MigrationTools } from "./tools.ts";

export function incomingDataPath(tools: MigrationTools, migration: string): string {
  return join(tools.layout.incoming, migration, "data.raw");
}

/**
 * Makes the machine this cloud's and starts it. Called with the hand-over token durable; does the
 * same again after a crash at any point.
 *
 * @throws `agent.machine-ran` when the machine had been started here before and cannot be again:
 * then there is no way back; any other error means that it never ran here.
 */
export async function landMachine(
  tools: MigrationTools,
  record: DestinationRecord,
  signal: AbortSignal,
): Promise<Happening<DestinationRecord, DestinationEvent>> {
  const { world, machines } = tools;
  const { uuid } = record.machine;
  const stored = await settle(tools, record);
  signal.throwIfAborted();
  if (record.wasRunning && machines.running(uuid) === undefined) {
    await startOnce(tools, record, { stored, signal });
  }
  return { event: "started", patch: { on_ms: world.clock.now() } };
}

async function settle(tools: MigrationTools, record: DestinationRecord): Promise<StoredMachine> {
  const { format } = record;
  return await settleMachine(tools, record, async (directory) => {
    if (format === undefined || format === "raw") {
      await keepArrived(tools.world, directory, tools.lineageBytesMax);
    } else await formatArrived(tools.world, directory, format);
  });
}

/**
 * Brings what has arrived of a machine to its place and describes it, stopped and marked.
 *
 * @param placed called with its directory before the description is written
 */
export async function settleMachine(
  tools: MigrationTools,
  record: DestinationPart,
  placed: (directory: string) => Promise<void> = () => Promise.resolve(),
): Promise<StoredMachine> {
  const { world, machines, store } = tools;
  const { uuid, name, created_ms } = record.machine;
  const known = await machines.store.find(uuid);
  const data = incomingDataPath(tools, record.id);
  if (known?.machine.migration === record.id && (await world.files.status(data)) === undefined) {
    return known;
  }
  await store.pin(
    `machine:${uuid}`,
    componentsOf(record.appliance).map(({ id }) => id),
  );
  await world.files.makeDirectory(machines.store.directory(uuid), 0o700);
  const directory = machines.store.directory(uuid);
  await placeArrived(world, data, directory);
  await placed(directory);
  const machine: Machine = {
    uuid,
    name,
    appliance: record.appliance,
    state: "stopped",
    created_ms,
    migration: record.id,
    hostPorts: {},
    ...formatOf(record),
  };
  const stored: StoredMachine = { machine, composed: record.composed };
  await machines.store.save(stored);
  return stored;
}

function formatOf(record: DestinationPart): Pick<Machine, "format"> {
  if (!("format" in record)) return {};
  const { format } = record as DestinationRecord;
  return format === undefined || format === "raw" ? {} : { format };
}

async function startOnce(
  tools: MigrationTools,
  record: DestinationRecord,
  { stored, signal }: { readonly stored: StoredMachine; readonly signal: AbortSignal },
): Promise<void> {
  const { machines } = tools;
  const { uuid } = record.machine;
  const starter = { migration: record.id, signal };
  if (stored.ranIn === record.id) return await startAgain(tools, record, starter);
  // Written before the start: a crash in between is taken for a machine that has run.
  await machines.update(uuid, (now) => ({ ...now, ranIn: record.id }));
  try {
    await machines.start(uuid, starter);
  } catch (cause) {
    await machines.update(uuid, ({ ranIn: _never, ...now }) => now);
    throw cause;
  }
}

async function startAgain(
  tools: MigrationTools,
  record: DestinationRecord,
  starter: Starter,
): Promise<void> {
  const { uuid, name } = record.machine;
  try {
    await tools.machines.start(uuid, starter);
  } catch (cause) {
    const message = `machine "${name}" had been started here and cannot be started again`;
    throw new TesseraError("environment", "agent.machine-ran", message, { subject: uuid, cause });
  }
}

/**
 * Stops the copy that the source's operator has taken the machine back from, and keeps it as an
 * earlier copy that nobody can start.
 */
export async function fenceMachine(
  tools: MigrationTools,
  { id, peer, machine }: DestinationPart,
): Promise<void> {
  const { world, machines, store, layout } = tools;
  if ((await machines.store.find(machine.uuid)) !== undefined) {
    await machines.stop(machine.uuid);
    await machines.update(machine.uuid, (stored) => handedTo(stored, id, peer));
    await detachShared(world, machines.store.directory(machine.uuid));
  }
  await world.files.removeTree(join(layout.incoming, id));
  await store.unpin(`migration:${id}`);
}

/** Removes what an aborted migration left, but never a machine that has run here. */
export async function removeIncoming(
  tools: MigrationTools,
  record: DestinationPart,
): Promise<void> {
  const { world, machines, store, layout } = tools;
  const { uuid } = record.machine;
  await world.files.removeTree(join(layout.incoming, record.id));
  const stored = await machines.store.find(uuid);
  const landed = stored?.machine.migration === record.id && stored.ranIn !== record.id;
  // Without a description it is what a landing left that could not write one.
  if (landed || stored === undefined) {
    await machines.store.remove(uuid);
    await store.unpin(`machine:${uuid}`);
  }
  await store.unpin(`migration:${record.id}`);
}
