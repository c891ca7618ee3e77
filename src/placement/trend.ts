/**
 * A load's trend and the detector of its changes: a two-sided CUSUM on the differences from a
 * slowly moving mean, measured in mean deviations, so that it needs no mark that an administrator
 * would have to set for each cloud.
 */
export interface LoadTrend {
  readonly samples: number;
  /** Exponentially weighted mean. */
  readonly mean: number;
  /** Exponentially weighted mean of the distance from it. */
  readonly deviation: number;
  /** Smoothed change from one observation to the next. */
  readonly slope: number;
  /** Smoothed load, from which `slope` is taken. */
  readonly level: number;
  /** Cumulative sums, in deviations, of what lies above and below the mean. */
  readonly rise: number;
  readonly fall: number;
  /** What the last observation told. */
  readonly change: "none" | "rising" | "falling";
}

/** Weight of an observation in the mean that changes are told from. */
const MEAN_WEIGHT = 0.05;
/** Weight of an observation in level and slope. */
const TREND_WEIGHT = 0.25;
/** CUSUM's allowance: a shift of twice as many deviations is found quickest. */
const ALLOWANCE = 0.5;
/** CUSUM's decision interval: a false alarm in several hundred observations of pure noise. */
const DECISION = 8;
/** Differences below this are noise even where a load has stood still. */
const DEVIATION_MIN = 0.01;
/** Before so many observations the deviation is not known well enough. */
const SAMPLES_MIN = 8;

export function startTrend(load: number): LoadTrend {
  const sums = { rise: 0, fall: 0, change: "none" } as const;
  return { samples: 1, mean: load, deviation: 0, slope: 0, level: load, ...sums };
}

/** The trend after one more observation. Pure; constant time and space. */
export function observe(trend: LoadTrend, load: number): LoadTrend {
  const samples = trend.samples + 1;
  const weight = Math.max(MEAN_WEIGHT, 1 / samples);
  const error = load - trend.mean;
  const deviation = trend.deviation + weight * (Math.abs(error) - trend.deviation);
  const level = trend.level + TREND_WEIGHT * (load - trend.level);
  const slope = trend.slope + TREND_WEIGHT * (level - trend.level - trend.slope);
  const scaled = error / Math.max(DEVIATION_MIN, trend.deviation);
  const known = samples > SAMPLES_MIN;
  const rise = known ? Math.max(0, trend.rise + scaled - ALLOWANCE) : 0;
  const fall = known ? Math.max(0, trend.fall - scaled - ALLOWANCE) : 0;
  if (rise <= DECISION && fall <= DECISION) {
    const mean = trend.mean + weight * error;
    return { samples, mean, deviation, slope, level, rise, fall, change: "none" };
  }
  return { ...afterChange(samples, load, deviation, slope), change: turn(rise, fall) };
}

function turn(rise: number, fall: number): "rising" | "falling" {
  return rise >= fall ? "rising" : "falling";
}

/** A change is told once: what follows is told from the new load. */
function afterChange(
  samples: number,
  load: number,
  deviation: number,
  slope: number,
): Omit<LoadTrend, "change"> {
  return { samples, mean: load, deviation, slope, level: load, rise: 0, fall: 0 };
}

/** The load expected after so many more observations, never below 0. */
export function projected(trend: LoadTrend, observations: number): number {
  return Math.max(0, trend.level + trend.slope * observations);
}
