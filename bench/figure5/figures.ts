/** Figure 5 of measured points: tables, the paper's three plots, and the model at the paper's rates. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { formatRate } from "#core";
import { renderBars, renderLines } from "#simulator";
import { mergeResults, rowOf, tellRow } from "../rows.ts";
import { isBusy, writeEvaluation } from "./evaluation.ts";
import type { Point } from "./experiment.ts";
import type { KeptRun } from "./kept.ts";
import {
  composed_s,
  modelOf,
  monolithic_s,
  PAPER_OS_BYTES,
  PAPER_RATES,
  type Model,
} from "./model.ts";
import { comparedRows, simulate } from "./simulated.ts";

const PLOTS = resolve(import.meta.dirname, "../../doc/evaluation");

const MB = (bytes: number): number => bytes / 1e6;
const minutes = (seconds: number): number => seconds / 60;

/** Writes tables and plots, the parts of `doc/evaluation.md`, and the rows of the benchmark. */
export function writeFigures(directory: string, measured: KeptRun): void {
  mkdirSync(PLOTS, { recursive: true });
  writeFileSync(join(directory, "figure5.csv"), csvOf(measured.points));
  const model = modelOf(measured);
  const paper = PAPER_RATES.map((rate) => ({
    ...rate,
    rows: paperRows(model, rate.bitsPerSecond),
  }));
  const json = { ...measured, model, paper };
  writeFileSync(join(directory, "figure5.json"), `${JSON.stringify(json, null, 2)}\n`);
  writeFileSync(join(PLOTS, "figure5.csv"), csvOf(measured.points));
  writeFileSync(join(PLOTS, "figure5-a.svg"), wholePlot(measured, model));
  writeFileSync(join(PLOTS, "figure5-b.svg"), phasesPlot(measured));
  writeFileSync(join(PLOTS, "figure5-c.svg"), userDataPlot(measured, model));
  writeFileSync(join(PLOTS, "figure5-cases.svg"), casesPlot(measured));
  for (const { name, title, bitsPerSecond } of PAPER_RATES) {
    writeFileSync(join(PLOTS, `figure5-paper-${name}.svg`), paperPlot(model, title, bitsPerSecond));
  }
  const rows = rowsOf(measured);
  mergeResults("figure5", rows);
  const compared = simulate(measured);
  const simulated = comparedRows(compared, howOf(measured));
  mergeResults("simulator", simulated);
  writeEvaluation(measured, compared);
  for (const row of [...rows, ...simulated]) tellRow(row);
}

const bestOf = ({ points }: KeptRun): Point[] =>
  points
    .filter((point) => point.case === "best")
    .toSorted((a, b) => a.userDataBytes - b.userDataBytes);

const COLUMNS = [
  "case",
  "from",
  "downloaded_bytes",
  "resumed_at_bytes",
  "os_bytes",
  "user_data_bytes",
  "component_wire_bytes",
  "user_data_wire_bytes",
  "link_bytes",
  "negotiate_s",
  "components_s",
  "compose_s",
  "stop_s",
  "user_data_s",
  "boot_s",
  "whole_s",
  "downtime_s",
  "monolithic_bytes",
  "monolithic_prepare_s",
  "monolithic_transfer_s",
  "monolithic_whole_s",
] as const;

function csvOf(points: readonly Point[]): string {
  const lines = points.map((point) => {
    const { seconds, monolith } = point;
    const phases = ["negotiate", "components", "compose", "stop", "userData", "boot"];
    return [
      point.case,
      point.from,
      point.downloadedBytes,
      point.resumedBytes,
      point.osBytes,
      point.userDataBytes,
      point.componentBytes,
      point.movedUserDataBytes,
      point.linkBytes,
      ...phases.map((phase) => seconds[phase] ?? 0),
      point.whole_s,
      point.downtime_s,
      monolith.bytes,
      monolith.prepare_s,
      monolith.transfer_s,
      point.monolithWhole_s,
    ];
  });
  return [COLUMNS, ...lines].map((line) => `${line.join(",")}\n`).join("");
}

function wholePlot(measured: KeptRun, model: Model): string {
  const best = bestOf(measured);
  const at = (valueOf: (point: Point) => number) =>
    best.map((point) => [MB(point.userDataBytes), minutes(valueOf(point))] as const);
  return renderLines({
    title: `(a) Whole time of a migration, link of ${formatRate(measured.bitsPerSecond)}`,
    x: { title: "user data (MB)" },
    y: { title: "minutes" },
    lines: [
      { name: "monolithic, measured", marked: true, points: at((point) => point.monolithWhole_s) },
      { name: "composed, measured", marked: true, points: at((point) => point.whole_s) },
      {
        name: "composed, model",
        dashed: true,
        points: at((p) => composed_s(model, p.userDataBytes)),
      },
    ],
  });
}

