/** What was found for the features of a machine. Pure. */
import type { Output } from "#api";
import { formatBytes } from "#core";
import { renderUnmet } from "./render-lists.ts";
import { renderTable } from "./render-table.ts";
import { printable } from "./values.ts";

type Selection = Output<"machine.select">;

export function renderSelection(selection: Selection): string {
  const { features, unmet, fits, fetchBytes, remarks = [] } = selection;
  const columns = [
    { title: "FEATURE" },
    { title: "COMPONENT" },
    { title: "SIZE", align: "right" as const },
    { title: "FROM" },
  ];
  const rows = features.map(({ wish, component, held, clouds, reason }) => {
    if (component === undefined) return [wish, "-", "-", reason ?? "not found"];
    const { name, version, sizeBytes } = component;
    const from = held ? "held" : `to fetch from ${clouds.join(", ")}`;
    return [wish, `${name} ${version}`, formatBytes(sizeBytes), from];
  });
  const some = features.some(({ held, component }) => !held && component !== undefined);
  const fetching = some ? `, at most ${formatBytes(fetchBytes)} to fetch` : "";
  const verdict = `${fits ? "fits" : "does not fit"}${fetching}\n`;
  const beside = remarks.map((remark) => `${printable(remark)}\n`).join("");
  return (
    renderTable(columns, rows) + beside + (unmet.length === 0 ? "" : renderUnmet(unmet)) + verdict
  );
}
