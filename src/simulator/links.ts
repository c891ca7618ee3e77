/**
 * Built-in profiles of links. Public measurements give quantiles, so rates and round trips of pairs
 * are drawn from distributions with those quantiles; a seed gives the same federation again.
 */
export type LinkProfile = "skyplane" | "edge";

export const LINK_PROFILES = ["skyplane", "edge"] as const satisfies readonly LinkProfile[];

interface Quantiles {
  readonly p10: number;
  readonly median: number;
  readonly p90: number;
}

/** Skyplane's public grid between the regions of three providers, January 2022. */
const SKYPLANE = {
  rate_bps: { p10: 2.57e9, median: 4.25e9, p90: 6.92e9 },
  roundTrip_s: { p10: 0.0296, median: 0.1565, p90: 0.2608 },
};
/** Uplinks of edge sites and small firms, spread evenly over the orders of magnitude. */
const EDGE = {
  rate_bps: { least: 0.12e6, most: 100e6 },
  roundTrip_s: { p10: 0.01, median: 0.03, p90: 0.08 },
};

export interface LinkMatrix {
  /** Bits per second from region i to region j; not the same in both directions. */
  readonly pairRates: readonly (readonly number[])[];
  /** Seconds; the same in both directions. */
  readonly pairRoundTrips_s: readonly (readonly number[])[];
}

/**
 * The links between `regions` regions.
 *
 * @param random fractions from 0 up to but not including 1
 */
export function linkMatrix(
  profile: LinkProfile,
  regions: number,
  random: () => number,
): LinkMatrix {
  const trips = profile === "skyplane" ? SKYPLANE.roundTrip_s : EDGE.roundTrip_s;
  const rate = profile === "skyplane" ? skyplaneRate(random) : edgeRates(regions, random);
  const pairRates = square(regions, (from) => rate(from));
  const half = square(regions, () => quantile(trips, random()));
  const pairRoundTrips_s = square(
    regions,
    (from, to) => half[Math.min(from, to)]?.[Math.max(from, to)] ?? 0,
  );
  return { pairRates, pairRoundTrips_s };
}

function skyplaneRate(random: () => number): () => number {
  return () => quantile(SKYPLANE.rate_bps, random());
}

/** A pair is bounded by the uplink of its sender. */
function edgeRates(regions: number, random: () => number): (from: number) => number {
  const { least, most } = EDGE.rate_bps;
  const uplinks = Array.from({ length: regions }, () => least * (most / least) ** random());
  return (from) => uplinks[from] ?? least;
}

function square(size: number, valueOf: (from: number, to: number) => number): number[][] {
  return Array.from({ length: size }, (_row, from) =>
    Array.from({ length: size }, (_column, to) => valueOf(from, to)),
  );
}

/**
 * The value at a fraction of a distribution whose logarithm is linear between the quantiles that are
 * known, and goes on as far at its ends as to the nearest of them.
 */
export function quantile({ p10, median, p90 }: Quantiles, fraction: number): number {
  const [from, to, part] =
    fraction < 0.5 ? [p10, median, (fraction - 0.1) / 0.4] : [median, p90, (fraction - 0.5) / 0.4];
  return from * (to / from) ** part;
}
