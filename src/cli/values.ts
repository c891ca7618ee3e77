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

/** Removes what could command a terminal: control characters but for tab and line feed. */
export function printable(text: string): string {
  // oxlint-disable-next-line no-control-regex
  return text.replaceAll(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, "");
}
