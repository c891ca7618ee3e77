/**
 * The words of placement. Loads are shares of a cloud's processors, 0 to 1 and above where more is
 * asked for than there is. Every decision is pure and the same in the agent and in the simulator.
 */
import type { LoadTrend } from "./trend.ts";

/**
 * - `none`: no machine goes by itself.
 * - `least-loaded`: a cloud well above the mean sends to the least loaded.
 * - `threshold`: a cloud above a high mark sends until it is below a low one.
 * - `selective`: no marks; a cloud sends when its load has changed upwards, the machines that made
 *   it rise, to where the projected trend is lowest (after Andreolini, Casolari, Colajanni and
 *   Messori 2009, the paper's reference [8]).
 */
export const PLACEMENT_POLICIES = ["none", "least-loaded", "threshold", "selective"] as const;
export type PlacementPolicy = (typeof PLACEMENT_POLICIES)[number];

export interface PlacementSettings {
  /** `threshold`: a cloud above sends. Share of its processors. */
  readonly high: number;
  /** `threshold`: it sends until it is below, and takes only while it stays below. */
  readonly low: number;
  /** `least-loaded`: how far above the mean of the known clouds a cloud must be to send. */
  readonly margin: number;
  /** Between two observations of a load. */
  readonly observation_s: number;
  /** How long a difference of load is expected to last: what a move can gain is counted over it. */
  readonly horizon_s: number;
  /** What an hour of one processor that a machine waits for is worth, in the federation's currency. */
  readonly valuePerCpuHour: number;
  /** What an hour of a machine's downtime costs. */
  readonly downtimePricePerHour: number;
}

/** Marks as virtualisation managers have them by default; prices of the order of public clouds'. */
export const PLACEMENT_SETTINGS: PlacementSettings = {
  high: 0.8,
  low: 0.7,
  margin: 0.1,
  observation_s: 30,
  horizon_s: 6 * 3600,
  valuePerCpuHour: 0.04,
  downtimePricePerHour: 0.4,
};

export interface CloudLoad {
  /** Processors. Above 0. */
  readonly capacity: number;
  /** As last observed. */
  readonly load: number;
  readonly trend: LoadTrend;
}

/** A machine of the cloud that may send it. */
export interface GuestLoad {
  /** Processors that it keeps busy. */
  readonly cpus: number;
  /** Of `cpus`. */
  readonly trend: LoadTrend;
}

/** What moving one machine to one cloud takes, as the mover predicts it. */
export interface MoveCost {
  /** Component bytes that the candidate misses, on the wire. */
  readonly missingBytes: number;
  readonly userDataBytes: number;
  readonly bitsPerSecond: number;
  /** Of the sending cloud. */
  readonly egressPricePerGB: number;
  readonly downtime_s: number;
}
