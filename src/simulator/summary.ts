/** Results as text: a table for the terminal and the report, and series as CSV. */
import { formatBytes, formatDuration } from "#core";
import type { Distribution, RunResult } from "./contract.ts";

export interface Summary {
  readonly titles: readonly string[];
  /** One for each run. */
  readonly rows: readonly (readonly string[])[];
}

const TITLES = [
  "RUN",
  "MIGRATIONS",
  "MOVED",
  "OF MONOLITHIC",
  "HELD",
  "BEST CASE",
  "MEDIAN",
  "P99",
  "DOWNTIME",
  "MONEY",
  "BALANCE",
] as const;

export function summaryOf(results: readonly RunResult[]): Summary {
  return { titles: TITLES, rows: results.map(rowOf) };
}

function rowOf({ policy, totals, series, migrationTime, downtime }: RunResult): string[] {
  return [
    policy.name,
    String(totals.migrations),
    formatBytes(totals.movedBytes),
    percent(totals.movedBytes, totals.monolithicBytes),
    percent(totals.hitBytes, totals.requestedBytes),
    percent(totals.cases.best, totals.migrations),
    seconds(quantileOf(migrationTime, 0.5)),
    seconds(quantileOf(migrationTime, 0.99)),
    seconds(quantileOf(downtime, 0.5)),
    totals.money.toFixed(2),
    (series.balance.at(-1) ?? 0).toFixed(3),
  ];
}

function percent(part: number, whole: number): string {
  return whole > 0 ? `${((100 * part) / whole).toFixed(1)}%` : "-";
}

function seconds(value: number | undefined): string {
  return value === undefined ? "-" : formatDuration(value * 1000);
}

/** The least value that at least `part` of all do not exceed; undefined where there is none. */
export function quantileOf({ values, fractions }: Distribution, part: number): number | undefined {
  const index = fractions.findIndex((fraction) => fraction >= part);
  return index === -1 ? values.at(-1) : values[index];
}

/** The summary as a table for a terminal. */
export function renderSummary(results: readonly RunResult[]): string {
  const { titles, rows } = summaryOf(results);
  const lines = [titles, ...rows];
  const widths = titles.map((_title, at) =>
    Math.max(...lines.map((line) => (line[at] ?? "").length)),
  );
  const pad = (cell: string, at: number): string =>
    at === 0 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0);
  return lines.map((line) => `${line.map(pad).join("  ").trimEnd()}\n`).join("");
}

const COLUMNS = [
  "run",
  "time_s",
  "migrations",
  "worst",
  "average",
  "best",
  "moved_bytes",
  "hit_ratio",
  "repository_bytes",
  "template_bytes",
  "money",
  "balance",
  "active",
] as const;

function text(cell: string | number | null | undefined): string {
  return cell === null || cell === undefined || Number.isNaN(cell) ? "" : String(cell);
}

/** All series as CSV (RFC 4180), a line for each run and point; what is not there is empty. */
export function seriesCsv(results: readonly RunResult[]): string {
  const lines = results.flatMap(({ policy, series }) =>
    series.time_s.map((time_s, at) => [
      quoted(policy.name),
      time_s,
      series.migrations[at],
      series.cases.worst[at],
      series.cases.average[at],
      series.cases.best[at],
      series.movedBytes[at],
      series.hitRatio[at],
      series.repositoryBytes[at],
      series.templateBytes[at],
      series.money[at],
      series.balance[at],
      series.active[at],
    ]),
  );
  return [COLUMNS, ...lines].map((line) => `${line.map(text).join(",")}\r\n`).join("");
}

/** Quoted where needed; a leading sign that a spreadsheet would take for a formula is kept as text. */
function quoted(text: string): string {
  const safe = /^[=+\-@]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
