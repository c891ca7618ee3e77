/** Bytes of the stream that say nothing of a page's content. */
export interface OpaqueEvent {
  readonly kind: "opaque";
  /** A view of what was pushed. */
  readonly bytes: Uint8Array;
}

interface PageRecord {
  /** Name of the RAM block, each character one byte. */
  readonly block: string;
  /** Of the page within the block: a multiple of 4096, below 2^52. */
  readonly address: number;
  /** True when the record names its block; false when it goes on in that of the record before. */
  readonly named: boolean;
}

/** A page with its bytes. */
export interface PageEvent extends PageRecord {
  readonly kind: "page";
  /** 4096 bytes, a view of what was pushed. */
  readonly bytes: Uint8Array;
}

/** A page of which every byte is `fill`, as QEMU sends pages of zeroes. */
export interface FillEvent extends PageRecord {
  readonly kind: "fill";
  readonly fill: number;
}

/** A piece of the stream: the pieces' bytes, one after the other, are the stream. */
export type RamStreamEvent = OpaqueEvent | PageEvent | FillEvent;

/**
 * Where a stream stands: `precopy` while the guest runs at the source; `postcopy` once the
 * destination was told to run, so that pages are waited for; `ended` when no page can follow.
 */
export type RamStreamStage = "precopy" | "postcopy" | "ended";
