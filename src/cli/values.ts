/** Values of flags and arguments. */
import { TesseraError } from "#core";

const MILLISECONDS: Readonly<Record<string, number>> = { ms: 1, s: 1000, min: 60_000 };

/**
 * Milliseconds of a duration such as `500ms`, `30s`, `2min`; a bare number means seconds.
 *
 * @throws `cli.duration-invalid` (misuse)
 */
export function parseDuration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|min)?$/.exec(text.trim());
  const milliseconds = Number(match?.[1]) * (MILLISECONDS[match?.[2] ?? "s"] ?? Number.NaN);
  if (Number.isFinite(milliseconds)) return Math.round(milliseconds);
  throw new TesseraError("misuse", "cli.duration-invalid", `"${text}" is not a duration`, {
    subject: text,
    remedy: "write a number with ms, s or min, for instance 30s",
  });
}

/**
 * Milliseconds since the Unix epoch of `03:00` or `03:00:30` (the next time that a clock here shows it),
 * `+2min` (from now on), or a date with a time as in ISO 8601.
 *
 * @throws `cli.time-invalid` (misuse)
 */
export function parseTime(text: string, now_ms: number): number {
  const time = text.trim();
  if (time.startsWith("+")) return now_ms + parseDuration(time.slice(1));
  const clock = /^([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?$/.exec(time);
  const at_ms = clock === null ? dateOf(time) : nextTime(clock.slice(1), now_ms);
  if (Number.isFinite(at_ms)) return at_ms;
  throw new TesseraError("misuse", "cli.time-invalid", `"${text}" is not a time`, {
    subject: text,
    remedy: "write 03:00, +2min, or 2026-11-30T03:00Z",
  });
}

/** A date alone, or a mere number, is taken for a mistake. */
function dateOf(text: string): number {
  return /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d/.test(text) ? Date.parse(text) : Number.NaN;
}

function nextTime(parts: readonly (string | undefined)[], now_ms: number): number {
  const [hours = 0, minutes = 0, seconds = 0] = parts.map((part = "0") => Number(part));
  const date = new Date(now_ms);
  date.setHours(hours, minutes, seconds, 0);
  if (date.getTime() <= now_ms) date.setDate(date.getDate() + 1);
  return date.getTime();
}

/** Removes what could command a terminal: control characters but for tab and line feed. */
export function printable(text: string): string {
  // oxlint-disable-next-line no-control-regex
  return text.replaceAll(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, "");
}
