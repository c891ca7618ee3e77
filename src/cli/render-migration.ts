/** Migrations, and their progress. Pure. */
import type { MigrationProgress, MigrationStatus, MigrationSummary, StreamProgress } from "#api";
import { formatBytes, formatRate } from "#core";
import { renderError } from "./render-error.ts";
import { renderPlan, renderReceipt } from "./render-plan.ts";
import { renderMembers, renderTable, renderTime } from "./render-table.ts";
import { printable } from "./values.ts";

export function renderMigrations(migrations: readonly MigrationSummary[]): string {
  const columns = ["MIGRATION", "MACHINE", "ROLE", "PEER", "STATE", "OUTCOME", "STARTED"];
  return renderTable(
    columns.map((title) => ({ title })),
    migrations.map((one) => [
      one.migration,
      one.machineName,
      one.role,
      one.peer,
      one.state,
      one.outcome ?? "goes on",
      renderTime(one.started_ms),
    ]),
  );
}

export function renderMigration(status: MigrationStatus): string {
  const { plan, receipt, error, journal, machineName } = status;
  const parts = [
    renderMembers([
      ["migration", status.migration],
      ["machine", `${machineName} (${status.machine})`],
      ["this side", `${status.role}; the other cloud is ${status.peer}`],
      ["state", status.state],
      ["phase", status.phase],
      ["outcome", status.outcome ?? "goes on"],
      ["started", renderTime(status.started_ms)],
      ["ended", status.ended_ms === undefined ? undefined : renderTime(status.ended_ms)],
      ["note", status.note],
    ]),
  ];
  if (status.streams.length > 0) parts.push(renderStreams(status.streams));
  if (error !== undefined) parts.push(renderError(error));
  if (plan !== undefined) parts.push(renderPlan(plan, machineName));
  if (receipt !== undefined) parts.push(renderReceipt(receipt, machineName, plan));
  if (journal.length > 0) parts.push(renderJournal(journal));
  return parts.join("\n");
}

function renderJournal(journal: MigrationStatus["journal"]): string {
  const columns = ["TIME", "STATE", "EVENT", "DETAIL"].map((title) => ({ title }));
  return renderTable(
    columns,
    journal.map((entry) => [renderTime(entry.at_ms), entry.state, entry.event, entry.detail ?? ""]),
  );
}

function renderStreams(streams: readonly StreamProgress[]): string {
  const columns = [
    { title: "STREAM" },
    { title: "DONE", align: "right" },
    { title: "OF", align: "right" },
    { title: "WIRE", align: "right" },
    { title: "SAVED", align: "right" },
    { title: "FROM" },
  ] as const;
  return renderTable(
    columns,
    streams.map(({ doneBytes, totalBytes, wireBytes, savedBytes, sources, ...stream }) => [
      titleOf(stream),
      formatBytes(doneBytes),
      formatBytes(totalBytes),
      wireBytes === undefined ? "" : formatBytes(wireBytes),
      savedBytes === undefined ? "" : formatBytes(savedBytes),
      (sources ?? []).join(", "),
    ]),
  );
}

function titleOf({ name, pass }: Pick<StreamProgress, "name" | "pass">): string {
  return pass === undefined ? name : `${name}, pass ${pass}`;
}

const BAR_WIDTH_MAX = 40;

/** Lines of at most `columns` characters: the phase, then a bar for each stream. */
export function renderProgress(progress: MigrationProgress, columns: number): string[] {
  const { state, phase, streams, bitsPerSecond, note } = progress;
  const head = [
    phase === undefined ? state : `${state} (${phase})`,
    ...(bitsPerSecond === undefined ? [] : [formatRate(bitsPerSecond)]),
    ...(note === undefined ? [] : [note]),
  ].join(", ");
  return [head, ...renderBars(streams, columns)].map((line) =>
    oneLine(line).slice(0, Math.max(1, columns - 1)),
  );
}

function oneLine(text: string): string {
  return printable(text).replaceAll(/[\n\t]/g, " ");
}

function renderBars(streams: readonly StreamProgress[], columns: number): string[] {
  const nameWidth = Math.max(0, ...streams.map((one) => Math.min(24, titleOf(one).length)));
  return streams.map((stream) => {
    const { doneBytes, totalBytes } = stream;
    const label = titleOf(stream).slice(0, nameWidth).padEnd(nameWidth);
    const figures = `${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}${extras(stream)}`;
    const room = columns - nameWidth - figures.length - 12;
    const width = Math.max(0, Math.min(BAR_WIDTH_MAX, room));
    const fraction = totalBytes === 0 ? 1 : Math.min(1, doneBytes / totalBytes);
    const percent = `${Math.floor(fraction * 100)}%`.padStart(4);
    return `${label} ${bar(fraction, width)}${percent}  ${figures}`;
  });
}

/** What was sent, what need not be, and by whom. */
function extras({ wireBytes, savedBytes, sources }: StreamProgress): string {
  const parts = [
    ...(wireBytes === undefined ? [] : [`${formatBytes(wireBytes)} sent`]),
    ...(savedBytes === undefined || savedBytes === 0 ? [] : [`${formatBytes(savedBytes)} saved`]),
    ...(sources === undefined || sources.length === 0 ? [] : [`from ${sources.join(", ")}`]),
  ];
  return parts.length === 0 ? "" : ` (${parts.join(", ")})`;
}

function bar(fraction: number, width: number): string {
  if (width < 4) return "";
  const full = Math.floor(fraction * width);
  return `[${"#".repeat(full)}${".".repeat(width - full)}] `;
}
