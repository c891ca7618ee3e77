/** What a hypervisor does for a machine that moves while it runs. `doc/hypervisor.md` has the sequences. */
import type { RunState, RunningMachine } from "./contract.ts";

/** All of a machine that its memory and status are tied to: the other side must offer the same. */
export interface HotDescription {
  readonly hypervisor: string;
  /** Of the hypervisor that the machine was started with. */
  readonly version: string;
  readonly architecture: string;
  /** Versioned, so that it means the same everywhere: `pc-q35-7.2`. */
  readonly machineType: string;
  readonly cpuModel: string;
  readonly accelerator: string;
  readonly cpus: number;
  /** As the hypervisor gets it; padded, see `doc/hypervisor.md`. */
  readonly ramBytes: number;
  /** Devices with their places and properties, as the guest sees them. */
  readonly devices: readonly string[];
  /** Formats of its disks. */
  readonly formats: readonly string[];
}

/** What a host can receive while it runs. */
export interface HotCapabilities {
  readonly hypervisor: string;
  readonly version: string;
  readonly architecture: string;
  readonly machineTypes: readonly string[];
  /** Models that are complete, by accelerator. */
  readonly cpuModels: Readonly<Record<string, readonly string[]>>;
  /** Names of what its migration code can do, as the hypervisor names them. */
  readonly features: readonly string[];
  /** The kernel lets it receive pages on demand. */
  readonly postcopy: boolean;
}

/** A refusal has the reason; `nearest` is what the source could run with to be accepted. */
export type HotVerdict =
  | { readonly possible: true; readonly postcopy: boolean }
  | { readonly possible: false; readonly reason: string; readonly nearest?: string };

/** How memory travels; equal on both sides. Post-copy and parallel streams exclude each other. */
export interface HotMethod {
  /** `preempt` gives demanded pages a channel of their own. */
  readonly postcopy?: "plain" | "preempt";
  /** So many compressed streams beside the main one, 1 to 16 (QEMU: multifd, zstd). */
  readonly parallel?: number;
}

/** QEMU's `MigrationStatus` (qapi/migration.json). */
export type HotStatus =
  | "none"
  | "setup"
  | "active"
  | "pre-switchover"
  | "device"
  | "postcopy-active"
  | "postcopy-paused"
  | "postcopy-recover"
  | "completed"
  | "failed"
  | "cancelling"
  | "cancelled";

/** `at_ms` is the hypervisor's own time: milliseconds since the Unix epoch, with fractions. */
export type HotEvent = { readonly at_ms: number } & (
  | { readonly kind: "status"; readonly status: HotStatus }
  /** A pass over the memory begins; the first is 1. */
  | { readonly kind: "pass"; readonly pass: number }
  /** The guest's processors stand still, or go on. */
  | { readonly kind: "stopped" | "resumed" }
  /** A disk of the guest failed; with action `stop` the guest waits, see {@link HotSource.resume}. */
  | { readonly kind: "disk-error"; readonly action: string; readonly reason: string }
);

export interface HotStatistics {
  readonly status: HotStatus;
  readonly transferredBytes: number;
  readonly remainingBytes: number;
  readonly totalBytes: number;
  /** Bytes a second that the guest made dirty in the last pass but one second at least. */
  readonly dirtyRate_Bps: number;
  /** Bits a second, as measured by the hypervisor. */
  readonly rate_bps: number;
  /** Passes begun over the memory. */
  readonly passes: number;
  readonly postcopyRequests: number;
  readonly total_ms: number;
  readonly expectedDowntime_ms?: number;
  /** Only after the end. */
  readonly downtime_ms?: number;
  /** How much the guest is slowed down, 0 to 99. */
  readonly slowedPercent: number;
  /** The hypervisor's words for a failure. */
  readonly reason?: string;
}

/** What both ends of a hot migration have. */
export interface HotEnd {
  /** Where the migration and the guest's processors are, asked now. */
  state(): Promise<{ readonly migration: HotStatus; readonly run: RunState }>;
  /** @throws `hypervisor.qmp-timeout` after 2 s: the hypervisor hangs, see {@link HotSource.cancel} */
  statistics(): Promise<HotStatistics>;
  /**
   * Events from now on, until `signal` is aborted, the end is closed or the process is gone (the
   * iteration then ends). A reader that falls 1000 behind loses the oldest.
   */
  events(signal?: AbortSignal): AsyncIterable<HotEvent>;
  /**
   * Resolves with the first of these statuses, or with `completed`, `failed` or `cancelled` when
   * that comes before; at once when it is so now.
   *
   * @throws `hypervisor.migration-timeout`; `hypervisor.exited` with the hypervisor's words
   */
  until(
    statuses: readonly HotStatus[],
    options: { readonly timeout_ms: number; readonly signal?: AbortSignal },
  ): Promise<HotStatus>;
  /**
   * Post-copy only: gives the link up, so that the migration can be recovered over another one. It
   * works while the hypervisor hangs on a silent link. Returns when the status is `postcopy-paused`.
   */
  pause(): Promise<void>;
  /** Lets go of the connection; the hypervisor goes on. */
  close(): Promise<void>;
}

