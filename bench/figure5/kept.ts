/**
 * The points of a run, kept one by one in `build/figure5/points.json`: a run that was interrupted
 * goes on with those that it lacks.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Point } from "./experiment.ts";
import { SCENE } from "./clouds.ts";

export interface KeptRun {
  readonly bitsPerSecond: number;
  /** Downloaded bytes, ascending. */
  readonly sizes: readonly number[];
  readonly points: readonly Point[];
  /** Machines that had the whole file with the right digest at the end of a session. */
  readonly arrived: readonly { readonly session: number; readonly machine: string }[];
}

const FILE = join(SCENE, "points.json");

export function loadRun(): KeptRun | undefined {
  return existsSync(FILE) ? (JSON.parse(readFileSync(FILE, "utf8")) as KeptRun) : undefined;
}

/** Written beside and renamed, so that what was kept before survives a crash. */
export function keepRun(run: KeptRun): void {
  mkdirSync(SCENE, { recursive: true });
  writeFileSync(`${FILE}.new`, `${JSON.stringify(run, null, 2)}\n`, { flush: true });
  renameSync(`${FILE}.new`, FILE);
}
