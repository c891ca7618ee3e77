import type { BlockDevice } from "#block";
import { TesseraError } from "#core";
import type { NbdExport } from "./contract.ts";
import { sharedFlush } from "./flusher.ts";
import type { OfferedExport } from "./negotiation.ts";
import { PAYLOAD_BYTES_MAX, STRING_BYTES_MAX, TRANSMISSION } from "./protocol.ts";

/** An export with what its connections share. */
export interface ServedExport {
  readonly offered: OfferedExport;
  readonly device: BlockDevice;
  readonly readOnly: boolean;
  readonly flush: () => Promise<void>;
}

const PREFERRED_BYTES = 4096;

const ALWAYS =
  TRANSMISSION.HAS_FLAGS |
  TRANSMISSION.SEND_FLUSH |
  TRANSMISSION.SEND_FUA |
  TRANSMISSION.SEND_CACHE;
const WRITABLE =
  TRANSMISSION.SEND_TRIM | TRANSMISSION.SEND_WRITE_ZEROES | TRANSMISSION.SEND_FAST_ZERO;

function flagsOf({ readOnly = false, multipleConnections = true }: NbdExport): number {
  const several = multipleConnections ? TRANSMISSION.CAN_MULTI_CONN : 0;
  return ALWAYS | several | (readOnly ? TRANSMISSION.READ_ONLY : WRITABLE);
}

function invalid(name: string, message: string): TesseraError {
  return new TesseraError("misuse", "nbd.export-invalid", message, { subject: name });
}

function validate({ name, description = "", preferredBytes = PREFERRED_BYTES }: NbdExport): void {
  const longest = Math.max(Buffer.byteLength(name), Buffer.byteLength(description));
  if (longest > STRING_BYTES_MAX) throw invalid(name, "the name or description is too long");
  const isSize = Number.isInteger(Math.log2(preferredBytes)) && preferredBytes >= 512;
  if (isSize && preferredBytes <= PAYLOAD_BYTES_MAX) return;
  throw invalid(name, `${preferredBytes} bytes cannot be preferred`);
}

/** @throws `nbd.export-invalid` (misuse): a name twice, too long, or a size that cannot be */
export function serveExports(exports: readonly NbdExport[]): Map<string, ServedExport> {
  const served = new Map<string, ServedExport>();
  const flushes = new Map<BlockDevice, () => Promise<void>>();
  for (const one of exports) {
    const { name, device, readOnly = false, description = "" } = one;
    validate(one);
    if (served.has(name)) throw invalid(name, `the export "${name}" is there twice`);
    const flush = flushes.get(device) ?? sharedFlush(() => device.flush());
    flushes.set(device, flush);
    const { preferredBytes = PREFERRED_BYTES } = one;
    const { sizeBytes } = device;
    const offered = { name, description, sizeBytes, flags: flagsOf(one), preferredBytes };
    served.set(name, { offered, device, readOnly, flush });
  }
  return served;
}
