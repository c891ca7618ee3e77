/**
 * The rule of error codes: whose fault an error is, and how its code ends, say what kind of
 * failure it is; from the kind follow the HTTP status and the exit code (doc/errors.md).
 */
import type { ErrorReport, Fault } from "#core";

/**
 * - `usage`: the input or the flags are wrong;
 * - `missing`: the thing named does not exist;
 * - `conflict`: the thing's state forbids it (exists, pinned, busy, running);
 * - `refused`: a constraint is not met, or a policy or another cloud says no;
 * - `peer`: another cloud broke the protocol or went away;
 * - `corrupt`: data does not match its digest;
 * - `full`: no space; `environment`: anything else around us; `bug`: ours.
 */
export type ErrorClass =
  | "usage"
  | "missing"
  | "conflict"
  | "refused"
  | "peer"
  | "corrupt"
  | "full"
  | "environment"
  | "bug";

const BY_FAULT: Readonly<Record<Fault, ErrorClass>> = {
  bug: "bug",
  misuse: "usage",
  peer: "peer",
  corrupt: "corrupt",
  environment: "environment",
};

/** Ends of codes that narrow a misuse. */
const MISUSE_ENDS: readonly (readonly [RegExp, ErrorClass])[] = [
  [/[.-](unknown|not-found)$/, "missing"],
  [
    /[.-](exists|pinned|in-use|busy|running|not-running|stopped|not-stopped|state|too-late|handed-over|already-running|ended)$/,
    "conflict",
  ],
  [/[.-](unmet|refused|denied|forbidden|untrusted|nowhere)$/, "refused"],
];

export function classOf({ fault, code }: Pick<ErrorReport, "fault" | "code">): ErrorClass {
  if (fault === "misuse") {
    return MISUSE_ENDS.find(([end]) => end.test(code))?.[1] ?? "usage";
  }
  if (fault === "peer" && /[.-](refused|unmet|denied|forbidden)$/.test(code)) return "refused";
  if (fault === "environment" && /[.-](no-space|disk-full)$/.test(code)) return "full";
  if (fault === "environment" && /[.-]not-found$/.test(code)) return "missing";
  return BY_FAULT[fault];
}

const STATUS_BY_CLASS: Readonly<Record<ErrorClass, number>> = {
  usage: 400,
  missing: 404,
  conflict: 409,
  refused: 422,
  peer: 502,
  corrupt: 500,
  full: 507,
  environment: 503,
  bug: 500,
};

const STATUS_BY_CODE: Readonly<Record<string, number>> = {
  "api.method-wrong": 405,
  "api.body-too-large": 413,
};

/** HTTP status (RFC 9110) of an error's answer. */
export function statusOf(report: ErrorReport): number {
  return STATUS_BY_CODE[report.code] ?? STATUS_BY_CLASS[classOf(report)];
}
