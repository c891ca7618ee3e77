import { knownFormats } from "#block";
import { TesseraError, type DiskFormat, type World } from "#core";
import type {
  HotCapabilities,
  Hypervisor,
  HypervisorCapabilities,
  IncomingOptions,
  MachineSpecification,
} from "../contract.ts";
import { AcceleratorChoice, type ProbeSubject } from "./accelerator.ts";
import type { Accelerator } from "./arguments.ts";
import { checkSpecification } from "./check.ts";
import { findProcess } from "./find.ts";
import { checkDescription } from "./hot/describe.ts";
import { QemuIncoming } from "./hot/incoming.ts";
import { probeHot } from "./hot/probe.ts";
import { HotSession } from "./hot/session.ts";
import { askState, launchMachine, waitState, type LaunchSettings } from "./launch.ts";
import { layoutOf, type Layout } from "./layout.ts";
import { QemuMachine, type KnownLaunch } from "./machine.ts";
import { readRecord, specificationText, writeRecord } from "./record.ts";

export interface QemuOptions {
  /** Default `qemu-system-x86_64`. */
  readonly program?: string;
  /** Use this one without a probe. */
  readonly accelerator?: Accelerator;
  /**
   * QEMU's name of the processor model that guests see; the same at both ends of a hot migration.
   * The default, `Nehalem-v1`, has x86-64-v2 and runs in full under TCG as well.
   */
  readonly cpuModel?: string;
  /** QEMU's name of the machine type, with its version; default `pc-q35-7.2`. */
  readonly machineType?: string;
  /**
   * A kernel for the probe of `capabilities`; `start` probes with the machine's own. Without one,
   * and before the first start, KVM is proven by the firmware alone, which proves less.
   */
  readonly probeKernelPath?: string;
  /** Keeps the outcome of the probe until the host reboots. */
  readonly probeCachePath?: string;
}

/** Machines as QEMU processes, one directory each. */
export function createQemu(world: World, options: QemuOptions = {}): Hypervisor {
  return new Qemu(world, options);
}

class Qemu implements Hypervisor {
  readonly #world: World;
  readonly #options: QemuOptions;
  readonly #program: string;
  readonly #cpuModel: string;
  readonly #choice: AcceleratorChoice;
  readonly #turns = new Map<string, Promise<unknown>>();
  #version: Promise<string> | undefined;
  #formats: Promise<readonly DiskFormat[]> | undefined;
  #hot: Promise<HotCapabilities> | undefined;
  #probeKernelPath: string | undefined;

  constructor(world: World, options: QemuOptions) {
    this.#world = world;
    this.#options = options;
    this.#program = options.program ?? "qemu-system-x86_64";
    this.#cpuModel = options.cpuModel ?? "Nehalem-v1";
    this.#probeKernelPath = options.probeKernelPath;
    this.#choice = new AcceleratorChoice(world, options.probeCachePath);
  }

  async capabilities(): Promise<HypervisorCapabilities> {
    const accelerator = await this.#accelerator(this.#probeKernelPath);
    return {
      name: "qemu",
      version: await this.#askVersion(),
      accelerators: accelerator === "kvm" ? ["kvm", "tcg"] : ["tcg"],
      cpuModels: [this.#cpuModel],
      formats: await this.#askFormats(),
      architectures: ["amd64"],
    };
  }

  start(specification: MachineSpecification): Promise<QemuMachine> {
    const layout = layoutOf(specification.directory);
    checkSpecification(specification);
    return this.#inTurn(layout, () => this.#start(layout, specification));
  }

  adopt(directory: string): Promise<QemuMachine | undefined> {
    const layout = layoutOf(directory);
    return this.#inTurn(layout, async () => {
      const launch = await this.#find(layout);
      return launch && new QemuMachine(this.#world, layout, launch);
    });
  }

  async #start(layout: Layout, specification: MachineSpecification): Promise<QemuMachine> {
    const found = await this.#find(layout);
    if (found !== undefined) {
      checkSame(found, specification);
      await this.#waitStarted(layout, found);
      return new QemuMachine(this.#world, layout, found);
    }
    this.#probeKernelPath ??= specification.disks.kernelPath;
    const launch = await launchMachine(this.#world, layout, specification, {
      program: this.#program,
      // Where there is no program, the launch says so.
      version: await this.#askVersion().catch(() => "unknown"),
      cpuModel: this.#cpuModel,
      machineType: this.#options.machineType ?? "pc-q35-7.2",
      accelerator: await this.#accelerator(specification.disks.kernelPath),
    });
    return new QemuMachine(this.#world, layout, launch);
  }

