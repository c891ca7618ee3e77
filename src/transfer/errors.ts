import { TesseraError, type ErrorDetails } from "#core";

/** The peer broke the protocol; the connection or stream ends. */
export function violation(message: string, cause?: unknown): TesseraError {
  return new TesseraError("peer", "transfer.protocol-violation", message, {
    remedy: "check that both clouds run compatible versions",
    cause,
  });
}

export function peerError(code: string, message: string, details: ErrorDetails = {}) {
  return new TesseraError("peer", `transfer.${code}`, message, details);
}

export function linkLost(cause?: unknown): TesseraError {
  const reason = cause instanceof Error ? `: ${cause.message}` : "";
  return peerError("link-lost", `the data connection broke${reason}`, { cause });
}

const RETRYABLE: ReadonlySet<string> = new Set([
  "transfer.link-lost",
  "transfer.unreachable",
  "transfer.stalled",
  "transfer.closing",
]);

/** True for what another connection may cure. */
export function isRetryable(error: unknown): boolean {
  return error instanceof TesseraError && RETRYABLE.has(error.code);
}

/** True for an error of Node itself with this code. */
export function hasErrorCode(error: Error, code: string): boolean {
  return "code" in error && error.code === code;
}
