/** Plans and receipts, component by component. Pure. */
import type { Choice } from "#api";
import {
  formatBytes,
  formatDuration,
  formatRate,
  shortDigest,
  type EncodingShares,
  type HotReport,
  type Phase,
  type Plan,
  type PlannedComponent,
  type Receipt,
  type ReceiptComponent,
  type SignedReceipt,
} from "#core";
import { renderMembers, renderTable, renderTime } from "./render-table.ts";
import { printable } from "./values.ts";

const COLUMNS = [
  { title: "COMPONENT" },
  { title: "KIND" },
  { title: "SIZE", align: "right" },
  { title: "THERE" },
  { title: "HELD", align: "right" },
  { title: "PATCHED", align: "right" },
  { title: "MISSING", align: "right" },
  { title: "TO MOVE", align: "right" },
] as const;

const CASES = {
  worst: "worst case: the destination holds no component",
  average: "average case: the destination holds some of the components",
  best: "best case: the destination holds every component",
} as const;

/** `machineName` stands for the plan's UUID where it is known. */
export function renderPlan(plan: Plan, machineName: string = plan.machine): string {
  const { source, destination, mode, userData, totalBytes } = plan;
  const rows = plan.components.map((planned) => [
    `${planned.component.name} ${planned.component.version}`,
    planned.component.kind,
    formatBytes(planned.component.sizeBytes),
    thereOf(planned),
    ...sharesOf(planned),
    formatBytes(planned.bytes),
  ]);
  const there = userData.lineage === true ? "earlier copy" : "-";
  const data = ["user data", "data", formatBytes(userData.allocatedBytes), there, "", "", ""];
  const title = `Plan: ${machineName} from ${source} to ${destination}, ${mode}, ${CASES[plan.case]}`;
  const total = ["total", "", "", "", "", "", "", formatBytes(totalBytes)];
  return [
    `${printable(title)}\n\n`,
    renderTable(COLUMNS, [...rows, [...data, formatBytes(userData.bytes)], total], "  "),
    "\n",
    renderMembers(outlook(plan)),
    ...plan.notes.map((note) => `note: ${printable(note)}\n`),
  ].join("");
}

function thereOf({ held, contents }: PlannedComponent): string {
  if (held) return "held";
  return contents !== undefined && contents.heldBytes + contents.patchedBytes > 0
    ? "in part"
    : "missing";
}

/** Raw bytes; what is held as a whole is not told apart. */
function sharesOf({ component, held, contents }: PlannedComponent): [string, string, string] {
  if (held) return [formatBytes(component.sizeBytes), "", ""];
  if (contents === undefined) return ["", "", formatBytes(component.sizeBytes)];
  const { heldBytes, patchedBytes, missingBytes } = contents;
  return [formatBytes(heldBytes), formatBytes(patchedBytes), formatBytes(missingBytes)];
}

const RATES = {
  limit: "the limit given",
  measured: "as measured",
  offer: "as the clouds announce",
  assumed: "assumed",
} as const;

const STORAGE = {
  hybrid: "most before the switch, the rest after it",
  push: "all before the switch",
  pull: "after the switch, first what is asked for",
  shared: "not at all: both clouds reach it",
} as const;

function outlook(plan: Plan): [string, string | undefined][] {
  const { rate, expected_ms, monolithicBytes, totalBytes, price } = plan;
  const at = `${formatRate(rate.bitsPerSecond)}, ${RATES[rate.from]}`;
  return [
    ["expected time", `${formatDuration(expected_ms)} at ${at}`],
    ...memoryOf(plan.hot),
    ["disk", plan.hot && `${plan.hot.storage}: ${STORAGE[plan.hot.storage]}`],
    ["as one block", `${formatBytes(monolithicBytes)}${share(totalBytes, monolithicBytes)}`],
    ["price", price > 0 ? price.toFixed(4) : undefined],
  ];
}

const MEMORY = {
  precopy: "before the switch",
  slowed: "before the switch, with the guest slowed down",
  postcopy: "in part after the switch, which cannot be undone",
  none: "it would be given up",
} as const;

function memoryOf(hot: Plan["hot"]): [string, string | undefined][] {
  if (hot === undefined) return [];
  const { memoryBytes, memory, forecast } = hot;
  if (forecast === undefined) return [["memory", `${formatBytes(memoryBytes)}, ${memory}`]];
  const { method, wireBytes, pause_ms, total_ms } = forecast;
  const sizes = `${formatBytes(memoryBytes)} as ${formatBytes(wireBytes)}`;
  return [
    ["memory", `${sizes} in ${formatDuration(total_ms)}, ${MEMORY[method]} (${memory})`],
    ["pause", method === "none" ? undefined : `${formatDuration(pause_ms)} expected`],
  ];
}

function share(part: number, whole: number): string {
  if (whole <= 0) return "";
  const percent = (100 * part) / whole;
  return `; this moves ${percent >= 10 ? percent.toFixed(0) : percent.toFixed(1)}% of it`;
}

