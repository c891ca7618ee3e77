import type { BlockDevice } from "#block";
import type { ComposedDisks, Digest } from "#core";

export type ExportFormat = "raw" | "qcow2" | "vmdk" | "vpc" | "vhdx" | "vdi" | "ova";

/** A stopped machine, as it is to become one disk. */
export interface ExportMachine {
  readonly uuid: string;
  readonly name: string;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly disks: ComposedDisks;
  /** Of the kernel component: as `uname -r` prints it, and Debian's name of the architecture. */
  readonly kernelRelease: string;
  readonly architecture: string;
  /** The user data block, which nobody writes to meanwhile. */
  readonly data: BlockDevice;
}

export interface ExportRequest {
  readonly machine: ExportMachine;
  readonly format: ExportFormat;
  /** Of the whole disk; absent: the machine's files, and as much room as its user data block has. */
  readonly sizeBytes?: number;
  readonly progress: (event: ExportProgress) => void;
  readonly signal: AbortSignal;
}

export interface ExportTarget {
  /** Where the disk is to be; absolute, nothing is there. */
  readonly path: string;
  /** An empty directory for what is only needed meanwhile; the caller removes it. */
  readonly directory: string;
}

export interface ExportProgress {
  readonly step: "read" | "boot" | "root" | "prove" | "convert" | "pack";
  readonly detail: string;
}

/** What an export writes, told before it does. */
export interface ExportSurvey {
  readonly entries: number;
  /** Of all files, each once. */
  readonly contentBytes: number;
  /** Of the root's file system, and of the whole disk. */
  readonly rootBytes: number;
  readonly diskBytes: number;
  readonly kernelRelease: string;
  /** Is the kernel the distribution's own file, or made of the component's? */
  readonly kernel: "own" | "made";
  /** UUID of the root's file system. */
  readonly fileSystem: string;
  /** Paths that only the exported disk has. */
  readonly added: readonly string[];
  /** Paths that it has with another content. */
  readonly changed: readonly string[];
  /** Paths of the machine that serve only clouds with Tessera. */
  readonly leftOut: readonly string[];
  /** Lines of fstab(5) that are commented out: their disks are not the machine's. */
  readonly leftFstab: readonly string[];
  /** The hardware that the kernel has drivers for, as the OVF describes it. */
  readonly controller: string;
  readonly network: string;
}

/** That the exported root has the machine's tree, read back from the disk. */
export interface ExportProof {
  readonly entries: number;
  readonly bytes: number;
  /** Of the machine's tree and of the exported one, both without what was added, changed or left out. */
  readonly machineDigest: Digest;
  readonly exportedDigest: Digest;
}

export interface ExportedFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly allocatedBytes: number;
}
