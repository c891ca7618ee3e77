/**
 * The parts of `doc/evaluation.md` that follow from a run: how its points were taken, what they are,
 * and what they say of the paper's claims. Each stands between two comments of its name.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { resolve } from "node:path";
import { formatRate } from "#core";
import type { Point } from "./experiment.ts";
import type { KeptRun } from "./kept.ts";
import { openLegs } from "./legs.ts";
import type { Compared } from "./simulated.ts";

const PAGE = resolve(import.meta.dirname, "../../doc/evaluation.md");
/** Where nobody else works, a migration leaves more of the processors idle than this. */
const IDLE_LEAST = 0.05;

export function writeEvaluation(run: KeptRun, compared: readonly Compared[]): void {
  const parts = {
    taken: takenText(run),
    results: `${tableOf(run.points)}\n\n${PLOTS}\n\n${findings(run)}`,
    simulator: simulatorText(compared),
    claims: claimsTable(run),
  };
  let page = readFileSync(PAGE, "utf8");
  for (const [name, text] of Object.entries(parts)) page = replaced(page, name, text);
  writeFileSync(PAGE, page);
}

function replaced(page: string, name: string, text: string): string {
  const [before, rest] = page.split(`<!-- figure5 ${name} -->`);
  const [, after] = (rest ?? "").split(`<!-- /figure5 ${name} -->`);
  if (before === undefined || after === undefined) throw new Error(`${PAGE} has no part ${name}`);
  return `${before}<!-- figure5 ${name} -->\n\n${text}\n\n<!-- /figure5 ${name} -->${after}`;
}

export const isBusy = ({ points }: KeptRun): boolean =>
  points.some(({ taken }) => taken.idle < IDLE_LEAST);

function takenText(run: KeptRun): string {
  const { bitsPerSecond, points, sizes } = run;
  const days = [...new Set(points.map(({ taken }) => taken.at.slice(0, 10)))].join(" and ");
  const loads = points.map(({ taken }) => taken.load);
  const idle = points.map(({ taken }) => 100 * taken.idle);
  const left = openLegs(sizes, points).map((leg) => `${leg.case} at ${MB(leg.downloadBytes)} MB`);
  return [
    `The run that is kept here: a link of ${formatRate(bitsPerSecond)}, guests under emulation, ${availableParallelism()} processors, ${days} (UTC), one migration for each point.`,
    sessionText(run),
    `Load average (one minute) as points were taken: ${spreadOf(loads)}; during a migration the processors were idle for ${spreadOf(idle)} % of their time.`,
    isBusy(run)
      ? "**In some of them the processors were hardly idle: other work took a part.** Bytes do not depend on that; times do, and are upper bounds."
      : "There were processors to spare.",
    left.length === 0 ? "" : `Not taken: ${left.join(", ")}.`,
    "Sizes are in MB, times in seconds.",
  ]
    .filter((sentence) => sentence !== "")
    .join("\n");
}

function sessionText({ points, arrived }: KeptRun): string {
  const sessions = [...new Set(points.map(({ taken }) => taken.session))];
  const proven = (session: number): boolean => {
    const machines = points
      .filter(({ taken }) => taken.session === session)
      .map(({ leg }) => (leg.startsWith("average") ? "database" : "web"));
    return machines.every((machine) =>
      arrived.some((one) => one.session === session && one.machine === machine),
    );
  };
  const cut = sessions.filter((session) => !proven(session)).join(", ");
  const digests =
    cut === ""
      ? "At the end each machine's whole file had the right sha256."
      : `Session ${cut} was cut off: there the last digests are those of the user data blocks; where a session ended, each machine's whole file had the right sha256.`;
  if (sessions.length === 1) return `It was made in one session. ${digests}`;
  return `It was interrupted and went on with the points that it lacked: ${sessions.length} sessions, each on fresh clouds. ${digests}`;
}

const COLUMNS = [
  "case",
  "downloaded",
  "composed, on the link",
  "monolithic",
  "negotiate",
  "components",
  "compose",
  "stop",
  "user data",
  "boot",
  "whole",
  "monolithic: prepare",
  "transfer",
  "whole",
];

