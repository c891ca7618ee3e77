/** Tables and lists of members as plain text. Pure. */
import { formatBytes } from "#core";
import { printable } from "./values.ts";

export interface Column {
  readonly title: string;
  readonly align?: "left" | "right";
}

/** Columns two spaces apart, no trailing spaces, one line feed after each line. */
export function renderTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  indent = "",
): string {
  const titles = columns.map(({ title }) => title);
  const lines = [...(titles.some((title) => title !== "") ? [titles] : []), ...rows].map((line) =>
    line.map(cell),
  );
  const widths = columns.map((_, index) =>
    Math.max(0, ...lines.map((line) => (line[index] ?? "").length)),
  );
  const pad = (text: string, index: number): string => {
    const width = widths[index] ?? 0;
    return columns[index]?.align === "right" ? text.padStart(width) : text.padEnd(width);
  };
  return lines.map((line) => `${(indent + line.map(pad).join("  ")).trimEnd()}\n`).join("");
}

function cell(text: string): string {
  return printable(text).replaceAll(/\s+/g, " ");
}

/** `name  value` lines; members without a value are left out. */
export function renderMembers(members: readonly (readonly [string, string | undefined])[]): string {
  const rows = members.flatMap(([name, value]) => (value === undefined ? [] : [[name, value]]));
  return renderTable([{ title: "" }, { title: "" }], rows);
}

/** `2026-11-22 16:40:10Z`. */
export function renderTime(milliseconds: number): string {
  const date = new Date(milliseconds);
  if (Number.isNaN(date.getTime())) return "?";
  return `${date.toISOString().slice(0, 19).replace("T", " ")}Z`;
}

/** Sizes that users gave in powers of 1024 look as they gave them: `512 MiB`; others in decimal. */
export function renderSize(bytes: number): string {
  for (const [unit, name] of [
    [2 ** 30, "GiB"],
    [2 ** 20, "MiB"],
  ] as const) {
    if (bytes > 0 && bytes % unit === 0) return `${bytes / unit} ${name}`;
  }
  return formatBytes(bytes);
}

/** `1 component`, `2 components`. */
export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