export interface EmigrationOptions extends HotMethod {
  /** A unix socket of ours, on which a stream to the destination is accepted. */
  readonly socketPath: string;
  /** Default none: the data plane limits. */
  readonly rate_Bps?: number;
  /** The pause that is aimed at; default 300 ms. */
  readonly downtime_ms?: number;
  /** Allows {@link HotSource.slowDown}. */
  readonly maySlowDown?: boolean;
}

/** A read-only NBD export on a unix socket. */
export interface DataExport {
  readonly socketPath: string;
  readonly exportName: string;
  /** Of the frozen bitmap, for NBD's `list meta contexts`: `qemu:dirty-bitmap:NAME`. */
  readonly metaContext?: string;
}

/** The running machine as the source of a hot migration. Every step may be repeated. */
export interface HotSource extends HotEnd {
  readonly description: HotDescription;
  /**
   * Exports the user data block as the guest sees it, live and read-only; with a frozen bitmap, as
   * an export of its own that shows it. Goes on while the process lives, after the switch as well.
   */
  exportData(options?: { readonly bitmap?: string }): Promise<DataExport>;
  /** Ends all exports and closes their connections. */
  unexport(): Promise<void>;
  /** From now on notes what is written to the user data block; where it does so already, goes on. */
  trackWrites(name: string): Promise<void>;
  /**
   * Stops the notes of `name`, so that they can be exported. With `next`, notes under that name
   * begin in the same instant: no write is lost between two passes.
   */
  freezeWrites(name: string, next?: string): Promise<void>;
  /** Bytes noted under this name, whole 64 KiB; undefined when there is no such bitmap. */
  writtenBytes(name: string): Promise<number | undefined>;
  forgetWrites(name: string): Promise<void>;
  /**
   * Begins to send memory and status. Returns at once; a migration under way goes on.
   *
   * @throws `hypervisor.hot-blocked` with the reason: a disk or device that cannot leave, or a
   *   block job; `hypervisor.hot-method` (misuse)
   */
  emigrate(options: EmigrationOptions): Promise<void>;
  /** Changes the pause that is aimed at: a larger one lets the present pass be the last. */
  allowDowntime(downtime_ms: number): Promise<void>;
  /** 1 to 99; takes effect at the next pass in which memory is made dirty faster than it is sent. */
  slowDown(percent: number): Promise<void>;
  /** Stops at `pre-switchover` as pre-copy does; after {@link switchOver} it cannot be undone. */
  startPostcopy(): Promise<void>;
  /** At `pre-switchover`, when the caller's work on disks is done: goes on. */
  switchOver(): Promise<void>;
  /**
   * Ends the migration, also when the hypervisor hangs in the switch-over. `cancelled`: the guest
   * runs here. `completed`: it came too late. `committed`: post-copy, only {@link recover} is left.
   */
  cancel(): Promise<"cancelled" | "completed" | "committed">;
  /** Post-copy only: goes on over this socket. Both sides must be paused, the destination first. */
  recover(socketPath: string): Promise<void>;
  /**
   * Lets the guest run (on) here: after a failure, or after `completed` when the destination is
   * **known** never to run it. Also wakes a guest that waits after a disk error.
   */
  resume(): Promise<void>;
  /**
   * For good: nobody reaches the guest here any more. Connections to it are closed, so that whoever
   * asks it learns of the move and need not wait.
   */
  hangUp(): Promise<void>;
  /** Ends the process without a word to the guest. Its exports end with it. */
  finish(): Promise<void>;
}

export interface IncomingOptions {
  /** The source's. */
  readonly description: HotDescription;
  /**
   * Opens the user data block through this NBD server instead of `dataPath`, which is then the file
   * that {@link IncomingMachine.pivotData} changes to.
   */
  readonly data?: { readonly socketPath: string; readonly exportName: string };
}

/** A hypervisor process that waits for a guest. Every step may be repeated. */
export interface IncomingMachine extends HotEnd {
  /** The same process as an ordinary machine; `ready` once the guest has been resumed here. */
  readonly machine: RunningMachine;
  /** Makes the socket and waits there for the source's stream. */
  listen(socketPath: string, method?: HotMethod): Promise<void>;
  /**
   * Lets the guest run here. The caller's hand-over must be durable.
   *
   * @throws `hypervisor.not-arrived` while status or memory are not here
   */
  resume(): Promise<void>;
  /** Post-copy only: waits for the source on a new socket. */
  recover(socketPath: string): Promise<void>;
  /**
   * Changes from the NBD server to the file at `dataPath`, which must hold all of the data; the guest
   * runs on. Nothing is left to do without `data`.
   */
  pivotData(): Promise<void>;
  /** Ends the process; the guest never runs here. */
  abort(): Promise<void>;
}
