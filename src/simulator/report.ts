/** The report of a simulation: one HTML file that loads nothing, with a plot for each question. */
import { formatBytes } from "#core";
import type { Distribution, RunResult, Series } from "./contract.ts";
import { renderBars, renderLines, type Line } from "./chart.ts";
import { summaryOf } from "./summary.ts";

/** Distributions are drawn with at most so many points. */
const POINTS_MAX = 400;

export function renderReport(title: string, results: readonly RunResult[]): string {
  const plots = plotsOf(results).map((svg) => `<figure>${svg}</figure>`);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${escape(title)}</title>
<style>${STYLE}</style>
</head>
<body>
<h1>${escape(title)}</h1>
<p>${escape(introductionOf(results))}</p>
${tableOf(results)}
<main>
${plots.join("\n")}
</main>
</body>
</html>
`;
}

const STYLE = `body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:1480px;padding:0 1em;color:#222}
main{display:flex;flex-wrap:wrap;gap:1em}figure{margin:0;border:1px solid #ddd}
table{border-collapse:collapse;margin:1em 0}th,td{padding:.25em .8em;border-bottom:1px solid #ddd;text-align:right}
th:first-child,td:first-child{text-align:left}`;

function escape(text: string): string {
  const names = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
  return text.replaceAll(/[&<>"]/g, (each) => names[each as keyof typeof names]);
}

function introductionOf(results: readonly RunResult[]): string {
  const [first] = results;
  if (first === undefined) return "No run.";
  const days = (first.simulated_s / 86_400).toFixed(1);
  return `${first.clouds} clouds, ${first.machines} machines, ${days} days, seed ${first.seed}; the same federation for each policy. ${samplingOf(results)}`;
}

/** Placement does not look at every cloud, and says so. */
function samplingOf(results: readonly RunResult[]): string {
  const counts = [...new Set(results.map(({ policy }) => policy.candidates))].toSorted(
    (a, b) => a - b,
  );
  return `Placement weighs ${counts.join(" or ")} clouds that are drawn for each machine, not all of them.`;
}

function line(cells: readonly string[], tag: string): string {
  return `<tr>${cells.map((cell) => `<${tag}>${escape(cell)}</${tag}>`).join("")}</tr>`;
}

function tableOf(results: readonly RunResult[]): string {
  const { titles, rows } = summaryOf(results);
  const body = rows.map((cells) => line(cells, "td")).join("\n");
  return `<table>\n<thead>${line(titles, "th")}</thead>\n<tbody>\n${body}\n</tbody>\n</table>`;
}

function plotsOf(results: readonly RunResult[]): string[] {
  return [
    overTime(results, "Bytes moved so far", "GB", (s) => cumulated(s.movedBytes, 1e9)),
    casesPlot(results),
    distributionPlot(
      results,
      "Time of a migration",
      "from the request until the machine is ready",
      (result) => result.migrationTime,
    ),
    distributionPlot(results, "Downtime", "off, or paused", (result) => result.downtime),
    overTime(
      results,
      "Part of the asked-for component bytes that was held",
      "",
      (s) => s.hitRatio,
      1,
    ),
    storagePlot(results),
    overTime(results, "Money for bytes that left a cloud, so far", "", (s) => s.money),
    overTime(results, "Balance of load (Jain's index, 1 is even)", "", (s) => s.balance, 1),
    totalsPlot(results),
  ];
}

type Values = readonly (number | null)[];

function overTime(
  results: readonly RunResult[],
  title: string,
  unit: string,
  valuesOf: (series: Series) => Values,
  max?: number,
): string {
  const lines = results.map(({ policy, series }) => ({
    name: policy.name,
    points: pointsOf(series, valuesOf(series)),
  }));
  const y = { title: unit, ...(max === undefined ? {} : { max }) };
  return renderLines({ title, x: { title: "hours" }, y, lines });
}

function pointsOf({ time_s }: Series, values: Values): Line["points"] {
  return time_s.map((time, index) => [time / 3600, values[index] ?? null]);
}

function cumulated(values: readonly number[], unit: number): number[] {
  let sum = 0;
  return values.map((value) => (sum += value) / unit);
}

/** The paper's claim: with experience the average case becomes the best case. */
function casesPlot(results: readonly RunResult[]): string {
  const composed = results.find(({ policy }) => policy.transfer !== "monolithic") ?? results[0];
  const title = `Cases of the paper over time${composed === undefined ? "" : `: ${composed.policy.name}`}`;
  const lines = (["worst", "average", "best"] as const).map((name) => ({
    name,
    points:
      composed === undefined ? [] : pointsOf(composed.series, sharesOf(composed.series, name)),
  }));
  return renderLines({
    title,
    x: { title: "hours" },
    y: { title: "part of migrations", max: 1 },
    lines,
  });
}

function sharesOf({ cases, migrations }: Series, name: keyof Series["cases"]): Values {
  return cases[name].map((count, index) => {
    const all = migrations[index] ?? 0;
    return all > 0 ? count / all : null;
  });
}

function distributionPlot(
  results: readonly RunResult[],
  title: string,
  seconds: string,
  of: (result: RunResult) => Distribution,
): string {
  const lines = results.map((result) => {
    const { values, fractions } = of(result);
    const step = Math.max(1, Math.ceil(values.length / POINTS_MAX));
    const points = values
      .map((value, index) => [Math.max(value, 1e-3), fractions[index] ?? 1] as const)
      .filter((_point, index) => index % step === 0 || index === values.length - 1);
    return { name: result.policy.name, points };
  });
  const x = { title: `seconds ${seconds}`, logarithmic: true };
  return renderLines({
    title: `${title} (distribution)`,
    x,
    y: { title: "part", max: 1 },
    lines,
  });
}

function gigabytes(values: readonly number[]): number[] {
  return values.map((each) => each / 1e9);
}

function storagePlot(results: readonly RunResult[]): string {
  const lines = results.flatMap(({ policy, series }) => [
    {
      name: `${policy.name}: components`,
      points: pointsOf(series, gigabytes(series.repositoryBytes)),
    },
    {
      name: `${policy.name}: templates`,
      points: pointsOf(series, gigabytes(series.templateBytes)),
      dashed: true,
    },
  ]);
  const title = "Storage of repositories against one template for each appliance";
  return renderLines({ title, x: { title: "hours" }, y: { title: "GB" }, lines });
}

function totalsPlot(results: readonly RunResult[]): string {
  const of = (value: (result: RunResult) => number): number[] =>
    results.map((result) => value(result) / 1e9);
  const all = results.reduce((sum, { totals }) => sum + totals.movedBytes, 0);
  return renderBars({
    title: `What was moved (${formatBytes(all)} in all runs)`,
    y: { title: "GB" },
    names: results.map(({ policy }) => policy.name),
    bars: [
      { name: "components", values: of(({ totals }) => totals.componentBytes) },
      { name: "user data", values: of(({ totals }) => totals.userDataBytes) },
      { name: "memory", values: of(({ totals }) => totals.memoryBytes) },
      { name: "prefetched", values: of(({ totals }) => totals.prefetchBytes) },
      { name: "as monolithic blocks", values: of(({ totals }) => totals.monolithicBytes) },
    ],
  });
}
