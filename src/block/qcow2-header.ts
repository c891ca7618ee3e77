import { TesseraError } from "#core";

/** What is used of a qcow2 file's header (QEMU, docs/interop/qcow2.txt). */
export interface Qcow2Header {
  /** Of the disk that the guest sees. */
  readonly sizeBytes: number;
  readonly l1Entries: number;
  readonly l1Offset: number;
}

export const CLUSTER_BYTES = 65_536;
export const HEADER_BYTES = 104;
/** Clusters that one second-level table covers. */
export const TABLE_ENTRIES = CLUSTER_BYTES / 8;
const MAGIC = 0x5146_49fb;
/** "Dirty" only says that reference counts may be too high, which a reader does not look at. */
const INCOMPATIBLE_KNOWN = 1n;
/** 1 PiB: bounds what is read by a header that is damaged. */
const SIZE_BYTES_MAX = 2 ** 50;

export function unsupported(path: string, what: string): TesseraError {
  const message = `${path} is no overlay that can be read: ${what}`;
  return new TesseraError("corrupt", "block.overlay-unsupported", message, { subject: path });
}

/**
 * Decodes and validates a header.
 *
 * @throws `block.overlay-unsupported` for anything but version 3 with clusters of 64 KiB, without
 *   encryption, internal snapshots, external data, compression types or extended tables
 */
export function decodeHeader(bytes: Buffer, path: string): Qcow2Header {
  if (bytes.length < HEADER_BYTES || bytes.readUInt32BE(0) !== MAGIC) {
    throw unsupported(path, "it is not qcow2");
  }
  if (bytes.readUInt32BE(4) !== 3) throw unsupported(path, "its version is not 3");
  if (bytes.readUInt32BE(20) !== 16) throw unsupported(path, "its clusters are not of 64 KiB");
  if (bytes.readUInt32BE(32) !== 0) throw unsupported(path, "it is encrypted");
  if (bytes.readUInt32BE(60) !== 0) throw unsupported(path, "it has internal snapshots");
  if ((bytes.readBigUInt64BE(72) & ~INCOMPATIBLE_KNOWN) !== 0n) {
    throw unsupported(path, "it is damaged or has features that are not known");
  }
  return validateSizes(bytes, path);
}

function validateSizes(bytes: Buffer, path: string): Qcow2Header {
  const sizeBytes = Number(bytes.readBigUInt64BE(24));
  const l1Entries = bytes.readUInt32BE(36);
  const l1Offset = Number(bytes.readBigUInt64BE(40));
  const needed = Math.ceil(sizeBytes / CLUSTER_BYTES / TABLE_ENTRIES);
  const sizes = sizeBytes > 0 && sizeBytes <= SIZE_BYTES_MAX && l1Entries >= needed;
  if (sizes && l1Offset > 0 && l1Offset % CLUSTER_BYTES === 0 && l1Offset <= SIZE_BYTES_MAX) {
    return { sizeBytes, l1Entries: needed, l1Offset };
  }
  throw unsupported(path, "its sizes contradict each other");
}
