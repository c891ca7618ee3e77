/**
 * Sweeps: one scenario with some of its fields varied, every combination under every policy and
 * seed. Pure; who runs them, and where, is the caller's.
 *
 * A sweep file: `scenario: FILE`, `vary:` with a list of values for each field by its path such as
 * `catalogue.zipf` or `clouds.0.uplink`, and `seeds:` a list of whole numbers.
 */
import { canonicalJson, TesseraError, type Json } from "#core";
import { parseDocument } from "yaml";
import { z } from "zod";
import type { PolicySpec, RunResult } from "./contract.ts";
import { parseScenario } from "./scenario.ts";

const RUNS_MAX = 100_000;

const value = z.union([z.string(), z.number(), z.boolean()]);
const sweepSchema = z.strictObject({
  scenario: z.string().min(1).max(4096),
  vary: z.record(
    z.string().regex(/^[A-Za-z0-9]+(\.[A-Za-z0-9]+)*$/),
    z.array(value).min(1).max(1000),
  ),
  seeds: z.array(z.int().min(0)).min(1).max(1000).default([1]),
});

export type Value = z.output<typeof value>;

/** A sweep file as it was validated. */
export type Sweep = z.output<typeof sweepSchema>;

/** One run of a sweep: everything that it depends on. */
export interface SweepRun {
  /** Canonical: equal runs have equal keys. */
  readonly key: string;
  readonly text: string;
  readonly seed: number;
  readonly policy: PolicySpec;
  /** What was varied. */
  readonly values: Readonly<Record<string, Value>>;
}

/** @throws `simulator.sweep-invalid` (misuse) */
export function parseSweep(text: string, fileName: string): Sweep {
  const document = parseDocument(text);
  const result = document.errors.length === 0 ? sweepSchema.safeParse(document.toJS()) : undefined;
  if (result?.success === true) return result.data;
  const [issue] = result?.error.issues ?? [];
  const place = issue === undefined ? "" : `${issue.path.map(String).join(".") || "(file)"}: `;
  throw invalid(fileName, `${place}${issue?.message ?? document.errors[0]?.message ?? "not YAML"}`);
}

function invalid(subject: string, message: string): TesseraError {
  return new TesseraError("misuse", "simulator.sweep-invalid", `${subject}: ${message}`, {
    subject,
    remedy: "doc/simulator.md describes sweeps",
  });
}

/**
 * Every run of a sweep, in a fixed order. Each combination is checked as a scenario of its own.
 *
 * @param text of the scenario that the sweep names
 * @throws `simulator.sweep-invalid`, `simulator.scenario-invalid`, `simulator.memory-exceeded`
 */
export function sweepRuns({ scenario, vary, seeds }: Sweep, text: string): SweepRun[] {
  const names = Object.keys(vary);
  const count = names.reduce((product, name) => product * (vary[name]?.length ?? 1), seeds.length);
  if (count > RUNS_MAX) throw invalid(scenario, `${count} combinations, at most ${RUNS_MAX}`);
  return combinations(vary, names).flatMap((values) => {
    const varied = withValues(text, scenario, values);
    return seeds.flatMap((seed) =>
      parseScenario(varied, scenario, seed).policies.map((policy) => ({
        key: canonicalJson({ text: varied, seed, policy: { ...policy } as Json }),
        text: varied,
        seed,
        policy,
        values,
      })),
    );
  });
}

function combinations(vary: Sweep["vary"], names: readonly string[]): Record<string, Value>[] {
  return names.reduce<Record<string, Value>[]>(
    (all, name) =>
      all.flatMap((one) => (vary[name] ?? []).map((each) => ({ ...one, [name]: each }))),
    [{}],
  );
}

function withValues(
  text: string,
  scenario: string,
  values: Readonly<Record<string, Value>>,
): string {
  const document = parseDocument(text);
  for (const [name, each] of Object.entries(values)) {
    const path = name.split(".").map((part) => (/^\d+$/.test(part) ? Number(part) : part));
    try {
      document.setIn(path, each);
    } catch (cause) {
      throw invalid(scenario, `"${name}" is no field: ${(cause as Error).message}`);
    }
  }
  return document.toString();
}

const COLUMNS = ["migrations", "moved_bytes", "monolithic_bytes", "hit_ratio", "money", "median_s"];

type Cell = string | number | boolean | undefined;

function quote(cell: Cell): string {
  const text = cell === undefined ? "" : String(cell);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** A line for each run with what was varied and what came out. */
export function sweepCsv(
  runs: readonly { readonly run: SweepRun; readonly result: RunResult }[],
): string {
  const names = Object.keys(runs[0]?.run.values ?? {});
  const lines: Cell[][] = runs.map(({ run, result }) => {
    const { totals, migrationTime } = result;
    const median = migrationTime.values[migrationTime.fractions.findIndex((part) => part >= 0.5)];
    return [
      ...names.map((name) => run.values[name]),
      run.seed,
      run.policy.name,
      totals.migrations,
      totals.movedBytes,
      totals.monolithicBytes,
      totals.hitRatio,
      totals.money,
      median,
    ];
  });
  const all = [[...names, "seed", "policy", ...COLUMNS], ...lines];
  return all.map((line) => `${line.map(quote).join(",")}\r\n`).join("");
}
