/** Parameters of one zstd frame as plain numbers; named as zstd's `ZSTD_c_` parameters. */
export interface SolidParameters {
  readonly compressionLevel: number;
  readonly windowLog: number;
  readonly hashLog: number;
  readonly chainLog: number;
}

/** Levels that solid packs are made with. */
export const SOLID_LEVELS = [6, 9, 12, 19] as const;

/** log2, rounded up, of how many positions have to be indexed, within what zstd takes. */
function log2Within(bytes: number, least: number, most: number): number {
  return Math.max(least, Math.min(most, Math.ceil(Math.log2(Math.max(1, bytes)))));
}

/**
 * Parameters with which a pack finds everything in its dictionary: the window spans both, and the
 * tables have a slot for every byte. Without this zstd indexes the end of a large dictionary only.
 *
 * @param rawBytes of the pack
 * @param referenceBytes of its dictionary, 0 where there is none
 */
export function solidParameters(
  level: number,
  rawBytes: number,
  referenceBytes: number,
): SolidParameters {
  const span = rawBytes + referenceBytes;
  const windowLog = log2Within(span, 17, 26);
  const hashLog = log2Within(span, 16, 24);
  const chainLog = log2Within(span, 16, 24);
  return { compressionLevel: level, windowLog, hashLog, chainLog };
}

/** Most memory of one encoder with {@link solidParameters}, besides raw bytes and references. */
export function solidMemoryBytes(level: number, rawBytes: number, referenceBytes: number): number {
  const { hashLog, chainLog } = solidParameters(level, rawBytes, referenceBytes);
  return 2 * 4 * (2 ** hashLog + 2 ** chainLog) + rawBytes + referenceBytes + 2 ** 20;
}
