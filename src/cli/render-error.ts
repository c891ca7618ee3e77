/** Errors for people and for programs. Pure. */
import type { ErrorReport } from "#core";
import { printable } from "./values.ts";

export function renderError(report: ErrorReport): string {
  const lines = [`error ${report.code}: ${report.message}`];
  if (report.subject !== undefined) lines.push(`  about: ${report.subject}`);
  if (report.remedy !== undefined) lines.push(`  what to do: ${report.remedy}`);
  if (report.fault === "bug") {
    lines.push("  this is a fault of Tessera itself; please report it with the agent's log");
  }
  return `${printable(lines.join("\n"))}\n`;
}

export function renderErrorJson(report: ErrorReport): string {
  return `${JSON.stringify({ error: report })}\n`;
}
