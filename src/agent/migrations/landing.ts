import { join } from "node:path";
import { componentsOf, TesseraError, type Machine } from "#core";
import type { DestinationEvent } from "#migration";
import type { StoredMachine } from "../machine-store.ts";
import type { Happening } from "./course.ts";
import type { DestinationRecord } from "./record.ts";
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
): Promise<Happening<DestinationRecord, DestinationEvent>> {
  const { world, machines } = tools;
  const { uuid } = record.machine;
  const stored = await settle(tools, record);
  if (record.wasRunning && machines.running(uuid) === undefined) {
    await startOnce(tools, record, stored);
  }
  return { event: "started", patch: { on_ms: world.clock.now() } };
}

async function settle(tools: MigrationTools, record: DestinationRecord): Promise<StoredMachine> {
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
  if ((await world.files.status(data)) !== undefined) {
    await world.files.rename(data, machines.store.dataPath(uuid));
  }
  const machine: Machine = {
    uuid,
    name,
    appliance: record.appliance,
    state: "stopped",
    created_ms,
    migration: record.id,
    hostPorts: {},
  };
  const stored: StoredMachine = { machine, composed: record.composed };
  await machines.store.save(stored);
  return stored;
}

async function startOnce(
  tools: MigrationTools,
  record: DestinationRecord,
  stored: StoredMachine,
): Promise<void> {
  const { machines } = tools;
  const { uuid } = record.machine;
  if (stored.ranIn === record.id) return await startAgain(tools, record);
  // Written before the start: a crash in between is taken for a machine that has run.
  await machines.update(uuid, (now) => ({ ...now, ranIn: record.id }));
  try {
    await machines.start(uuid);
  } catch (cause) {
    await machines.update(uuid, ({ ranIn: _never, ...now }) => now);
    throw cause;
  }
}

async function startAgain(tools: MigrationTools, record: DestinationRecord): Promise<void> {
  const { uuid, name } = record.machine;
  try {
    await tools.machines.start(uuid);
  } catch (cause) {
    const message = `machine "${name}" had been started here and cannot be started again`;
    throw new TesseraError("environment", "agent.machine-ran", message, { subject: uuid, cause });
  }
}

/** Removes what an aborted migration left, but never a machine that has run here. */
export async function removeIncoming(
  tools: MigrationTools,
  record: DestinationRecord,
): Promise<void> {
  const { world, machines, store, layout } = tools;
  const { uuid } = record.machine;
  await world.files.removeTree(join(layout.incoming, record.id));
  const stored = await machines.store.find(uuid);
  if (stored?.machine.migration === record.id && stored.ranIn !== record.id) {
    await machines.store.remove(uuid);
    await store.unpin(`machine:${uuid}`);
  }
  await store.unpin(`migration:${record.id}`);
}
