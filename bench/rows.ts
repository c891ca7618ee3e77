/** The form in which every benchmark reports. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
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

/** What is measured; the rest of a row follows from it. */
type Figures = Omit<Row, "id" | "ratio">;

const rounded = (value: number): number => Number(value.toPrecision(4));

export function rowOf(id: string, { ours, peer, target, unit, how }: Figures): Row {
  const ratio = rounded(ours / peer);
  return { id, ours: rounded(ours), peer: rounded(peer), ratio, target, unit, how };
}

const fileOf = (name: string): string => join(import.meta.dirname, "results", `${name}.json`);

/** Writes `bench/results/NAME.json`. */
export function writeResults(name: string, rows: readonly Row[]): void {
  mkdirSync(join(import.meta.dirname, "results"), { recursive: true });
  writeFileSync(fileOf(name), `${JSON.stringify(rows, undefined, 2)}\n`);
}

/** Writes rows into `bench/results/NAME.json` and keeps those of other ids. */
export function mergeResults(name: string, rows: readonly Row[]): void {
  const ids = new Set(rows.map(({ id }) => id));
  const file = fileOf(name);
  const known = existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as Row[]) : [];
  writeResults(name, [...known.filter(({ id }) => !ids.has(id)), ...rows]);
}

export function tellRow({ id, ours, peer, ratio, target, unit }: Row): void {
  process.stdout.write(
    `${id}: ${ours} ${unit} against ${peer}, ratio ${ratio} (target ${target})\n`,
  );
}