function phasesPlot(measured: KeptRun): string {
  const line = (name: string, phases: readonly string[]) => ({
    name,
    marked: true,
    points: bestOf(measured).map(
      ({ userDataBytes, seconds }) =>
        [MB(userDataBytes), phases.reduce((sum, each) => sum + (seconds[each] ?? 0), 0)] as const,
    ),
  });
  return renderLines({
    title: "(b) The three constant phases of a composed migration",
    x: { title: "user data (MB)" },
    y: { title: "seconds" },
    lines: [
      line("negotiation", ["negotiate"]),
      line("set-up (components, compose)", ["components", "compose"]),
      line("boot", ["boot"]),
    ],
  });
}

function userDataPlot(measured: KeptRun, model: Model): string {
  const best = bestOf(measured);
  return renderLines({
    title: `(c) Transfer of the user data block, link of ${formatRate(measured.bitsPerSecond)}`,
    x: { title: "user data (MB)" },
    y: { title: "minutes" },
    lines: [
      {
        name: "measured",
        marked: true,
        points: best.map((p) => [MB(p.userDataBytes), minutes(p.seconds["userData"] ?? 0)]),
      },
      {
        name: "bytes over rate",
        dashed: true,
        points: best.map((p) => [
          MB(p.userDataBytes),
          minutes((p.userDataBytes * model.userDataRatio * 8) / model.bitsPerSecond),
        ]),
      },
    ],
  });
}

function casesPlot({ points }: KeptRun): string {
  const smallest = Math.min(...points.map((point) => point.downloadedBytes));
  const shown = points.filter((point) => point.downloadedBytes === smallest);
  const sorted = (["worst", "average", "best"] as const).flatMap(
    (name) => shown.find((point) => point.case === name) ?? [],
  );
  return renderBars({
    title: `The paper's three cases, ${MB(smallest)} MB downloaded`,
    y: { title: "minutes" },
    names: sorted.map((point) => point.case),
    bars: [
      { name: "composed", values: sorted.map((point) => minutes(point.whole_s)) },
      { name: "monolithic", values: sorted.map((point) => minutes(point.monolithWhole_s)) },
    ],
  });
}

/** User data of the paper's axis, in MB. */
const PAPER_DATA_MB = [5, 10, 20, 30, 40, 50, 60, 70];

function paperRows(model: Model, bitsPerSecond: number) {
  const paper = { ...model, bitsPerSecond, osBytes: PAPER_OS_BYTES, userDataRatio: 1 };
  return PAPER_DATA_MB.map((data_MB) => ({
    data_MB,
    composed_s: composed_s(paper, data_MB * 1e6),
    monolithic_s: monolithic_s(paper, data_MB * 1e6),
  }));
}

function paperPlot(model: Model, title: string, bitsPerSecond: number): string {
  const rows = paperRows(model, bitsPerSecond);
  return renderLines({
    title: `(a) at the paper's rate: ${title}, OS part 125 MB, by the model`,
    x: { title: "user data (MB)" },
    y: { title: "minutes" },
    lines: [
      { name: "monolithic", points: rows.map((row) => [row.data_MB, minutes(row.monolithic_s)]) },
      { name: "composed", points: rows.map((row) => [row.data_MB, minutes(row.composed_s)]) },
    ],
  });
}

function sum(list: readonly Point[], of: (point: Point) => number): number {
  return list.reduce((total, point) => total + of(point), 0);
}

function howOf(measured: KeptRun): string {
  const busy = isBusy(measured) ? ", on a busy machine" : "";
  return `make figure5, ${formatRate(measured.bitsPerSecond)} link (tc tbf), one run, guests under emulation${busy}`;
}

function rowsOf(measured: KeptRun) {
  const { points } = measured;
  const best = bestOf(measured);
  const how = `${howOf(measured)}; peer: zstd-compressed qcow2 of the same machine by socat over the same link, with its preparation and the same stop and boot`;
  const row = (id: string, list: readonly Point[], what: string) =>
    rowOf(id, {
      ours: sum(list, (point) => point.whole_s),
      peer: sum(list, (point) => point.monolithWhole_s),
      target: "< 1",
      unit: "s",
      how: `${what}; ${how}`,
    });
  const of = (name: string): Point[] => points.filter((point) => point.case === name);
  return [
    row("figure5-composed-vs-monolithic", best, `best case, sum over ${best.length} sizes`),
    row("figure5-average-case", of("average"), "average case: the program is missing"),
    row("figure5-worst-case", of("worst"), "worst case: every component is missing"),
    rowOf("figure5-composed-bytes", {
      ours: sum(best, (point) => point.linkBytes),
      peer: sum(best, (point) => point.monolith.bytes),
      target: "< 1",
      unit: "bytes",
      how: `best case, sum over ${best.length} sizes, on the link; ${how}`,
    }),
  ].filter(({ peer }) => peer > 0);
}
