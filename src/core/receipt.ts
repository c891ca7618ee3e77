import type { Digest } from "./digest.ts";
import type { ContentShares, MigrationCase, MigrationMode } from "./plan.ts";

/** The phases of a migration, in order; the paper's Figure 5(b) has negotiate, compose and boot. */
export type Phase = "negotiate" | "components" | "compose" | "stop" | "userData" | "boot";

export interface ReceiptComponent {
  readonly id: Digest;
  readonly name: string;
  readonly held: boolean;
  /** Bytes of payload frames that crossed the wire for it. */
  readonly bytes: number;
  readonly contents?: ContentShares;
  /** Those bytes by the cloud that sent them, where the source was not the only one. */
  readonly sources?: Readonly<Record<string, number>>;
}

/**
 * What was compressed how: raw and wire bytes by encoding, which is `plain`, `direct-LEVEL`,
 * `solid-LEVEL` or `difference-LEVEL` with zstd's levels.
 */
export type EncodingShares = Readonly<
  Record<string, { readonly rawBytes: number; readonly wireBytes: number }>
>;

/** What a migration did. Both sides keep it, equal and signed by both agents. */
export interface Receipt {
  readonly migration: string;
  readonly machine: string;
  readonly appliance: Digest;
  readonly source: string;
  readonly destination: string;
  readonly mode: MigrationMode;
  readonly case: MigrationCase;
  readonly components: readonly ReceiptComponent[];
  readonly userData: {
    readonly digest: Digest;
    readonly sizeBytes: number;
    readonly allocatedBytes: number;
    readonly bytes: number;
    /** It came as changes to a copy that the destination had kept. */
    readonly lineage?: boolean;
  };
  readonly encodings?: EncodingShares;
  /** All bytes on the data plane as counted at the destination's sockets, both directions. */
  readonly wireBytes: number;
  readonly phases_ms: Readonly<Record<Phase, number>>;
  /** The paper's downtime: off at the source to on at the destination. */
  readonly downtime_ms: number;
  readonly stop: "graceful" | "forced" | "was-stopped";
  readonly started_ms: number;
  readonly ended_ms: number;
}

export interface SignedReceipt {
  readonly receipt: Receipt;
  /** Ed25519 signatures over the canonical JSON of the receipt, base64, by cloud name. */
  readonly signatures: Readonly<Record<string, string>>;
}
