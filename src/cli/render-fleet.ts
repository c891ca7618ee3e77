/** Plans, progress and results of several machines. Pure. */
import type { FleetPlan } from "#api";
import { formatBytes, formatDuration, type Plan } from "#core";
import type { FleetEvent, FleetResult } from "./fleet-run.ts";
import { renderProgress } from "./render-migration.ts";
import { plural, renderMembers, renderTable } from "./render-table.ts";
import { printable } from "./values.ts";

const PLAN_COLUMNS = [
  { title: "MACHINE" },
  { title: "TO" },
  { title: "CASE" },
  { title: "COMPONENTS", align: "right" },
  { title: "USER DATA", align: "right" },
  { title: "TO MOVE", align: "right" },
] as const;

export function renderFleetPlan(fleet: FleetPlan): string {
  const { machines, totalBytes, sharedBytes, expected_ms, price } = fleet;
  const going = machines.filter(({ plan }) => plan !== undefined).length;
  const rows = machines.flatMap(({ machineName, plan }) =>
    plan === undefined ? [] : [planRow(machineName, plan)],
  );
  const total = ["total", "", "", "", "", formatBytes(totalBytes)];
  return [
    `Plan: ${going} of ${plural(machines.length, "machine")} would move\n\n`,
    going === 0 ? "" : `${renderTable(PLAN_COLUMNS, [...rows, total], "  ")}\n`,
    renderShared(fleet),
    renderStaying(fleet),
    renderMembers([
      ["expected time", `${formatDuration(expected_ms)}, one after the other`],
      ["saved", sharedBytes > 0 ? `${formatBytes(sharedBytes)} by what they share` : undefined],
      ["price", price > 0 ? price.toFixed(4) : undefined],
    ]),
    ...notesOf(fleet),
  ].join("");
}

function planRow(name: string, plan: Plan): string[] {
  const components = plan.components.reduce((sum, { bytes }) => sum + bytes, 0);
  return [
    name,
    plan.destination,
    plan.case,
    formatBytes(components),
    formatBytes(plan.userData.bytes),
    formatBytes(plan.totalBytes),
  ];
}

/** Components that come with one machine and serve others. */
function renderShared({ machines }: FleetPlan): string {
  const names = new Map(machines.map(({ machine, machineName }) => [machine, machineName]));
  const rows = machines.flatMap(({ machineName, plan }) =>
    (plan?.components ?? []).flatMap(({ component, comesWith }) =>
      comesWith === undefined
        ? []
        : [[`${component.name} ${component.version}`, machineName, names.get(comesWith) ?? ""]],
    ),
  );
  if (rows.length === 0) return "";
  const columns = [{ title: "COMPONENT" }, { title: "OF" }, { title: "COMES WITH" }];
  return `${renderTable(columns, rows, "  ")}\n`;
}

function renderStaying({ machines }: FleetPlan): string {
  const rows = machines.flatMap(({ machineName, error }) =>
    error === undefined ? [] : [[machineName, error.message]],
  );
  if (rows.length === 0) return "";
  return `${renderTable([{ title: "STAYS" }, { title: "BECAUSE" }], rows, "  ")}\n`;
}

function notesOf({ machines }: FleetPlan): string[] {
  return machines.flatMap(({ machineName, plan }) =>
    (plan?.notes ?? []).map((note) => `note: ${printable(`${machineName}: ${note}`)}\n`),
  );
}

/** A view that keeps the last progress of each machine. */
export function fleetProgress(): (event: FleetEvent, columns: number) => string[] {
  const latest = new Map<string, FleetEvent["progress"]>();
  return ({ machineName, progress }, columns) => {
    latest.set(machineName, progress);
    return [...latest].flatMap(([name, seen]) => {
      const [head = "", ...streams] = renderProgress(seen, columns);
      const first = `${printable(name)}: ${head}`.slice(0, Math.max(1, columns - 1));
      return seen === progress ? [first, ...streams] : [first];
    });
  };
}

export function renderFleetResults(results: readonly FleetResult[]): string {
  const columns = [
    { title: "MACHINE" },
    { title: "TO" },
    { title: "OUTCOME" },
    { title: "DOWNTIME", align: "right" },
    { title: "ON THE WIRE", align: "right" },
    { title: "TOOK", align: "right" },
    { title: "MIGRATION" },
  ] as const;
  const failed = results.filter(({ error }) => error !== undefined);
  const moved = results.filter(({ outcome }) => outcome === "completed");
  const wireBytes = results.reduce((sum, one) => sum + (receiptOf(one)?.wireBytes ?? 0), 0);
  return [
    renderTable(columns, results.map(resultRow)),
    failed.length === 0 ? "" : "\n",
    ...failed.map(({ machineName, error }) => printable(`${machineName}: ${error?.message}\n`)),
    `\n${moved.length} of ${plural(results.length, "machine")} moved, ${formatBytes(wireBytes)} on the wire\n`,
  ].join("");
}

function receiptOf({ status }: FleetResult) {
  return status?.receipt?.receipt;
}

function resultRow(result: FleetResult): string[] {
  const { machineName, outcome, migration = "", status } = result;
  const receipt = receiptOf(result);
  const figures =
    receipt === undefined
      ? ["", "", ""]
      : [
          formatDuration(receipt.downtime_ms),
          formatBytes(receipt.wireBytes),
          formatDuration(receipt.ended_ms - receipt.started_ms),
        ];
  return [machineName, status?.peer ?? "", outcome, ...figures, migration];
}
