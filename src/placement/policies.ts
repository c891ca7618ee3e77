import type { CloudLoad, GuestLoad, PlacementPolicy, PlacementSettings } from "./contract.ts";
import { projected } from "./trend.ts";

/** How far a trend is carried on: further than this a slope says nothing. */
const OBSERVATIONS_AHEAD = 10;

/**
 * Should the cloud send machines now?
 *
 * @param mean load of the clouds that it knows, itself included
 */
export function sends(
  policy: PlacementPolicy,
  cloud: CloudLoad,
  mean: number,
  settings: PlacementSettings,
): boolean {
  switch (policy) {
    case "none":
      return false;
    case "least-loaded":
      return cloud.load > mean + settings.margin;
    case "threshold":
      return cloud.load > settings.high;
    case "selective":
      return cloud.trend.change === "rising";
  }
}

/**
 * The machines that a sending cloud would part with, most wanted first: enough of them, and no more,
 * to bring it where the policy wants it. A machine that keeps nothing busy never goes.
 */
export function guestsToSend<G extends GuestLoad>(
  policy: PlacementPolicy,
  cloud: CloudLoad,
  guests: readonly G[],
  mean: number,
  settings: PlacementSettings,
): G[] {
  if (policy === "none") return [];
  if (policy === "selective") return risen(cloud, guests);
  const aim = policy === "threshold" ? settings.low : mean;
  const excess = (cloud.load - aim) * cloud.capacity;
  const byLoad = guests.filter(({ cpus }) => cpus > 0).toSorted((a, b) => b.cpus - a.cpus);
  return enough(byLoad, ({ cpus }) => cpus, excess);
}

/**
 * Those that made the load rise, the greatest share of the trend first, until they make up for half
 * of it: sending all would only turn the senders of today into the receivers of tomorrow.
 */
function risen<G extends GuestLoad>(cloud: CloudLoad, guests: readonly G[]): G[] {
  const rising = guests
    .filter(({ cpus, trend }) => cpus > 0 && trend.slope > 0)
    .toSorted((a, b) => b.trend.slope - a.trend.slope);
  const sum = rising.reduce((total, { trend }) => total + trend.slope, 0);
  const rise = Math.max(sum, cloud.trend.slope * cloud.capacity);
  return enough(rising, ({ trend }) => trend.slope, rise / 2);
}

/** The first items whose values reach `wanted`. */
function enough<T>(items: readonly T[], valueOf: (item: T) => number, wanted: number): T[] {
  const taken: T[] = [];
  let sum = 0;
  for (const item of items) {
    if (sum >= wanted) break;
    taken.push(item);
    sum += valueOf(item);
  }
  return taken;
}

/** A guest's part of the rise of its cloud's load, 0 to 1. */
export function trendShare(cloud: CloudLoad, guest: GuestLoad): number {
  const rise = cloud.trend.slope * cloud.capacity;
  if (rise <= 0) return guest.trend.slope > 0 ? 1 : 0;
  return Math.min(1, Math.max(0, guest.trend.slope) / rise);
}

/** The load by which receivers are compared, with a guest of `cpus` added. */
export function loadWith(policy: PlacementPolicy, cloud: CloudLoad, cpus: number): number {
  const now = policy === "selective" ? projected(cloud.trend, OBSERVATIONS_AHEAD) : cloud.load;
  return now + cpus / cloud.capacity;
}

/** May the cloud take the guest under this policy? A cloud that would send itself may not. */
export function takes(
  policy: PlacementPolicy,
  cloud: CloudLoad,
  cpus: number,
  settings: PlacementSettings,
): boolean {
  if (policy === "threshold") return loadWith(policy, cloud, cpus) <= settings.low;
  if (policy === "selective") return cloud.trend.change !== "rising";
  return policy === "least-loaded";
}
