import type { Digest } from "./digest.ts";
import type { ContentShares, MigrationCase, MigrationMode, StorageMethod } from "./plan.ts";

/**
 * The phases of a migration, in order; the paper's Figure 5(b) has negotiate, compose and boot. A hot
 * one has memory and switch in place of stop and boot.
 */
export type Phase =
  | "negotiate"
  | "components"
  | "compose"
  | "stop"
  | "userData"
  | "memory"
  | "switch"
  | "boot";

/** Only a hot migration has these. */
type HotPhase = "memory" | "switch";

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

/** What a hot migration did beside what every migration does. */
export interface HotReport {
  readonly memory: {
    /** How it came in the end. */
    readonly method: "precopy" | "postcopy";
    readonly passes: number;
    /** Of the hypervisor's stream. */
    readonly rawBytes: number;
    readonly wireBytes: number;
    /** Pages that came as references to components, and to pages sent before. */
    readonly componentPages: number;
    readonly repeatedPages: number;
  };
  readonly storage: {
    readonly method: StorageMethod;
    /** Passes while the machine ran at the source, and what they read. */
    readonly passes: number;
    readonly aheadBytes: number;
    /** What was not here at the switch, and how it came. */
    readonly staleBytes: number;
    readonly demandedBytes: number;
    readonly backgroundBytes: number;
    readonly supersededBytes: number;
    readonly zeroBytes: number;
  };
  /**
   * The parts of the downtime: until memory, status and the map of the disk were here, then until the
   * token was durable, then until the machine ran.
   */
  readonly pause_ms: { readonly status: number; readonly token: number; readonly resume: number };
  /** For so long the machine ran here and depended on the source. */
  readonly fill_ms: number;
  /** The hypervisor died after the switch: the machine was started anew from its user data block. */
  readonly restarted?: boolean;
}

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
    /** Of a hot migration there is none: the block does not stand still. */
    readonly digest?: Digest;
    readonly sizeBytes: number;
    readonly allocatedBytes: number;
    readonly bytes: number;
    /** It came as changes to a copy that the destination had kept. */
    readonly lineage?: boolean;
  };
  readonly encodings?: EncodingShares;
  /** All bytes on the data plane as counted at the destination's sockets, both directions. */
  readonly wireBytes: number;
  readonly phases_ms: Readonly<
    Record<Exclude<Phase, HotPhase>, number> & Partial<Record<HotPhase, number>>
  >;
  /** The paper's downtime: off at the source to on at the destination. */
  readonly downtime_ms: number;
  /** `none`: it was not stopped, but paused. */
  readonly stop: "graceful" | "forced" | "was-stopped" | "none";
  readonly hot?: HotReport;
  readonly started_ms: number;
  readonly ended_ms: number;
}

export interface SignedReceipt {
  readonly receipt: Receipt;
  /** Ed25519 signatures over the canonical JSON of the receipt, base64, by cloud name. */
  readonly signatures: Readonly<Record<string, string>>;
}
