import type { ContentSource } from "./contract.ts";

const BUFFER_BYTES = 4 * 1024 * 1024;

/** Reads a source from one position to its end in large pieces, one piece ahead. */
export interface SequentialReader {
  /**
   * The next bytes: none at the end, otherwise between 1 and `lengthMax`, and all of `lengthMax`
   * where that is at most `whole` and there are as many. Valid until the next call.
   */
  peek(lengthMax: number): Promise<Uint8Array>;
  /** Passes bytes that were seen. */
  skip(length: number): void;
  /** To be awaited in the end, so that no reading outlives its reader. */
  close(): Promise<void>;
}

interface Piece {
  readonly bytes: Uint8Array;
  readonly ready: Promise<void>;
}

/** @param wholeMax at most 1 MiB */
export function sequentialReader(
  source: ContentSource,
  start: number,
  wholeMax: number,
): SequentialReader {
  const whole = Math.min(wholeMax, source.sizeBytes - start);
  /* With room before it for what is left of the piece before. */
  const bufferBytes = whole + Math.min(BUFFER_BYTES, source.sizeBytes - start);
  const buffers: (Uint8Array | undefined)[] = [undefined, undefined];
  let position = start;
  let turn = 0;
  const readAhead = (): Piece => {
    const length = Math.min(BUFFER_BYTES, source.sizeBytes - position);
    const buffer = buffers[turn] ?? new Uint8Array(length === 0 ? whole : bufferBytes);
    buffers[turn] = buffer;
    turn = 1 - turn;
    const bytes = buffer.subarray(0, whole + length);
    const ready = length === 0 ? Promise.resolve() : source.read(bytes.subarray(whole), position);
    /* `advance` throws it; until then nobody waits for it. */
    ready.catch(() => undefined);
    position += length;
    return { bytes, ready };
  };
  let ahead = readAhead();
  let held: Uint8Array = new Uint8Array(0);
  const advance = async (): Promise<void> => {
    await ahead.ready;
    const { bytes } = ahead;
    bytes.set(held, whole - held.length);
    held = bytes.subarray(whole - held.length);
    ahead = readAhead();
  };
  return {
    async peek(lengthMax) {
      if (held.length < Math.min(lengthMax, whole)) await advance();
      return held.subarray(0, lengthMax);
    },
    skip(length) {
      held = held.subarray(length);
    },
    async close() {
      await ahead.ready.catch(() => undefined);
    },
  };
}
