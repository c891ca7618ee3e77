import type { ComponentReference } from "./component.ts";

/** The paper's cases (section IV-B). */
export type MigrationCase = "worst" | "average" | "best";

export interface PlannedComponent {
  readonly component: ComponentReference;
  readonly held: boolean;
  /** Bytes expected on the wire: 0 when held, estimated from a compressed sample otherwise. */
  readonly bytes: number;
}

/** What a migration would move, before anything moves. */
export interface Plan {
  readonly machine: string;
  readonly source: string;
  readonly destination: string;
  readonly mode: MigrationMode;
  readonly case: MigrationCase;
  readonly components: readonly PlannedComponent[];
  readonly userData: { readonly allocatedBytes: number; readonly bytes: number };
  readonly totalBytes: number;
  /** The machine's composed disk and user data as a monolithic block would count. */
  readonly monolithicBytes: number;
  /** Bits per second that the expected time assumes, and where the figure comes from. */
  readonly rate: {
    readonly bitsPerSecond: number;
    readonly from: "limit" | "measured" | "offer" | "assumed";
  };
  readonly expected_ms: number;
  readonly price: number;
  readonly notes: readonly string[];
}

export type MigrationMode = "cold";

export function caseOf(components: readonly { readonly held: boolean }[]): MigrationCase {
  if (components.every(({ held }) => held)) return "best";
  return components.some(({ held }) => held) ? "average" : "worst";
}