  /** A process that still waits for a guest does not run by itself. */
  async #waitStarted(layout: Layout, found: KnownLaunch): Promise<void> {
    const state = await askState(this.#world, layout);
    if (found.incoming !== undefined && state !== "running") throw incomingError(found.uuid);
    await waitState(this.#world, layout, found.process, "running");
  }

  hotCapabilities(): Promise<HotCapabilities> {
    this.#hot ??= this.#probeHot().catch((error: unknown) => {
      this.#hot = undefined;
      throw error;
    });
    return this.#hot;
  }

  async #probeHot(): Promise<HotCapabilities> {
    const accelerator = await this.#accelerator(this.#probeKernelPath);
    const accelerators = accelerator === "kvm" ? (["kvm", "tcg"] as const) : (["tcg"] as const);
    return await probeHot(this.#world, this.#program, await this.#askVersion(), accelerators);
  }

  startIncoming(
    specification: MachineSpecification,
    options: IncomingOptions,
  ): Promise<QemuIncoming> {
    const layout = layoutOf(specification.directory);
    checkSpecification(specification);
    return this.#inTurn(layout, async () => {
      const found = await this.#find(layout);
      if (found !== undefined) checkSame(found, specification);
      const launch = found ?? (await this.#launchIncoming(layout, specification, options));
      if (launch.incoming === undefined) throw incomingError(launch.uuid);
      return await this.#incoming(layout, launch);
    });
  }

  async #launchIncoming(
    layout: Layout,
    specification: MachineSpecification,
    { description, data }: IncomingOptions,
  ): Promise<KnownLaunch> {
    const settings: LaunchSettings = {
      program: this.#program,
      version: await this.#askVersion(),
      cpuModel: description.cpuModel,
      machineType: description.machineType,
      accelerator: description.accelerator === "kvm" ? "kvm" : "tcg",
      incoming: data === undefined ? {} : { data },
    };
    checkDescription(specification, settings, description);
    return await launchMachine(this.#world, layout, specification, settings);
  }

  adoptIncoming(directory: string): Promise<QemuIncoming | undefined> {
    const layout = layoutOf(directory);
    return this.#inTurn(layout, async () => {
      const launch = await this.#find(layout);
      if (launch?.incoming === undefined) return undefined;
      return await this.#incoming(layout, launch);
    });
  }

  async #incoming(layout: Layout, launch: KnownLaunch): Promise<QemuIncoming> {
    const [world, { dataPath }] = [this.#world, launch];
    const session = await HotSession.open(world, layout, launch.process);
    const machine = new QemuMachine(world, layout, launch);
    return new QemuIncoming({ world, session, machine, dataPath });
  }

  /** The launch of this directory whose process lives, recorded or found. */
  async #find(layout: Layout): Promise<KnownLaunch | undefined> {
    const record = await readRecord(this.#world.files, layout);
    const recorded = record?.process;
    if (record !== undefined && recorded !== undefined && this.#world.processes.alive(recorded)) {
      return { ...record, process: recorded };
    }
    const process = await findProcess(this.#world, layout);
    if (process === undefined) return undefined;
    if (record === undefined) throw strangerError(layout, process.pid);
    const launch = { ...record, process };
    await writeRecord(this.#world.files, layout, launch);
    return launch;
  }

  async #accelerator(kernelPath: string | undefined): Promise<Accelerator> {
    if (this.#options.accelerator !== undefined) return this.#options.accelerator;
    const subject: ProbeSubject = {
      program: this.#program,
      version: await this.#askVersion(),
      cpuModel: this.#cpuModel,
      ...(kernelPath === undefined ? {} : { kernelPath }),
    };
    return this.#choice.choose(subject);
  }

  /** Those of qemu-img, which makes the files: both are built of one source. */
  #askFormats(): Promise<readonly DiskFormat[]> {
    return (this.#formats ??= knownFormats(this.#world));
  }

  #askVersion(): Promise<string> {
    this.#version ??= this.#world.processes
      .run(this.#program, ["--version"], { timeout_ms: 10_000 })
      .then(({ output }) => versionOf(Buffer.from(output).toString("utf8")));
    this.#version.catch(() => {
      this.#version = undefined;
    });
    return this.#version;
  }

  /** One thing at a time on a directory, so that two starts give one process. */
  #inTurn<T>(layout: Layout, work: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(layout.directory) ?? Promise.resolve();
    const turn = before.then(work, work);
    this.#turns.set(layout.directory, turn);
    const forget = (): void => {
      if (this.#turns.get(layout.directory) === turn) this.#turns.delete(layout.directory);
    };
    turn.then(forget, forget);
    return turn;
  }
}

/** The number in "QEMU emulator version 7.2.22 (Debian ...)". */
export function versionOf(text: string): string {
  return /version (\d+(?:\.\d+)*)/.exec(text)?.[1] ?? "unknown";
}

function checkSame(found: KnownLaunch, specification: MachineSpecification): void {
  if (found.specification === specificationText(specification)) return;
  throw new TesseraError(
    "misuse",
    "hypervisor.specification-differs",
    "the machine runs with another specification",
    { subject: specification.uuid, remedy: "stop the machine, then start it" },
  );
}

function strangerError(layout: Layout, pid: number): TesseraError {
  return new TesseraError(
    "environment",
    "hypervisor.record-missing",
    `process ${pid} runs a machine of this directory, but its record is missing`,
    { subject: layout.directory, remedy: `end process ${pid}, then start the machine` },
  );
}

function incomingError(uuid: string): TesseraError {
  return new TesseraError(
    "misuse",
    "hypervisor.incoming",
    "the machine is started in one way and asked for in another: to run, or to receive a guest",
    { subject: uuid, remedy: "resume or abort the incoming machine, or stop the running one" },
  );
}
