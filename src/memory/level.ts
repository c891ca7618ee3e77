import { forecastEncoding, type EncodingConditions, type EncodingOption } from "#delta";

/** Where nothing is known of the link. */
const LEVEL_UNKNOWN = 3;

const option = (level: number | undefined, plain_MBps: number, plainRatio: number) => ({
  level,
  choice: {
    encoding: { kind: "direct", level },
    plain_MBps,
    plainRatio,
    patched_MBps: plain_MBps,
    patchedRatio: plainRatio,
  } satisfies EncodingOption,
});

/** Measured on bodies of frames of running guests: see doc/memory.md. */
const OPTIONS = [
  option(undefined, 1_000, 1),
  option(1, 540, 0.2),
  option(3, 330, 0.185),
  option(9, 55, 0.167),
  option(19, 3, 0.153),
];

/**
 * The zstd level for memory on a link, or undefined for none: what brings typical pages across
 * soonest when compression and link work side by side, and of equals what sends least.
 */
export function memoryLevel(conditions: EncodingConditions): number | undefined {
  if (conditions.bitsPerSecond === undefined) return LEVEL_UNKNOWN;
  const facts = { rawBytes: 1e6, patchableBytes: 0 };
  const forecasts = OPTIONS.map(({ level, choice }) => ({
    level,
    ...forecastEncoding(choice, conditions, facts),
  }));
  const quickest = Math.min(...forecasts.map(({ seconds }) => seconds));
  const equals = forecasts.filter(({ seconds }) => seconds === quickest);
  return equals.toSorted((one, other) => one.wireBytes - other.wireBytes)[0]?.level;
}

/** A level for what the other side waits for: no more than is quick. */
export function urgentLevel(level: number | undefined): number | undefined {
  return level === undefined ? undefined : Math.min(level, LEVEL_UNKNOWN);
}
