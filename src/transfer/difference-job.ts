/** What goes to a thread that makes differences, and what comes back. */
export interface DifferenceJob {
  /** As `dictionaryOf` makes it: one byte, then the references. */
  readonly dictionary: Uint8Array;
  readonly raw: Uint8Array;
  /** See `SearchOptions` of room delta. */
  readonly quick: boolean;
}

/** The buffers come back, as they were moved. */
export interface DifferenceResult extends Omit<DifferenceJob, "quick"> {
  /** Undefined where the bytes are not similar enough. */
  readonly difference: Uint8Array | undefined;
}

/** Below this size bytes are copied: they may share their memory with others. */
const MOVED_BYTES_MIN = 2 ** 20;

/** The memory of large bytes, which is moved to the other thread in place of a copy. */
export function ownedBuffers(parts: readonly Uint8Array[]): ArrayBuffer[] {
  return parts.flatMap(({ buffer, byteOffset, length }) =>
    length >= MOVED_BYTES_MIN && byteOffset === 0 && buffer instanceof ArrayBuffer ? [buffer] : [],
  );
}
