/** The form in which every benchmark reports. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface Row {
  readonly id: string;
  readonly ours: number;
  readonly peer: number;
  /** ours / peer. */
  readonly ratio: number;
  /** What the ratio should be, or `none`. */
  readonly target: string;
  readonly unit: string;
  readonly how: string;
}

/** Writes `bench/results/NAME.json`. */
export function writeResults(name: string, rows: readonly Row[]): void {
  const directory = join(import.meta.dirname, "results");
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, `${name}.json`), `${JSON.stringify(rows, undefined, 2)}\n`);
}
