import { z } from "zod";
import { hasCode, TesseraError, type World } from "#core";
import { isGone, waitGone } from "./find.ts";
import { readyFile, removeSockets, type Layout } from "./layout.ts";
import type { KnownLaunch } from "./machine.ts";
import { Qmp } from "./qmp.ts";
import { readRecord, writeRecord } from "./record.ts";

export type StopOutcome = "graceful" | "forced";

/** A guest that has not loaded its button driver yet misses a press, so it is repeated. */
const PRESS_AGAIN_MS = 5000;
/** From the guest's end to QEMU's: it writes back what it holds. */
const FLUSH_MS = 30_000;
const QUIT_MS = 5000;
const KILL_MS = 10_000;
const GUEST_SHUTDOWN = z.object({ guest: z.literal(true) });

/**
 * Presses the power button and waits; by force after `timeout_ms` (`quit`, then SIGKILL). On
 * return the process is gone and the user data block is durable. `graceful` means that the guest
 * itself has powered off; the outcome is recorded, so that a repeated call says the same.
 *
 * @throws `hypervisor.stop-failed` when the process does not end even by SIGKILL
 */
export async function stopMachine(
  world: World,
  layout: Layout,
  launch: KnownLaunch,
  timeout_ms: number,
): Promise<StopOutcome> {
  const identity = launch.process;
  const alive = !(await isGone(world, identity));
  const outcome = alive ? await endProcess(world, layout, launch, timeout_ms) : undefined;
  return settle(world, layout, launch, outcome);
}

async function endProcess(
  world: World,
  layout: Layout,
  launch: KnownLaunch,
  timeout_ms: number,
): Promise<StopOutcome> {
  const qmp = await openIfPossible(world, layout);
  try {
    if (qmp !== undefined && (await powerDown(world, launch, qmp, timeout_ms))) return "graceful";
    await force(world, launch, qmp);
    return "forced";
  } finally {
    await qmp?.close();
  }
}

/** A monitor that does not answer is no obstacle: the process is then killed. */
async function openIfPossible(world: World, layout: Layout): Promise<Qmp | undefined> {
  try {
    return await Qmp.open(layout.qmpSocket, world.clock);
  } catch (error) {
    if (!(error instanceof TesseraError)) throw error;
    return undefined;
  }
}

async function powerDown(
  world: World,
  { process }: KnownLaunch,
  qmp: Qmp,
  timeout_ms: number,
): Promise<boolean> {
  let guestEnded = false;
  let pressed = false;
  qmp.onEvent(({ event, data }) => {
    guestEnded ||= event === "SHUTDOWN" && GUEST_SHUTDOWN.safeParse(data).success;
  });
  const deadline = world.clock.monotonic() + timeout_ms;
  for (;;) {
    const rest = deadline - world.clock.monotonic();
    if (rest <= 0) break;
    pressed = (await attempt(qmp, "system_powerdown")) || pressed;
    if (!pressed) break;
    if (await waitGone(world, process, Math.min(PRESS_AGAIN_MS, rest))) break;
  }
  if (guestEnded || !world.processes.alive(process)) await waitGone(world, process, FLUSH_MS);
  // The monitor's last words come before it is closed.
  if (await isGone(world, process)) await qmp.closed;
  return guestEnded && (await isGone(world, process));
}

/** False when the monitor has gone away or refuses. */
async function attempt(qmp: Qmp, command: string): Promise<boolean> {
  try {
    await qmp.execute(command, {}, { timeout_ms: QUIT_MS });
    return true;
  } catch (error) {
    if (error instanceof TesseraError) return false;
    throw error;
  }
}

async function force(world: World, launch: KnownLaunch, qmp: Qmp | undefined): Promise<void> {
  const identity = launch.process;
  if (qmp !== undefined) {
    await attempt(qmp, "quit");
    if (await waitGone(world, identity, QUIT_MS)) return;
  }
  world.processes.kill(identity, "SIGKILL");
  if (await waitGone(world, identity, KILL_MS)) return;
  throw new TesseraError(
    "environment",
    "hypervisor.stop-failed",
    `process ${identity.pid} does not end`,
    { subject: launch.uuid, remedy: "look at the state of the process; its disk may hang" },
  );
}

/** Makes the data durable, records the outcome and removes what only a live process needs. */
async function settle(
  world: World,
  layout: Layout,
  launch: KnownLaunch,
  outcome: StopOutcome | undefined,
): Promise<StopOutcome> {
  await syncFile(world, launch.dataPath);
  const record = await readRecord(world.files, layout);
  const same = record?.launch === launch.launch;
  const stopped = outcome ?? (same ? record.stopped : undefined) ?? "forced";
  if (same) await writeRecord(world.files, layout, { ...launch, stopped });
  await world.files.remove(readyFile(layout, launch.launch));
  if (same) await removeSockets(world.files, layout);
  return stopped;
}

async function syncFile(world: World, path: string): Promise<void> {
  try {
    const file = await world.files.open(path, "write");
    try {
      await file.sync();
    } finally {
      await file.close();
    }
  } catch (error) {
    if (!hasCode(error, "system.not-found")) throw error;
  }
}
