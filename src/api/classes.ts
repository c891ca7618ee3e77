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

/** How the codes of a fault end that are of another class than the rest of their fault. */
const BY_END: Readonly<Record<Fault, readonly (readonly [ErrorClass, RegExp])[]>> = {
  bug: [],
  corrupt: [],
  misuse: [
    ["missing", /[.-](unknown|not-found|missing|not-present)$/],
    ["conflict", /[.-](exists|pinned|in-use|busy|clash|too-late|phase-left)$/],
    ["conflict", /[.-](running|stopped|stopping|migrating|gone|not-ready|not-waiting)$/],
    ["refused", /[.-](unmet|refused|conflict|unsuitable|no-destination)$/],
  ],
  peer: [["refused", /[.-](refused|unmet|not-acceptable|busy)$/]],
  environment: [
    ["full", /[.-](no-space|disk-full)$/],
    ["missing", /[.-]not-found$/],
  ],
};

export function classOf({ fault, code }: Pick<ErrorReport, "fault" | "code">): ErrorClass {
  return BY_END[fault].find(([, end]) => end.test(code))?.[0] ?? BY_FAULT[fault];
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
