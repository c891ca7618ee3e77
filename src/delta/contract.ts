import type { Digest } from "#core";

/** What is known of a content without reading it. */
export interface ContentFact {
  /** The first path that has it; empty where there is none. */
  readonly path: string;
  /** Above 0. */
  readonly sizeBytes: number;
  /** The first 16 hexadecimal digits of its sha256. */
  readonly head: string;
  /** Similarity sketch: see `sketcher`; empty for small contents. */
  readonly sketch: Uint32Array;
}

/** A content of a base that both sides hold. */
export interface ReferenceFact extends ContentFact {
  /** Index of the base. */
  readonly base: number;
  /** Index in the recipe of the base. */
  readonly content: number;
}

/** A content that has to travel. */
export interface WantedFact extends ContentFact {
  /** Index in the recipe of the component. */
  readonly content: number;
}

/** A run of bytes of a wanted content. */
export interface PackSegment {
  readonly content: number;
  readonly offset: number;
  /** Above 0. */
  readonly length: number;
}

/** A run of bytes of a base's content that serves as dictionary. */
export interface PackReference {
  readonly base: number;
  readonly content: number;
  readonly offset: number;
  /** Above 0. */
  readonly length: number;
}

/** What travels as one piece: the segments one after the other, compressed with the references. */
export interface PackPlan {
  readonly segments: readonly PackSegment[];
  /** In the order in which they form the dictionary; empty where nothing is similar. */
  readonly references: readonly PackReference[];
  readonly rawBytes: number;
  /** Present where references name contents of the component itself: the index by which they do. */
  readonly own?: number;
}

export interface PackLimits {
  /** Most raw bytes of a pack, above 0. */
  readonly rawBytesMax: number;
  /** Most bytes of references of a pack. */
  readonly referenceBytesMax: number;
}

/**
 * How contents are compressed. `direct` packs travel frame by frame, each frame at `level` or not at
 * all; `solid` packs are one zstd frame each, with the references as dictionary or, where
 * that leaves less, of the difference from them.
 */
export type Encoding =
  | { readonly kind: "direct"; readonly level: number | undefined }
  | { readonly kind: "solid"; readonly level: number };

/** What the choice of an encoding depends on. */
export interface EncodingConditions {
  /** Of the link; absent where nothing is known. */
  readonly bitsPerSecond?: number;
  /** Processors that are free to compress: above 0, may be a fraction. */
  readonly cores: number;
}

/** A cloud that holds a component and would send it. */
export interface Holder {
  readonly cloud: string;
  /** Measured or announced, towards the receiver; absent where unknown. */
  readonly bitsPerSecond?: number;
  readonly roundTrip_ms?: number;
  readonly pricePerGB: number;
}

/** An encoded pack's identity: equal keys mean equal bytes. */
export type PackKey = Digest;
