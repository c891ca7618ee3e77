import { TesseraError, type ErrorDetails, type Fault } from "#core";
import { ERRNO } from "./protocol.ts";

/** The other side broke the protocol; the connection ends. */
export function violation(message: string): TesseraError {
  return new TesseraError("peer", "nbd.protocol-violation", `NBD: ${message}`, {
    remedy: "check which program is at the other end of the socket",
  });
}

export function peerError(code: string, message: string, details: ErrorDetails = {}) {
  return new TesseraError("peer", `nbd.${code}`, message, details);
}

export function linkLost(cause?: unknown): TesseraError {
  const reason = cause instanceof Error ? `: ${cause.message}` : "";
  return peerError("link-lost", `the NBD connection broke${reason}`, { cause });
}

const FULL = /\.(disk-full|no-space)$/;

/** The number by which a client is told of an error of the device. */
export function errnoOf(error: unknown): number {
  if (!(error instanceof TesseraError)) return ERRNO.EIO;
  const { code, fault } = error;
  if (FULL.test(code)) return ERRNO.ENOSPC;
  if (code === "block.read-only" || code === "system.permission") return ERRNO.EPERM;
  if (code === "block.closed") return ERRNO.ESHUTDOWN;
  if (code === "block.out-of-range" || fault === "misuse") return ERRNO.EINVAL;
  return ERRNO.EIO;
}

const NAMES: Readonly<Record<number, readonly [fault: Fault, reason: string, text: string]>> = {
  [ERRNO.EPERM]: ["peer", "not-permitted", "does not permit it"],
  [ERRNO.EIO]: ["environment", "input-output", "had an input or output error"],
  [ERRNO.ENOMEM]: ["environment", "no-memory", "has not enough memory"],
  [ERRNO.ENOSPC]: ["environment", "no-space", "has no space left"],
  [ERRNO.EOVERFLOW]: ["peer", "too-large", "takes no request of this size"],
  [ERRNO.ENOTSUP]: ["peer", "not-supported", "cannot do it, or not quickly"],
  [ERRNO.ESHUTDOWN]: ["peer", "shutting-down", "is shutting down"],
};

/** The error of a reply; a number that the protocol does not name counts as EINVAL, as it says. */
export function errorOfReply(errno: number, message: string, subject: string): TesseraError {
  const [fault, reason, text] = NAMES[errno] ?? ["peer", "request-invalid", "takes it for invalid"];
  const words = message === "" ? "" : `: ${message}`;
  return new TesseraError(fault, `nbd.${reason}`, `the NBD server ${text}${words}`, { subject });
}
