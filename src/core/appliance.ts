import type { ComponentReference } from "./component.ts";
import type { Digest } from "./digest.ts";

/** A TCP port of the guest that is reachable through its host. */
export interface PortForward {
  readonly name: string;
  /** 1 to 65535. */
  readonly guest: number;
  /** Port on the host's loopback; 0 or absent lets the cloud choose. */
  readonly host?: number;
}

/** openQRM's resource: what the machine needs of a host. */
export interface Resources {
  /** 1 to 255. */
  readonly cpus: number;
  readonly memoryBytes: number;
  /** Size of the user data block. */
  readonly dataBytes: number;
  readonly ports: readonly PortForward[];
}

/** openQRM's service level: what placement and hot migration must honour. */
export interface ServiceLevel {
  /** Longest downtime accepted, in milliseconds; absent means no limit. */
  readonly downtimeMax_ms?: number;
  /** Clouds or regions that may hold the machine; empty means any. */
  readonly clouds: readonly string[];
  readonly regions: readonly string[];
  /** 0 (lowest) to 100. */
  readonly priority: number;
  /** May the guest be slowed down so that a migration ends? */
  readonly maySlowDown: boolean;
}

/**
 * What a machine is made of and needs (openQRM's word). Programs are in stacking order, lowest
 * first. `digest` is over the component ids alone: it names the composition.
 */
export interface Appliance {
  readonly name: string;
  readonly digest: Digest;
  readonly kernel: ComponentReference;
  readonly os: ComponentReference;
  readonly programs: readonly ComponentReference[];
  readonly resources: Resources;
  readonly serviceLevel: ServiceLevel;
}

/** Every component, the kernel first, then the OS, then the programs. */
export function componentsOf(appliance: Appliance): ComponentReference[] {
  return [appliance.kernel, appliance.os, ...appliance.programs];
}
