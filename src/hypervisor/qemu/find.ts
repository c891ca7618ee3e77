import type { ProcessIdentity, World } from "#core";
import type { Layout } from "./layout.ts";
import { readPart } from "./texts.ts";

const COMMAND_HEAD_BYTES = 4096;

/**
 * The QEMU of this directory, found by its command line in `/proc` (proc(5)). The record of a
 * launch may lack it, when the agent was killed between making the process and writing it down.
 */
export async function findProcess(
  { files, processes }: World,
  layout: Layout,
): Promise<ProcessIdentity | undefined> {
  const pids = (await files.list("/proc")).filter((name) => /^\d+$/.test(name));
  for (const pid of pids) {
    const head = await readPart(files, `/proc/${pid}/cmdline`, 0, COMMAND_HEAD_BYTES);
    if (head === undefined || !servesDirectory(head, layout)) continue;
    const identity = processes.identify(Number(pid));
    if (identity !== undefined) return identity;
  }
  return undefined;
}

/** Does this command line (arguments ended by zero bytes) name the directory's pid file? */
export function servesDirectory(commandLine: string, layout: Layout): boolean {
  return commandLine.includes(`\0-pidfile\0${layout.pidFile}\0`);
}

/**
 * True when nothing of the process is left: not even a thread that still holds its files, which
 * outlives the main thread's turn into a zombie for a moment.
 */
export async function isGone(world: World, identity: ProcessIdentity): Promise<boolean> {
  const { pid, startTicks, bootId } = identity;
  const now = world.processes.identify(pid);
  if (now !== undefined) return now.startTicks !== startTicks || now.bootId !== bootId;
  return (await world.files.list(`/proc/${pid}/task`)).length <= 1;
}

/** Waits until the process is gone; false when it is not within `timeout_ms`. */
export async function waitGone(
  world: World,
  identity: ProcessIdentity,
  timeout_ms: number,
  interval_ms = 50,
  signal?: AbortSignal,
): Promise<boolean> {
  const deadline = world.clock.monotonic() + timeout_ms;
  for (;;) {
    if (await isGone(world, identity)) return true;
    const rest = deadline - world.clock.monotonic();
    if (rest <= 0) return false;
    await world.clock.sleep(Math.min(interval_ms, rest), signal);
  }
}
