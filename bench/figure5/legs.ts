/** The migrations of Figure 5 in their order, and which of them a run still has to make. */
import type { MigrationCase } from "#core";

export interface Leg {
  /** Names it among those of a run. */
  readonly name: string;
  readonly case: MigrationCase;
  readonly machine: "web" | "database";
  /** What the machine has downloaded when it leaves. */
  readonly downloadBytes: number;
}

/** What the second cloud holds when a session begins. */
export type Held = "nothing" | "all but redis";

/** @param sizes downloaded bytes, ascending */
export function legsOf(sizes: readonly number[]): Leg[] {
  const [smallest = 0] = sizes;
  const best = sizes.map((size) => legOf("best", "web", size));
  const average = legOf("average", "database", smallest);
  return [legOf("worst", "web", smallest), ...best, average];
}

function legOf(name: MigrationCase, machine: Leg["machine"], downloadBytes: number): Leg {
  return { name: `${name}-${downloadBytes}`, case: name, machine, downloadBytes };
}

/** Those without a point, in order. */
export function openLegs(
  sizes: readonly number[],
  points: readonly { readonly leg: string }[],
): Leg[] {
  const done = new Set(points.map(({ leg }) => leg));
  return legsOf(sizes).filter(({ name }) => !done.has(name));
}

/** What the second cloud must hold so that these legs are of the cases that they stand for. */
export function heldBefore(legs: readonly Leg[]): Held {
  return legs.some((leg) => leg.case === "worst") ? "nothing" : "all but redis";
}