/** Why the agent chose the destination. */
export function renderChoice({ cloud, reason, considered }: Choice): string {
  const rows = considered.map(({ cloud, accepted, reason }) => [
    cloud,
    accepted ? "fits" : "no",
    reason,
  ]);
  const title = `Destination: ${cloud}: ${reason}`;
  const table = renderTable([{ title: "CLOUD" }, { title: "" }, { title: "REASON" }], rows, "  ");
  return `${printable(title)}\n${rows.length === 0 ? "" : table}\n`;
}

const PHASES: readonly (readonly [Phase, string])[] = [
  ["negotiate", "negotiate"],
  ["components", "components"],
  ["compose", "compose"],
  ["stop", "stop"],
  ["userData", "user data"],
  ["memory", "memory"],
  ["switch", "switch"],
  ["boot", "boot"],
];

const STOPS = {
  none: "it was not stopped",
  graceful: "the guest shut down by itself",
  forced: "by force",
  "was-stopped": "it was stopped already",
} as const;

export function renderReceipt(
  { receipt, signatures }: SignedReceipt,
  machineName: string = receipt.machine,
  plan?: Plan,
): string {
  const { source, destination, mode, userData } = receipt;
  const title = `Receipt: ${machineName} went from ${source} to ${destination}, ${mode}, ${receipt.case} case`;
  const moved = receipt.components.map((component) => [
    component.name,
    shortDigest(component.id),
    howOf(component),
    formatBytes(component.bytes),
  ]);
  const how = userData.lineage === true ? "changes moved" : "moved";
  const digest = userData.digest === undefined ? "" : shortDigest(userData.digest);
  const data = ["user data", digest, how, formatBytes(userData.bytes)];
  const wire = ["on the wire", "", "", formatBytes(receipt.wireBytes)];
  const columns = [
    { title: "COMPONENT" },
    { title: "DIGEST" },
    { title: "" },
    { title: "BYTES", align: "right" },
  ] as const;
  return [
    `${printable(title)}\n\n`,
    renderTable(columns, [...moved, data, wire], "  "),
    "\n",
    renderPhases(receipt.phases_ms),
    "\n",
    renderMembers([
      ["downtime", `${formatDuration(receipt.downtime_ms)}${expectedOf(plan)}`],
      ...renderHot(receipt.hot),
      ["stop", STOPS[receipt.stop]],
      ["compression", encodingsOf(receipt.encodings)],
      ["migration", receipt.migration],
      ["started", renderTime(receipt.started_ms)],
      ["took", formatDuration(receipt.ended_ms - receipt.started_ms)],
      ["signed by", Object.keys(signatures).toSorted().join(", ") || "nobody"],
    ]),
  ].join("");
}

/** What the plan had said. */
function expectedOf(plan: Plan | undefined): string {
  const { forecast } = plan?.hot ?? {};
  return forecast === undefined ? "" : `, ${formatDuration(forecast.pause_ms)} were expected`;
}

/** What only a hot migration has. */
function renderHot(hot: HotReport | undefined): [string, string | undefined][] {
  if (hot === undefined) return [];
  const { memory, storage, pause_ms, fill_ms, restarted } = hot;
  const { status, token, resume } = pause_ms;
  const [by, to] = [formatBytes(memory.rawBytes), formatBytes(memory.wireBytes)];
  const parts = [
    `${formatDuration(status)} for memory and status`,
    `${formatDuration(token)} for the hand-over`,
    `${formatDuration(resume)} to go on`,
  ];
  const rest = storage.demandedBytes + storage.backgroundBytes;
  return [
    ["of which", parts.join(", ")],
    ["memory", `${memory.method}, ${memory.passes} passes, ${by} as ${to}`],
    ["read ahead", `${formatBytes(storage.aheadBytes)} in ${storage.passes} passes`],
    ["after the switch", `${formatBytes(rest)} in ${formatDuration(fill_ms)}`],
    ["restarted", restarted === true ? "from its disk, as after a power cut" : undefined],
  ];
}

function howOf({ held, contents, sources }: ReceiptComponent): string {
  if (held) return "held";
  const from = sources === undefined ? "" : ` from ${Object.keys(sources).toSorted().join(", ")}`;
  if (contents === undefined) return `moved${from}`;
  const { heldBytes, patchedBytes } = contents;
  const saved = heldBytes + patchedBytes === 0 ? "" : `, ${formatBytes(heldBytes)} held`;
  return `moved${from}${saved}`;
}

/** For instance `solid-19 40.1 MB to 8.9 MB, plain 1.0 MB`. */
function encodingsOf(encodings: EncodingShares | undefined): string | undefined {
  const parts = Object.entries(encodings ?? {}).map(([name, { rawBytes, wireBytes }]) =>
    name === "plain"
      ? `${name} ${formatBytes(rawBytes)}`
      : `${name} ${formatBytes(rawBytes)} to ${formatBytes(wireBytes)}`,
  );
  return parts.length === 0 ? undefined : parts.join(", ");
}

function renderPhases(phases_ms: Receipt["phases_ms"]): string {
  const rows = PHASES.flatMap(([phase, title]) => {
    const took_ms = phases_ms[phase];
    return took_ms === undefined ? [] : [[title, formatDuration(took_ms)]];
  });
  return renderTable([{ title: "PHASE" }, { title: "TIME", align: "right" }], rows, "  ");
}
