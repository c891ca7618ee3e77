/** A machine that arrives while it runs becomes this cloud's. */
import { hasCode, reportOf, TesseraError } from "#core";
import type { HotDestinationEvent } from "#migration";
import type { Happening } from "../course.ts";
import { removeKept } from "../../machine-data.ts";
import { attachShared, sharedPath } from "../../shared-data.ts";
import { removeIncoming, settleMachine } from "../landing.ts";
import type { HotDestinationRecord } from "../record.ts";
import { seesShared } from "../shared-probe.ts";
import type { MigrationTools } from "../tools.ts";
import { notArrived, type ArrivingMemory } from "./destination-memory.ts";

type Heard = Happening<HotDestinationRecord, HotDestinationEvent>;

/**
 * Lets the guest run here. Called with the hand-over token durable; does the same again after a crash
 * at any point.
 *
 * @throws an error means that it never ran here
 */
export async function resumeMachine(
  tools: MigrationTools,
  record: HotDestinationRecord,
  memory: ArrivingMemory,
  signal: AbortSignal,
): Promise<Heard> {
  const { machines, world } = tools;
  const { uuid } = record.machine;
  const stored = await settleMachine(tools, record);
  const incoming = await memory.hypervisor();
  const ran = stored.ranIn === record.id;
  if (incoming === undefined) {
    if (!ran) throw notArrived("its hypervisor has ended");
    // It may have run: what is left of it is its disk, which is filled first.
    return { event: "resumed", patch: { on_ms: world.clock.now() } };
  }
  if (record.switch?.method === "postcopy") await memory.arriveStatus(signal);
  if (!ran) await machines.update(uuid, (now) => ({ ...now, ranIn: record.id }));
  try {
    await incoming.resume();
  } catch (cause) {
    if (!hasCode(cause, "hypervisor.not-arrived")) throw ranError(record, cause);
    await machines.update(uuid, ({ ranIn: _never, ...now }) => now);
    throw cause;
  }
  const on_ms = world.clock.now();
  await machines.arrived(uuid, incoming.machine);
  return { event: "resumed", patch: { on_ms } };
}

/** A hypervisor that does not answer may have resumed it: it is asked again. */
function ranError({ machine }: HotDestinationRecord, cause: unknown): TesseraError {
  const message = `machine "${machine.name}" may run here: ${reportOf(cause).message}`;
  return new TesseraError("environment", "agent.machine-ran", message, {
    subject: machine.uuid,
    cause,
  });
}

/**
 * Gives the machine's directory its link to the user data block, which both clouds reach.
 *
 * @throws `migration.not-shared` (environment) where it is not there any more
 */
export async function attachArriving(
  tools: MigrationTools,
  { machine, userDataSizeBytes }: HotDestinationRecord,
): Promise<void> {
  const { world, machines, sharedDirectory } = tools;
  const { uuid } = machine;
  const there = await seesShared(tools, uuid, userDataSizeBytes);
  if (sharedDirectory === undefined || !there) {
    const message = `the user data block of machine "${machine.name}" is not on the shared storage`;
    throw new TesseraError("environment", "migration.not-shared", message, {
      subject: uuid,
      remedy: "look whether the storage is mounted at both clouds, then migrate again",
    });
  }
  const directory = machines.store.directory(uuid);
  await world.files.makeDirectory(directory, 0o700);
  await attachShared(world, directory, sharedPath(sharedDirectory, uuid));
}

/** Removes what an aborted migration left; the guest never ran here. */
export async function removeArrival(
  tools: MigrationTools,
  record: HotDestinationRecord,
  memory: ArrivingMemory,
): Promise<void> {
  const { machines } = tools;
  const { id, machine } = record;
  const stored = await machines.store.find(machine.uuid);
  if (stored?.ranIn !== id) await memory.end();
  if (stored?.machine.migration === id && stored.ranIn !== id) await machines.stop(machine.uuid, 0);
  await removeIncoming(tools, record);
  // What it had kept of the machine has become a part of what did not arrive.
  if (stored?.machine.state === "gone") {
    await removeKept(tools.world, machines.store.directory(machine.uuid));
  }
}