function table(columns: readonly string[], rows: readonly (readonly string[])[]): string {
  const rule = columns.map((_column, at) => (at === 0 ? "---" : "---:"));
  return [columns, rule, ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

const MB = (bytes: number): string => (bytes / 1e6).toFixed(1);
const s = (seconds: number | undefined): string => (seconds ?? 0).toFixed(1);

function tableOf(points: readonly Point[]): string {
  const phases = ["negotiate", "components", "compose", "stop", "userData", "boot"];
  const rows = points.map((point) => [
    point.case,
    MB(point.downloadedBytes),
    MB(point.linkBytes),
    MB(point.monolith.bytes),
    ...phases.map((phase) => s(point.seconds[phase])),
    s(point.whole_s),
    s(point.monolith.prepare_s),
    s(point.monolith.transfer_s),
    s(point.monolithWhole_s),
  ]);
  return table(COLUMNS, rows);
}

const PLOTS = ["a", "b", "c", "cases"]
  .map((name) => `![figure 5 ${name}](evaluation/figure5-${name}.svg)`)
  .join("\n");

const of = ({ points }: KeptRun, name: Point["case"]): Point[] =>
  points.filter((point) => point.case === name);

function sum(points: readonly Point[], of: (point: Point) => number): number {
  return points.reduce((total, point) => total + of(point), 0);
}

const spreadOf = (values: readonly number[]): string =>
  `${Math.min(...values).toFixed(1)} to ${Math.max(...values).toFixed(1)}`;

function quicker(points: readonly Point[]): string {
  const [ours, theirs] = [
    sum(points, (point) => point.whole_s),
    sum(points, (point) => point.monolithWhole_s),
  ];
  return `${ours.toFixed(0)} s against ${theirs.toFixed(0)} s`;
}

function fewer(points: readonly Point[]): string {
  const [ours, theirs] = [
    sum(points, (point) => point.linkBytes),
    sum(points, (point) => point.monolith.bytes),
  ];
  return `${MB(ours)} MB against ${MB(theirs)} MB`;
}

function findings(run: KeptRun): string {
  const lost = Math.max(...run.points.map((p) => p.downloadedBytes - p.resumedBytes));
  const lines = (["worst", "average", "best"] as const).flatMap((name) => {
    const points = of(run, name);
    if (points.length === 0) return [];
    const number = points.length === 1 ? "" : `, in sum over ${points.length}`;
    return [
      `- **${name} case**${number}: ${fewer(points)} on the link; ${quicker(points)} for the whole migration.`,
    ];
  });
  return [
    ...lines,
    `- **The service goes on.** Every move resumed the download at most ${(lost / 1e3).toFixed(0)} kB before where it had been.`,
  ].join("\n");
}

function simulatorText(compared: readonly Compared[]): string {
  const rows = compared.map(({ point, simulated, transfer_s, realTransfer_s }) => [
    `${point.case}, ${MB(point.downloadedBytes)} MB`,
    MB(point.wireBytes),
    MB(simulated.movedBytes),
    (simulated.movedBytes / point.wireBytes).toFixed(3),
    s(realTransfer_s),
    s(transfer_s),
    (transfer_s / realTransfer_s).toFixed(3),
  ]);
  const columns = [
    "point",
    "MB, real",
    "simulated",
    "ratio",
    "transfer (s), real",
    "simulated",
    "ratio",
  ];
  const total = (of: (one: Compared) => number): number =>
    compared.reduce((all, one) => all + of(one), 0);
  const bytes = total((one) => one.simulated.movedBytes) / total((one) => one.point.wireBytes);
  const time = total((one) => one.transfer_s) / total((one) => one.realTransfer_s);
  const within = Math.abs(bytes - 1) <= 0.1 && Math.abs(time - 1) <= 0.1;
  return `${table(columns, rows)}

In sum the simulator has ${bytes.toFixed(3)} of the real bytes and ${time.toFixed(3)} of the real time: ${within ? "within" : "**not** within"} 10 %.`;
}

/** The paper's claims, each with what the points say of it. */
function claimsTable(run: KeptRun): string {
  const rows = [
    ["in the best case only the user data block moves", bestOnly(run)],
    ["negotiation, set-up and boot do not depend on the size of the user data", constants(run)],
    ["the time of a composed migration grows with the user data", growth(run)],
    ["a composed migration is quicker than a monolithic one", quickerText(run)],
    ["the worst case costs the same as moving the disk image", worstText(run)],
    ["with experience the average case becomes the best case", averageText(run)],
    [
      "composing saves storage against one template for each combination",
      "not part of this experiment; `tessera simulate examples/hundreds.yaml` compares both over a week (`templateBytes`)",
    ],
  ];
  return table(["the paper", "here"], rows).replace("---:", "---");
}

function bestOnly(run: KeptRun): string {
  const best = of(run, "best");
  if (best.length === 0) return "not measured";
  const bytes = sum(best, (point) => point.componentBytes);
  const besides = sum(best, (p) => p.linkBytes) / sum(best, (p) => p.downloadedBytes) - 1;
  return bytes === 0
    ? `confirmed: no component byte crosses the wire; the link carries ${(100 * besides).toFixed(0)} % more than the machine had downloaded (headers, negotiation, what nginx and the system wrote)`
    : `**not** confirmed: ${bytes} bytes of components crossed the wire`;
}

function constants(run: KeptRun): string {
  const best = of(run, "best");
  const spread = (...phases: readonly string[]): string =>
    spreadOf(best.map(({ seconds }) => phases.reduce((all, one) => all + (seconds[one] ?? 0), 0)));
  if (best.length < 2) return "not measured";
  return `negotiation ${spread("negotiate")} s, set-up ${spread("components", "compose")} s, boot ${spread("boot")} s over ${best.length} sizes${isBusy(run) ? "; boot followed the load of the host" : ""}`;
}

function growth(run: KeptRun): string {
  const best = of(run, "best").toSorted((a, b) => a.userDataBytes - b.userDataBytes);
  const [first, last] = [best[0], best.at(-1)];
  if (first === undefined || last === undefined || first === last) return "not measured";
  const measured = (last.seconds["userData"] ?? 0) - (first.seconds["userData"] ?? 0);
  const bits = (last.movedUserDataBytes - first.movedUserDataBytes) * 8;
  return `from ${MB(first.userDataBytes)} to ${MB(last.userDataBytes)} MB the transfer of user data takes ${measured.toFixed(1)} s longer; bytes over rate give ${(bits / run.bitsPerSecond).toFixed(1)} s`;
}

function quickerText(run: KeptRun): string {
  const best = of(run, "best");
  if (best.length === 0) return "not measured";
  const at = best.filter((point) => point.whole_s < point.monolithWhole_s).length;
  return `in the best case at ${at} of ${best.length} sizes; in sum ${quicker(best)}`;
}

function worstText(run: KeptRun): string {
  const worst = of(run, "worst");
  if (worst.length === 0) return "not measured";
  return `${fewer(worst)} on the link, ${quicker(worst)}; the paper argued it and did not measure`;
}

function averageText(run: KeptRun): string {
  const average = of(run, "average");
  if (average.length === 0)
    return "average case not reached in this run; `make demo` measures it (`bench/results/demo.json`)";
  return `one program missing: ${fewer(average)} on the link, ${quicker(average)}`;
}
