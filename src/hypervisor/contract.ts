import type { ComposedDisks, DiskFormat, PortForward, ProcessIdentity } from "#core";
import type {
  HotCapabilities,
  HotDescription,
  HotSource,
  IncomingMachine,
  IncomingOptions,
} from "./hot.ts";

export type * from "./hot.ts";

/** All that is needed to start a machine; equal specifications are equal machines. */
export interface MachineSpecification {
  readonly uuid: string;
  readonly name: string;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly disks: ComposedDisks;
  /** The raw user data block; with `basePath`, a qcow2 overlay over it that takes all writes. */
  readonly dataPath: string;
  /** Of the file at `dataPath`; absent: raw, or qcow2 over `basePath`. Never with `basePath`. */
  readonly dataFormat?: DiskFormat;
  /** A raw file that is only read. */
  readonly basePath?: string;
  readonly ports: readonly PortForward[];
  /** Holds sockets, logs and the identity file; must exist. Paths stay under 100 bytes. */
  readonly directory: string;
}

export type RunState = "starting" | "running" | "paused" | "shut-down" | "exited";

/**
 * A machine whose hypervisor process lives, or lived. It survives the agent: `adopt` gives it
 * back after a restart. `ready` is the guest's own word that it has booted.
 */
export interface RunningMachine {
  readonly uuid: string;
  readonly identity: ProcessIdentity;
  /** Host port by the forward's name. */
  readonly hostPorts: Readonly<Record<string, number>>;
  readonly consolePath: string;
  state(): Promise<RunState>;
  /**
   * Resolves when the guest has said that it is ready in this boot.
   *
   * @throws `hypervisor.boot-timeout`, `hypervisor.exited` (with the end of the console log)
   */
  ready(timeout_ms: number, signal?: AbortSignal): Promise<void>;
  /** Asks the guest to shut down; by force after the time-out. Returns when the process is gone. */
  stop(timeout_ms: number): Promise<"graceful" | "forced">;
  /** Resolves when the process is gone. */
  readonly exited: Promise<void>;
  /**
   * What its memory and status are tied to.
   *
   * @throws `hypervisor.hot-unsupported`
   */
  describe(): HotDescription;
  /**
   * The machine as the source of a hot migration; one holder at a time, until `close`.
   *
   * @throws `hypervisor.hot-unsupported`
   */
  hot(): Promise<HotSource>;
  /** Lets go of sockets and watches; the machine runs on. */
  detach(): Promise<void>;
}

export interface HypervisorCapabilities {
  readonly name: string;
  readonly version: string;
  /** What was proven by booting: `kvm`, `tcg`; the first is used. */
  readonly accelerators: readonly string[];
  readonly cpuModels: readonly string[];
  /** Of user data blocks that it attaches and that can be made here. */
  readonly formats: readonly DiskFormat[];
  readonly architectures: readonly string[];
}

export interface Hypervisor {
  capabilities(): Promise<HypervisorCapabilities>;
  /**
   * Starts the machine; returns when the guest's processors run. Starting a machine that runs
   * already returns it (idempotent).
   *
   * @throws `hypervisor.start-failed` with the hypervisor's own words; then no process is left.
   */
  start(specification: MachineSpecification): Promise<RunningMachine>;
  /** The machine of this directory if its process lives. */
  adopt(directory: string): Promise<RunningMachine | undefined>;
  /** What can arrive here while it runs; undefined when nothing can. */
  hotCapabilities(): Promise<HotCapabilities | undefined>;
  /**
   * Starts a process that waits for the guest of this machine; nothing runs yet. One that waits
   * already, or has received, is returned (idempotent).
   *
   * @throws `hypervisor.hot-incompatible` with the difference; as `start`
   */
  startIncoming(
    specification: MachineSpecification,
    options: IncomingOptions,
  ): Promise<IncomingMachine>;
  /** The process of this directory if it lives and was started by `startIncoming`. */
  adoptIncoming(directory: string): Promise<IncomingMachine | undefined>;
}
