/** Finds where a page is in the images of components that the destination holds. */
export interface ComponentPages {
  /**
   * A place whose 4096 bytes were compared with those of `page`, or undefined. One call at a time.
   *
   * @param hint is looked at first
   */
  find(page: Uint8Array, hint?: PagePlace): Promise<PagePlace | undefined>;
}

/** A page of 4096 bytes of a component's image. */
export interface PagePlace {
  /** Ordinal, as both sides number the components. */
  readonly component: number;
  readonly page: number;
}

/** The image of a component at the destination. */
export interface ComponentImage {
  readonly sizeBytes: number;
  /** Fills `target`. */
  read(target: Uint8Array, offset: number): Promise<void>;
}

/** What was encoded. Pages are guest pages of 4096 bytes. */
export interface MemoryFigures {
  /** Of the hypervisor's stream. */
  readonly rawBytes: number;
  /** On the wire. */
  readonly encodedBytes: number;
  /** Pages that every byte of is the same. */
  readonly fillPages: number;
  readonly componentPages: number;
  /** Equal to a page sent before. */
  readonly repeatedPages: number;
  /** Sent as differences to a page sent before, and the bytes of these before compression. */
  readonly patchedPages: number;
  readonly patchBytes: number;
  /** Sent whole, before compression. */
  readonly literalPages: number;
  /** Not of pages, or not understood. */
  readonly opaqueBytes: number;
  /** Bytes of the frames' descriptions before compression. */
  readonly headBytes: number;
}
