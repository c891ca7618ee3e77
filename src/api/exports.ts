/** Exporting a machine: what is asked, what is told meanwhile, what is written. */
import * as z from "zod";
import { bytes, count, digest, list, name, text } from "./scalars.ts";

/** Equal to the export room's formats. */
const exportFormat = z.enum(["raw", "qcow2", "vmdk", "vpc", "vhdx", "vdi", "ova"]);

export const exportInput = z.strictObject({
  machine: name,
  format: exportFormat,
  /** Absolute, on the agent's host, where nothing is; a dry run needs none. */
  path: z.string().min(1).max(4096).exactOptional(),
  /** Of the disk; by default the machine's files and as much room as its user data block has. */
  sizeBytes: bytes.exactOptional(),
  /** Only tells what the disk would be. */
  dryRun: z.boolean().exactOptional(),
});

/** Equal to the export room's ExportProgress. */
export const exportProgress = z.object({
  step: z.enum(["read", "boot", "root", "prove", "convert", "pack"]),
  detail: text,
});

/** Equal to the export room's ExportSurvey. */
export const exportSurvey = z.object({
  entries: count,
  contentBytes: bytes,
  rootBytes: bytes,
  diskBytes: bytes,
  kernelRelease: text,
  kernel: z.enum(["own", "made"]),
  fileSystem: text,
  added: list(text),
  changed: list(text),
  leftOut: list(text),
  leftFstab: list(text),
  controller: text,
  network: text,
});

/** Equal to the export room's ExportProof. */
export const exportProof = z.object({
  entries: count,
  bytes,
  machineDigest: digest,
  exportedDigest: digest,
});

/** Equal to the export room's ExportedFile. */
export const exportedFile = z.object({ path: text, sizeBytes: bytes, allocatedBytes: bytes });

export const exportResult = z.object({
  survey: exportSurvey,
  /** Absent for a dry run, as the proof. */
  file: exportedFile.exactOptional(),
  proof: exportProof.exactOptional(),
});
