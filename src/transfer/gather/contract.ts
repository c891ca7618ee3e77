import type { ComponentReference, Digest, ErrorReport } from "#core";
import type { Holder } from "#delta";
import type { ComponentStore } from "#repository";
import type { DataReceiver } from "../contract.ts";

/** A cloud that would send components, with what is known of it. */
export interface GatherSource {
  /** `cloud` names it in reports and in the log. */
  readonly holder: Holder;
  /** Called when it is first needed; every call gives the same receiver. */
  open(): DataReceiver;
  /** Does it hold this component, and would it send it? */
  holds(component: Digest): boolean;
}

export interface GatherOptions {
  readonly store: ComponentStore;
  /**
   * Each cloud at most once. The first answers for the components: it is asked for whole blobs in
   * the last resort, whatever it sent before.
   */
  readonly sources: readonly GatherSource[];
  readonly references: readonly ComponentReference[];
  /** Who pins the components, and those that are copied from; the caller unpins. */
  readonly owner: string;
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: GatherProgress) => void;
  /** The blobs of a component's manifest, once they are known. */
  readonly onBlobs?: (component: Digest, blobs: readonly Digest[]) => void;
  /** A component has been admitted. */
  readonly onComponent?: (report: ComponentReport) => Promise<void>;
  /**
   * After so long without a byte a source's share goes to another source, where there is one;
   * default 20,000.
   */
  readonly stall_ms?: number;
}

/** At most ten a second for each component, and one when its image is whole. */
export interface GatherProgress {
  readonly component: Digest;
  /** Of the image: copied, received and, at the end, everything. */
  readonly doneBytes: number;
  readonly totalBytes: number;
  readonly wireBytes: number;
  /** Bytes of the image that did not cross the wire so far. */
  readonly savedBytes: number;
  /** The cloud that the last bytes came from; this cloud's own repository has no name. */
  readonly source?: string;
}

export interface ComponentReport {
  readonly id: Digest;
  readonly name: string;
  readonly sizeBytes: number;
  /** Bytes of contents that were copied from components held here. */
  readonly heldBytes: number;
  readonly copiedFrom: readonly { readonly component: Digest; readonly bytes: number }[];
  /** Bytes of contents that came as patches against held ones, raw. */
  readonly patchedBytes: number;
  /** Bytes of contents that came, raw, patched ones included. */
  readonly missingBytes: number;
  /** Recipes, contents, blobs. */
  readonly wireBytes: number;
  readonly wireBytesBySource: Readonly<Record<string, number>>;
  /** True when the image travelled as one blob, because no recipe led to it. */
  readonly asBlob: boolean;
}

/** A source that sent what does not match its digest; it was asked for nothing more. */
export interface Liar {
  readonly cloud: string;
  readonly component: Digest;
  readonly error: ErrorReport;
}

export interface GatherReport {
  /** Of the components that were missing, in the order in which they were asked for. */
  readonly components: readonly ComponentReport[];
  readonly wireBytes: number;
  readonly liars: readonly Liar[];
}
