/**
 * Whose fault an error is; it decides what a caller may do about it.
 *
 * - `bug`: ours; report it.
 * - `misuse`: the caller's input or order of calls; correct it.
 * - `peer`: another cloud broke the protocol, refused or went away.
 * - `corrupt`: stored or received data does not match its digest.
 * - `environment`: a full disk, a missing program, an unreachable address.
 */
export type Fault = "bug" | "misuse" | "peer" | "corrupt" | "environment";

export interface ErrorDetails {
  /** The id that the error is about: a digest, a machine, a cloud, a path. */
  readonly subject?: string;
  /** What the user can do now, as a sentence. */
  readonly remedy?: string;
  readonly cause?: unknown;
}

/** The one error type of Tessera. `code` is stable and documented in `doc/errors.md`. */
export class TesseraError extends Error {
  readonly code: string;
  readonly fault: Fault;
  readonly subject: string | undefined;
  readonly remedy: string | undefined;

  /** @param code `room.reason` in kebab case, for instance `repository.blob-corrupt`. */
  constructor(fault: Fault, code: string, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? {} : { cause: details.cause });
    this.name = "TesseraError";
    this.fault = fault;
    this.code = code;
    this.subject = details.subject;
    this.remedy = details.remedy;
  }
}

/** An error as it crosses a process or network boundary. */
export interface ErrorReport {
  readonly code: string;
  readonly fault: Fault;
  readonly message: string;
  readonly subject?: string;
  readonly remedy?: string;
}

export function reportOf(error: unknown): ErrorReport {
  if (!(error instanceof TesseraError)) {
    const message = error instanceof Error ? error.message : String(error);
    return { code: "core.unexpected", fault: "bug", message };
  }
  return {
    code: error.code,
    fault: error.fault,
    message: error.message,
    ...(error.subject === undefined ? {} : { subject: error.subject }),
    ...(error.remedy === undefined ? {} : { remedy: error.remedy }),
  };
}

export function errorFromReport(report: ErrorReport): TesseraError {
  return new TesseraError(report.fault, report.code, report.message, report);
}

/** True when `error` is a {@link TesseraError} with this code. */
export function hasCode(error: unknown, code: string): error is TesseraError {
  return error instanceof TesseraError && error.code === code;
}
