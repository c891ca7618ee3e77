import type { Appliance } from "./appliance.ts";

/** `gone`: handed over to another cloud; its user data block is kept as lineage. */
export type MachineState = "stopped" | "running" | "incoming" | "outgoing" | "gone" | "failed";

/**
 * The form in which a cloud keeps the user data block of a machine for its hypervisor: those that QEMU
 * writes. `vpc` is VHD.
 */
export type DiskFormat = "raw" | "qcow2" | "vmdk" | "vdi" | "vpc" | "vhdx";

export const DISK_FORMATS: readonly DiskFormat[] = ["raw", "qcow2", "vmdk", "vdi", "vpc", "vhdx"];

/** A composed virtual machine (the paper's CVM), marked with a UUID across the federation. */
export interface Machine {
  readonly uuid: string;
  readonly name: string;
  readonly appliance: Appliance;
  readonly state: MachineState;
  readonly created_ms: number;
  /** The migration that this machine takes part in, if any. */
  readonly migration?: string;
  /** Host ports actually in use, by the name of the forward. */
  readonly hostPorts: Readonly<Record<string, number>>;
  /** Of its user data block; absent: raw. */
  readonly format?: DiskFormat;
  /** Where it went, for `gone`. */
  readonly cloud?: string;
}
