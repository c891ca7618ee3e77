import type {
  CloudLoad,
  GuestLoad,
  MoveCost,
  PlacementPolicy,
  PlacementSettings,
} from "./contract.ts";
import { loadWith, takes } from "./policies.ts";

/** Gain and cost of one move, in the federation's currency. */
export interface Verdict {
  /** The loads compared: of the sender as it is, of the receiver with the machine. */
  readonly loadHere: number;
  readonly loadThere: number;
  readonly bytes: number;
  readonly expected_s: number;
  readonly downtime_s: number;
  /** What the sender pays for the bytes. */
  readonly egress: number;
  readonly cost: number;
  readonly gain: number;
  /** The move is worth it: the gain is greater than the cost. */
  readonly passes: boolean;
}

/**
 * Weighs a move. The gain is the crowding that the machine leaves behind: the difference of the two
 * loads, for as many processors as it keeps busy, over what is left of the horizon once everything
 * has been moved. The cost is the money for the bytes that the candidate misses, and the downtime.
 */
export function weigh(
  policy: PlacementPolicy,
  from: CloudLoad,
  to: CloudLoad,
  guest: GuestLoad,
  cost: MoveCost,
  settings: PlacementSettings,
): Verdict {
  const bytes = cost.missingBytes + cost.userDataBytes;
  const expected_s = (bytes * 8) / cost.bitsPerSecond;
  const egress = (bytes / 1e9) * cost.egressPricePerGB;
  const loadHere = loadWith(policy, from, 0);
  const loadThere = loadWith(policy, to, guest.cpus);
  const left_h = Math.max(0, settings.horizon_s - expected_s - cost.downtime_s) / 3600;
  const gain = (loadHere - loadThere) * guest.cpus * left_h * settings.valuePerCpuHour;
  const price = egress + (cost.downtime_s / 3600) * settings.downtimePricePerHour;
  const { downtime_s } = cost;
  const sums = { bytes, expected_s, downtime_s, egress, cost: price, gain };
  return { loadHere, loadThere, ...sums, passes: gain > price };
}

export interface Receiver<C> {
  readonly cloud: CloudLoad;
  readonly cost: MoveCost;
  /** What the caller knows it by. */
  readonly name: C;
}

export interface Choice<C> {
  readonly to: C;
  readonly verdict: Verdict;
}

/**
 * The receiver for one guest among candidates that have room for it: the lowest load, or projected
 * trend, among those that pass the gate; of equal ones the cheaper, then the first. Undefined where
 * none passes.
 */
export function chooseReceiver<C>(
  policy: PlacementPolicy,
  from: CloudLoad,
  guest: GuestLoad,
  candidates: readonly Receiver<C>[],
  settings: PlacementSettings,
): Choice<C> | undefined {
  let best: Choice<C> | undefined;
  for (const { cloud, cost, name } of candidates) {
    if (!takes(policy, cloud, guest.cpus, settings)) continue;
    const verdict = weigh(policy, from, cloud, guest, cost, settings);
    if (verdict.passes && isBetter(verdict, best?.verdict)) best = { to: name, verdict };
  }
  return best;
}

function isBetter(verdict: Verdict, best: Verdict | undefined): boolean {
  if (best === undefined) return true;
  return (
    verdict.loadThere < best.loadThere ||
    (verdict.loadThere === best.loadThere && verdict.cost < best.cost)
  );
}

/**
 * Up to `choices` different numbers below `count`, drawn without replacement (Floyd's method): the
 * power of d choices. With d = 2 the greatest load is already within a constant of the best, and
 * the cost of a decision no longer grows with the number of clouds.
 *
 * @param draw a fraction from 0 up to but not including 1
 */
export function sampleOf(count: number, choices: number, draw: () => number): number[] {
  const taken = new Set<number>();
  for (let top = Math.max(0, count - choices); top < count; top += 1) {
    const drawn = Math.floor(draw() * (top + 1));
    taken.add(taken.has(drawn) ? top : drawn);
  }
  return [...taken];
}
