import type { Digest } from "./digest.ts";

/**
 * What a cloud announces in its presence. It is a hint: it counts only when the cloud has
 * confirmed it by IQ to its real JID.
 */
export interface Offer {
  /** The cloud's name, equal to the first label of its domain in the usual set-up. */
  readonly cloud: string;
  readonly region: string;
  /** All that the cloud gives to machines, and the share of them that is busy; absent: not told. */
  readonly cpus?: number;
  readonly load?: number;
  readonly cpusFree: number;
  readonly memoryFreeBytes: number;
  readonly storageFreeBytes: number;
  readonly accelerators: readonly string[];
  readonly cpuModels: readonly string[];
  readonly formats: readonly string[];
  readonly architectures: readonly string[];
  /** Uplink in bits per second as configured; absent means unknown. */
  readonly linkRate?: number;
  /** Price of one gigabyte leaving this cloud, in the federation's currency. */
  readonly egressPricePerGB: number;
  /** Does it take machines at all? */
  readonly receives: boolean;
  readonly repository: RepositorySummary;
  /** Grows with each change; a lower one is stale. */
  readonly seq: number;
  readonly expires_ms: number;
}

/**
 * A bounded summary of a repository: the number of components and, up to a limit, the first 16
 * hexadecimal digits of their ids.
 */
export interface RepositorySummary {
  readonly components: number;
  readonly heads: readonly string[];
  readonly complete: boolean;
}

export const SUMMARY_HEADS_MAX = 256;

export function summaryHead(id: Digest): string {
  return id.slice("sha256:".length, "sha256:".length + 16);
}
