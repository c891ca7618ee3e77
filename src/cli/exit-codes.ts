/** Exit codes; doc/errors.md documents them. */
import { classOf, type ErrorClass } from "#api";
import type { ErrorReport } from "#core";

export const EXIT_OK = 0;
export const EXIT_USAGE = 2;
/** 128 and the number of SIGINT, as shells do. */
const EXIT_INTERRUPTED = 130;

const BY_CLASS: Readonly<Record<ErrorClass, number>> = {
  bug: 1,
  usage: EXIT_USAGE,
  refused: 3,
  conflict: 3,
  peer: 3,
  missing: 4,
  environment: 5,
  full: 5,
  corrupt: 6,
};

export function exitCodeOf(report: ErrorReport): number {
  if (report.code === "cli.interrupted") return EXIT_INTERRUPTED;
  return report.code === "cli.failed" ? 1 : BY_CLASS[classOf(report)];
}
