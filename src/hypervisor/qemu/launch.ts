import { hasCode, TesseraError, type ProcessIdentity, type World } from "#core";
import type { MachineSpecification, RunState } from "../contract.ts";
import { qemuArguments, type Accelerator, type Launch } from "./arguments.ts";
import { isGone, waitGone } from "./find.ts";
import { readyFile, removeSockets, type Layout } from "./layout.ts";
import type { KnownLaunch } from "./machine.ts";
import { chooseHostPorts, portWasTaken } from "./ports.ts";
import { Qmp } from "./qmp.ts";
import { specificationText, writeRecord, type LaunchRecord } from "./record.ts";
import { runStateOf } from "./status.ts";
import { boundLog, readTail, sizeOf } from "./texts.ts";

export interface LaunchSettings {
  readonly program: string;
  readonly accelerator: Accelerator;
  readonly cpuModel: string;
  readonly machineType: string;
  /** Of the program. */
  readonly version: string;
  readonly incoming?: Launch["incoming"];
}

const PORT_ATTEMPTS_MAX = 5;
const LOG_BYTES_MAX = 16 * 2 ** 20;
const WORDS_BYTES_MAX = 4096;
const START_MS = 60_000;
const POLL_MS = 20;
const KILL_MS = 10_000;

/**
 * Starts QEMU and returns when the guest's processors run, or when it waits for a guest; on failure
 * nothing is left.
 */
export async function launchMachine(
  world: World,
  layout: Layout,
  specification: MachineSpecification,
  settings: LaunchSettings,
): Promise<KnownLaunch> {
  for (let attempt = 1; ; attempt++) {
    const launch = await prepare(world, layout, specification, settings);
    const logBytes = await sizeOf(world.files, layout.log);
    try {
      return await run(world, layout, specification, settings, launch);
    } catch (cause) {
      const words = await readTail(world.files, layout.log, WORDS_BYTES_MAX, logBytes);
      await cleanUp(world, layout, launch);
      const unlucky = portWasTaken(words) && specification.ports.some(({ host = 0 }) => host === 0);
      if (!unlucky || attempt >= PORT_ATTEMPTS_MAX) throw startError(specification, words, cause);
    }
  }
}

async function prepare(
  world: World,
  layout: Layout,
  specification: MachineSpecification,
  { accelerator, cpuModel, machineType, incoming }: LaunchSettings,
): Promise<Launch> {
  const { files, random } = world;
  for (const name of await files.list(layout.directory)) {
    if (name.startsWith("ready.")) await files.remove(`${layout.directory}/${name}`);
  }
  await removeSockets(files, layout);
  await boundLog(files, layout.console, LOG_BYTES_MAX);
  await boundLog(files, layout.log, LOG_BYTES_MAX);
  const hostPorts = await chooseHostPorts(specification.ports);
  const id = Buffer.from(random.bytes(8)).toString("hex");
  return { id, accelerator, cpuModel, machineType, hostPorts, incoming };
}

/** The record is durable before the process exists, and complete before anybody hears of it. */
async function run(
  world: World,
  layout: Layout,
  specification: MachineSpecification,
  settings: LaunchSettings,
  launch: Launch,
): Promise<KnownLaunch> {
  const record: LaunchRecord = {
    version: 1,
    uuid: specification.uuid,
    launch: launch.id,
    specification: specificationText(specification),
    hostPorts: launch.hostPorts,
    dataPath: specification.dataPath,
    host: {
      version: settings.version,
      machineType: launch.machineType,
      cpuModel: launch.cpuModel,
      accelerator: launch.accelerator,
    },
    ...(launch.incoming === undefined ? {} : { incoming: launch.incoming }),
  };
  await writeRecord(world.files, layout, record);
  const args = qemuArguments(specification, launch, layout);
  const started = await world.processes.start(settings.program, args, {
    logFile: layout.log,
    directory: layout.directory,
    life: "free",
  });
  const known = { ...record, process: started.identity };
  try {
    await writeRecord(world.files, layout, known);
    const wanted = launch.incoming === undefined ? "running" : "starting";
    await waitState(world, layout, started.identity, wanted);
    return known;
  } catch (error) {
    world.processes.kill(started.identity, "SIGKILL");
    await waitGone(world, started.identity, KILL_MS);
    throw error;
  }
}

/**
 * Waits until the monitor says that the guest's processors run, or that it waits for a guest.
 *
 * @throws `hypervisor.exited`, `hypervisor.start-timeout`
 */
export async function waitState(
  world: World,
  layout: Layout,
  identity: ProcessIdentity,
  wanted: "running" | "starting",
): Promise<void> {
  const deadline = world.clock.monotonic() + START_MS;
  for (;;) {
    if ((await askState(world, layout)) === wanted) return;
    if (await isGone(world, identity)) {
      throw new TesseraError("environment", "hypervisor.exited", "QEMU ended at once");
    }
    if (world.clock.monotonic() > deadline) {
      const message = `QEMU is not ${wanted} within ${START_MS} ms`;
      throw new TesseraError("environment", "hypervisor.start-timeout", message);
    }
    await world.clock.sleep(POLL_MS);
  }
}

/** Undefined while the monitor cannot be reached yet. */
export async function askState(world: World, layout: Layout): Promise<RunState | undefined> {
  try {
    const qmp = await Qmp.open(layout.qmpSocket, world.clock);
    try {
      return runStateOf(await qmp.execute("query-status"));
    } finally {
      await qmp.close();
    }
  } catch (error) {
    const early =
      hasCode(error, "hypervisor.qmp-closed") || hasCode(error, "hypervisor.qmp-timeout");
    if (early) return undefined;
    throw error;
  }
}

async function cleanUp(world: World, layout: Layout, launch: Launch): Promise<void> {
  const { files } = world;
  await files.remove(readyFile(layout, launch.id));
  await removeSockets(files, layout);
  await files.remove(layout.pidFile);
  await files.remove(layout.record);
}

function startError({ uuid }: MachineSpecification, words: string, cause: unknown): TesseraError {
  const reason = words.trim() || (cause instanceof Error ? cause.message : "it said nothing");
  const known = cause instanceof TesseraError ? cause : undefined;
  return new TesseraError("environment", "hypervisor.start-failed", `QEMU: ${reason}`, {
    subject: uuid,
    remedy: known?.remedy ?? "correct what QEMU names and start again",
    cause,
  });
}
