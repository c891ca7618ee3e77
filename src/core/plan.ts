import type { ComponentReference } from "./component.ts";
import type { DiskFormat } from "./machine.ts";

/** The paper's cases (section IV-B). */
export type MigrationCase = "worst" | "average" | "best";

/**
 * How a destination comes by the contents of a component's image, in raw bytes. What is in none of
 * the three is the image's own metadata and padding.
 */
export interface ContentShares {
  /** Equal to contents of components that the destination holds: nothing travels. */
  readonly heldBytes: number;
  /** Travel as patches against contents that both sides hold. */
  readonly patchedBytes: number;
  /** Travel whole. */
  readonly missingBytes: number;
}

export interface PlannedComponent {
  readonly component: ComponentReference;
  readonly held: boolean;
  /** Bytes expected on the wire: 0 when held. */
  readonly bytes: number;
  /** UUID of the machine of the same plan that brings it there before: it is counted with that. */
  readonly comesWith?: string;
  /** Absent when held, and where the image is not described by contents. */
  readonly contents?: ContentShares;
}

/** What a migration would move, before anything moves. */
export interface Plan {
  readonly machine: string;
  readonly source: string;
  readonly destination: string;
  readonly mode: MigrationMode;
  readonly case: MigrationCase;
  readonly components: readonly PlannedComponent[];
  readonly userData: {
    readonly allocatedBytes: number;
    readonly bytes: number;
    /** The destination keeps the copy that it handed over: only what has changed since moves. */
    readonly lineage?: boolean;
  };
  readonly totalBytes: number;
  /** The machine's composed disk and user data as a monolithic block would count. */
  readonly monolithicBytes: number;
  /** Bits per second that the expected time assumes, and where the figure comes from. */
  readonly rate: {
    readonly bitsPerSecond: number;
    readonly from: "limit" | "measured" | "offer" | "assumed";
  };
  readonly expected_ms: number;
  /** Of a hot migration. */
  readonly hot?: HotChoice & {
    readonly memoryBytes: number;
    /** Absent in plans of before 0.1.0. */
    readonly forecast?: MemoryForecast;
  };
  /** Of the user data block at the destination; absent: raw, or not told. */
  readonly format?: DiskFormat;
  readonly price: number;
  readonly notes: readonly string[];
}

/** Stopped, stopped after its user data block was copied while it ran, or running. */
export type MigrationMode = "cold" | "warm" | "hot";

/**
 * How the memory of a running machine travels: before the switch, after it, or as fits what is seen
 * of the machine and the link.
 */
export type MemoryMethod = "precopy" | "postcopy" | "auto";

/** When the user data block of a running machine travels: before the switch, after it, or both. */
export type StorageMethod = "hybrid" | "push" | "pull" | "shared";

/** What is asked for of a hot migration. */
export interface HotChoice {
  readonly memory: MemoryMethod;
  readonly storage: StorageMethod;
}

/** What the memory of a running machine is expected to take. */
export interface MemoryForecast {
  /** `slowed`: pre-copy of a guest that is slowed down; `none`: it would be given up. */
  readonly method: "precopy" | "slowed" | "postcopy" | "none";
  readonly passes: number;
  /** What the hypervisor sends, and what of it is on the wire. */
  readonly memoryBytes: number;
  readonly wireBytes: number;
  /** Until all memory has arrived. */
  readonly total_ms: number;
  /** Without processors: the last memory (none by post-copy) and what comes besides. */
  readonly pause_ms: number;
  /** By post-copy: how long memory follows after the switch, when the guest waits for pages. */
  readonly follows_ms: number;
  readonly slowedPercent: number;
  /** Why it would be given up. */
  readonly givenUp?: "outrun" | "link-idle" | "overdue";
}

export function caseOf(components: readonly { readonly held: boolean }[]): MigrationCase {
  if (components.every(({ held }) => held)) return "best";
  return components.some(({ held }) => held) ? "average" : "worst";
}
