import type { CloudInit } from "./cloud-init/contract.ts";
import type { Constraint, Digest, Resources, ServiceLevel } from "#core";

/** An appliance file, validated, with names not yet resolved against a repository. */
export interface ApplianceRecipe {
  readonly name: string;
  readonly kernel: string;
  readonly os: string;
  readonly programs: readonly string[];
  readonly resources: Resources;
  readonly serviceLevel: ServiceLevel;
  /** For the one machine that is made of this file; nothing that an appliance keeps. */
  readonly cloudInit?: CloudInit;
}

/** That all components are for one architecture: the need for the kernel's. */
export interface ArchitectureNeed {
  readonly type: "architecture";
  /** Debian's name, for instance `amd64`. */
  readonly name: string;
}

/** A need that nothing in the composition meets. */
export interface UnmetConstraint {
  readonly component: Digest;
  readonly componentName: string;
  /**
   * `binary`, `architecture` and `os` faults make a program fail (a system user that nobody
   * provides is an `os` fault); `package` faults make the package tools complain.
   */
  readonly level: "binary" | "package" | "architecture" | "os";
  readonly need: Constraint | ArchitectureNeed;
  /** What was found instead, for instance an older version. */
  readonly found?: string;
}

/** A file to be put into the user data block when it is made. */
export interface InstanceFile {
  /** Absolute path in the guest. */
  readonly path: string;
  readonly content: Uint8Array;
  /** Default 0o644. */
  readonly mode?: number;
  /** Default root's. */
  readonly uid?: number;
  readonly gid?: number;
}

/** A directory of the user data block that is not root's, or not as directories are otherwise. */
export interface InstanceDirectory {
  readonly path: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/** A symbolic link in the user data block. */
export interface InstanceLink {
  readonly path: string;
  readonly target: string;
}

/** What is put into a user data block when it is made. */
export interface InstanceParts {
  readonly files: readonly InstanceFile[];
  readonly directories?: readonly InstanceDirectory[];
  readonly links?: readonly InstanceLink[];
}
