import { z } from "zod";
import { canonicalJson, hasCode, TesseraError, type FileSystem, type Json } from "#core";
import type { MachineSpecification } from "../contract.ts";
import type { Layout } from "./layout.ts";

const RECORD_BYTES_MAX = 2 ** 20;

const PORT = z.int().min(1).max(65_535);
const IDENTITY = z.object({
  pid: z.int().min(1),
  startTicks: z.int().min(0),
  bootId: z.string().min(1).max(64),
});
const HOST = z.object({
  version: z.string(),
  machineType: z.string(),
  cpuModel: z.string(),
  accelerator: z.enum(["kvm", "tcg"]),
});
const REMOTE_DATA = z.object({ socketPath: z.string().min(1), exportName: z.string() });
const RECORD = z.object({
  version: z.literal(1),
  uuid: z.string().min(1).max(64),
  /** See `Launch.id`. */
  launch: z.string().regex(/^[0-9a-f]{16}$/),
  /** Canonical JSON of the specification, to tell whether a second start means the same. */
  specification: z.string(),
  hostPorts: z.record(z.string(), PORT),
  dataPath: z.string().min(1),
  /** Absent from just before the process is made until it is known. */
  process: IDENTITY.optional(),
  /** What the process was started with; absent in records of before hot migration. */
  host: HOST.optional(),
  /** It was started to receive a guest. */
  incoming: z.object({ data: REMOTE_DATA.optional() }).optional(),
  /** How it was stopped, once it was. */
  stopped: z.enum(["graceful", "forced"]).optional(),
});

/** What is durable about the last launch in a directory. */
export type LaunchRecord = z.infer<typeof RECORD>;

/** Equal texts are equal machines. */
export function specificationText(specification: MachineSpecification): string {
  return canonicalJson(specification as unknown as Json);
}

/** Of which the text of a record was made. */
export function specificationOf({ specification }: LaunchRecord): MachineSpecification {
  // Written by this room as canonical JSON of a specification.
  return JSON.parse(specification) as MachineSpecification;
}

/**
 * The record of this directory, undefined where there is none.
 *
 * @throws `hypervisor.record-corrupt`
 */
export async function readRecord(
  files: FileSystem,
  layout: Layout,
): Promise<LaunchRecord | undefined> {
  const bytes = await readOptional(files, layout.record);
  if (bytes === undefined) return undefined;
  try {
    return RECORD.parse(JSON.parse(Buffer.from(bytes).toString("utf8")));
  } catch (cause) {
    throw new TesseraError(
      "corrupt",
      "hypervisor.record-corrupt",
      "the record of the machine's process is not readable",
      {
        subject: layout.record,
        remedy: "make sure that the machine's process has ended, then remove the file",
        cause,
      },
    );
  }
}

async function readOptional(files: FileSystem, path: string): Promise<Uint8Array | undefined> {
  try {
    return await files.readFile(path, RECORD_BYTES_MAX);
  } catch (error) {
    if (hasCode(error, "system.not-found")) return undefined;
    throw error;
  }
}

export function writeRecord(
  files: FileSystem,
  layout: Layout,
  record: LaunchRecord,
): Promise<void> {
  return files.writeFileAtomic(layout.record, JSON.stringify(record), 0o600);
}
