import type { ComponentKind, Digest } from "#core";
import type { MachineDescription } from "./described/description.ts";
import type { ImageFormat } from "./format.ts";

export interface ImportRequest {
  /** Of the image; absolute. */
  readonly path: string;
  /** Absent: told by the image's magic number. */
  readonly format?: ImageFormat;
  /** Directories in which files that the image names may lie, beside its own. */
  readonly backing: readonly string[];
  /** The partition with the root, where there are several. */
  readonly partition?: number;
  /** Of an OVA or a domain with several disks: the one with the system, as it is named there. */
  readonly disk?: string;
  /** The domain of libvirt that the image belongs to, as XML. */
  readonly domain?: { readonly text: string; readonly fileName: string };
  /** A kernel component to start the machine with, in place of the image's own kernel. */
  readonly kernel?: Digest;
  /** An empty directory for what is only needed meanwhile; the caller removes it. */
  readonly directory: string;
  readonly progress: (event: ImportProgress) => void;
  readonly signal: AbortSignal;
}

export interface ImportProgress {
  readonly step: "read" | "classify" | "components" | "user-data" | "prove";
  readonly detail: string;
  readonly done?: number;
  readonly total?: number;
}

/** Files and bytes of one class; a file with several names counts once. */
export interface ClassSum {
  readonly files: number;
  readonly bytes: number;
}

/** A component that the machine is made of. */
export interface ImportedPart {
  readonly kind: ComponentKind;
  readonly name: string;
  readonly version: string;
  readonly packages: number;
  readonly files: number;
  readonly bytes: number;
  /** Of the component, and whether this cloud held it before. */
  readonly id: Digest;
  readonly held: boolean;
}

/** What an image holds and what becomes of it. */
export interface ImportSurvey {
  /** What an OVA, or a domain of libvirt, says of the machine. */
  readonly description?: MachineDescription;
  readonly format: ImageFormat;
  readonly sizeBytes: number;
  readonly allocatedBytes: number;
  readonly distribution: string;
  readonly kernelRelease?: string;
  readonly volumes: readonly {
    readonly number: number;
    readonly sizeBytes: number;
    readonly kind: string;
    readonly mountedAt?: string;
  }[];
  /** Lines of fstab(5) whose disks the machine will not have. */
  readonly leftFstab: readonly string[];
  readonly classes: Readonly<Record<ComponentKind | "userData", ClassSum>>;
  /** Installed packages; the bytes of their files, and of those that are as the package brought them. */
  readonly packages: {
    readonly count: number;
    readonly bytes: number;
    readonly intactBytes: number;
    /** A package database that is not read, by name: the whole root is one component then. */
    readonly unread?: string;
  };
  readonly parts: readonly ImportedPart[];
}

/** That the composed machine has the image's tree. */
export interface ImportProof {
  readonly entries: number;
  readonly bytes: number;
  /** Over every entry: path, kind, content, owner, mode, time, links, xattrs, device. */
  readonly imageDigest: Digest;
  readonly composedDigest: Digest;
  /** Paths that Tessera adds, each with a reason in doc/import.md. */
  readonly added: readonly string[];
}
