/**
 * Parameters of one zstd frame as plain numbers, named as zstd's `ZSTD_c_` parameters; what is
 * absent stays as zstd has it for the level.
 */
export interface SolidParameters {
  readonly compressionLevel: number;
  readonly windowLog: number;
  readonly hashLog?: number;
  readonly chainLog?: number;
  readonly searchLog?: number;
  readonly minMatch?: number;
}

/** Levels that solid packs are made with; others are not measured. */
export const SOLID_LEVELS = [1, 3, 6, 9, 18, 19] as const;

/** From here on zstd builds trees of matches, which cost memory and much time. */
const TREE_LEVEL = 13;

/** log2, rounded up, of a number of bytes. */
function log2Of(bytes: number): number {
  return Math.ceil(Math.log2(Math.max(1, bytes)));
}

function within(value: number, least: number, most: number): number {
  return Math.max(least, Math.min(most, value));
}

/** Up to this span a table with room for all that is in it costs little. */
const SMALL_SPAN_LOG = 22;

/**
 * Parameters with which a pack finds what its dictionary has: the window spans both, and the
 * tables grow with both. As zstd chooses them they index only the end of a large dictionary. The
 * values are measured: see doc/delta.md.
 *
 * @param level one of {@link SOLID_LEVELS}
 * @param rawBytes of the pack
 * @param referenceBytes of its dictionary, 0 where there is none
 */
export function solidParameters(
  level: number,
  rawBytes: number,
  referenceBytes: number,
): SolidParameters {
  const spanLog = log2Of(rawBytes + referenceBytes);
  const windowLog = within(spanLog, 17, 26);
  if (referenceBytes === 0) return { compressionLevel: level, windowLog };
  const roomy = level >= 9 || (level >= 3 && spanLog <= SMALL_SPAN_LOG);
  const sparse = referenceBytes > 2 * rawBytes || roomy ? 1 : 2;
  const hashLog = within(spanLog - sparse, 14, 24);
  if (level < 3) return { compressionLevel: level, windowLog, hashLog };
  if (level < TREE_LEVEL) return rowParameters(Math.max(6, level), windowLog, hashLog);
  const trees = {
    compressionLevel: level,
    windowLog,
    hashLog: within(spanLog - 2, 14, 22),
    chainLog: within(spanLog - 1, 14, 24),
  };
  return level < 19 ? { ...trees, searchLog: 3 } : trees;
}

/** Level 3 with a dictionary is slower than level 6 and leaves more, so it is never used. */
function rowParameters(level: number, windowLog: number, hashLog: number): SolidParameters {
  return { compressionLevel: level, windowLog, hashLog, chainLog: hashLog, minMatch: 6 };
}

/** Tables of one encoder without a dictionary for 16 MiB, in MiB, as zstd 1.5.7 has them. */
const PLAIN_TABLES_MIB: ReadonlyMap<number, number> = new Map([
  [1, 12],
  [3, 12],
  [6, 12],
  [9, 20],
  [18, 60],
  [19, 92],
]);

/**
 * Most memory of one encoder with {@link solidParameters}, besides the buffers with the raw bytes
 * and the dictionary: the tables, which zstd has twice where there is a dictionary, its copy of
 * the dictionary, and the window. Measured within a tenth; see doc/delta.md.
 */
export function solidMemoryBytes(level: number, rawBytes: number, referenceBytes: number): number {
  const { hashLog = 0, chainLog = 0 } = solidParameters(level, rawBytes, referenceBytes);
  const window = rawBytes + referenceBytes + 3 * 2 ** 20;
  if (referenceBytes === 0) {
    const share = Math.min(1, (2 * rawBytes + 2 ** 16) / 2 ** 24);
    return window + share * (PLAIN_TABLES_MIB.get(level) ?? 92) * 2 ** 20;
  }
  const hash = 2 ** hashLog;
  const trees = level >= TREE_LEVEL ? 4 * 2 ** chainLog : 0;
  const tags = level >= 3 && level < TREE_LEVEL ? hash : 0;
  return window + 2 * (4 * hash + trees + tags);
}
