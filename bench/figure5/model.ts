/**
 * The paper's model of Figure 5: a monolithic migration moves the OS part and the user data, a
 * composed one in the best case the user data alone; negotiation, set-up and boot are constant.
 */
import type { Point } from "./experiment.ts";

export interface Model {
  readonly bitsPerSecond: number;
  /** What the monolithic block has besides user data, as it travels. */
  readonly osBytes: number;
  /** User data on the wire over its allocated bytes. */
  readonly userDataRatio: number;
  /** Negotiation, set-up, stop and boot: means of what was measured. */
  readonly constant_s: number;
  /** Stop and boot alone, which the monolithic machine has too. */
  readonly both_s: number;
}

export const PAPER_OS_BYTES = 125e6;
/** The narrower of the two links; the text says 120 Kbps, the axes fit kilobytes better. */
export const PAPER_RATES = [
  { name: "135mbit", title: "135 Mbit/s (GARR)", bitsPerSecond: 135e6 },
  { name: "120kbit", title: "120 kbit/s (ADSL, as the text says)", bitsPerSecond: 120e3 },
  { name: "120kbyte", title: "120 kB/s (ADSL, if kilobytes are meant)", bitsPerSecond: 960e3 },
] as const;

export function modelOf({
  bitsPerSecond,
  points,
}: {
  readonly bitsPerSecond: number;
  readonly points: readonly Point[];
}): Model {
  const best = points.filter((point) => point.case === "best");
  const mean = (of: (point: Point) => number): number =>
    best.reduce((sum, point) => sum + of(point), 0) / Math.max(1, best.length);
  const phases = (...names: readonly string[]): number =>
    mean(({ seconds }) => names.reduce((sum, name) => sum + (seconds[name] ?? 0), 0));
  return {
    bitsPerSecond,
    osBytes: mean((point) => point.monolith.bytes - point.userDataBytes),
    userDataRatio: mean((point) => point.movedUserDataBytes / point.userDataBytes),
    constant_s: phases("negotiate", "components", "compose", "stop", "boot"),
    both_s: phases("stop", "boot"),
  };
}

export function composed_s(model: Model, userDataBytes: number): number {
  return model.constant_s + (userDataBytes * model.userDataRatio * 8) / model.bitsPerSecond;
}

export function monolithic_s(model: Model, userDataBytes: number): number {
  const bytes = model.osBytes + userDataBytes * model.userDataRatio;
  return model.both_s + (bytes * 8) / model.bitsPerSecond;
}
