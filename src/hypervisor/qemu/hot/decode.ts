/** QEMU's words on migration (qapi/migration.json), decoded. */
import { z } from "zod";
import { TesseraError } from "#core";
import type { HotEvent, HotStatistics, HotStatus } from "../../contract.ts";
import type { QmpEvent } from "../qmp-codec.ts";

const STATUS: z.ZodType<HotStatus> = z.enum([
  "none",
  "setup",
  "active",
  "pre-switchover",
  "device",
  "postcopy-active",
  "postcopy-paused",
  "postcopy-recover",
  "completed",
  "failed",
  "cancelling",
  "cancelled",
]);
const COUNT = z.number().min(0).default(0);
const RAM = z.object({
  transferred: COUNT,
  remaining: COUNT,
  total: COUNT,
  "dirty-pages-rate": COUNT,
  "page-size": COUNT,
  mbps: COUNT,
  "dirty-sync-count": COUNT,
  "postcopy-requests": COUNT,
});
const INFO = z.object({
  status: STATUS.default("none"),
  ram: RAM.prefault({}),
  "total-time": COUNT,
  "expected-downtime": z.number().optional(),
  downtime: z.number().optional(),
  "cpu-throttle-percentage": COUNT,
  "error-desc": z.string().optional(),
  "blocked-reasons": z.array(z.string()).default([]),
});

/** A post-copy that cannot be undone is on its way. */
export const POSTCOPY: readonly HotStatus[] = [
  "postcopy-active",
  "postcopy-paused",
  "postcopy-recover",
];
/** Nothing more happens by itself. */
export const ENDED: readonly HotStatus[] = ["completed", "failed", "cancelled"];

export type MigrationInfo = HotStatistics & {
  /** Why QEMU would refuse to migrate this machine. */
  readonly blockedBy: readonly string[];
};

/**
 * The answer of `query-migrate`. QEMU 7.2 says a downtime of 0 for some time after the end; that is
 * given as no downtime.
 *
 * @throws `hypervisor.qmp-broken`
 */
export function migrationInfoOf(answer: unknown): MigrationInfo {
  const decoded = INFO.safeParse(answer);
  if (!decoded.success) throw broken("query-migrate is not understood", decoded.error);
  const { data } = decoded;
  const { ram, downtime, "expected-downtime": expected, "error-desc": reason } = data;
  return {
    status: data.status,
    transferredBytes: ram.transferred,
    remainingBytes: ram.remaining,
    totalBytes: ram.total,
    dirtyRate_Bps: ram["dirty-pages-rate"] * ram["page-size"],
    rate_bps: ram.mbps * 1e6,
    passes: ram["dirty-sync-count"],
    postcopyRequests: ram["postcopy-requests"],
    total_ms: data["total-time"],
    slowedPercent: data["cpu-throttle-percentage"],
    blockedBy: data["blocked-reasons"],
    ...(expected === undefined ? {} : { expectedDowntime_ms: expected }),
    ...(downtime === undefined || downtime === 0 ? {} : { downtime_ms: downtime }),
    ...(reason === undefined ? {} : { reason }),
  };
}

const STATUS_EVENT = z.object({ status: STATUS });
const PASS_EVENT = z.object({ pass: z.int().min(0) });
const DISK_EVENT = z.object({ action: z.string(), reason: z.string().default("") });

/**
 * What an event of QEMU tells of a hot migration; undefined for all others.
 *
 * @throws `hypervisor.qmp-broken`
 */
export function hotEventOf({ event, data, at_ms = 0 }: QmpEvent): HotEvent | undefined {
  switch (event) {
    case "MIGRATION":
      return { kind: "status", at_ms, ...read(STATUS_EVENT, event, data) };
    case "MIGRATION_PASS":
      return { kind: "pass", at_ms, ...read(PASS_EVENT, event, data) };
    case "BLOCK_IO_ERROR":
      return { kind: "disk-error", at_ms, ...read(DISK_EVENT, event, data) };
    case "STOP":
      return { kind: "stopped", at_ms };
    case "RESUME":
      return { kind: "resumed", at_ms };
    default:
      return undefined;
  }
}

function read<T>(schema: z.ZodType<T>, event: string, data: unknown): T {
  const decoded = schema.safeParse(data);
  if (decoded.success) return decoded.data;
  throw broken(`the event ${event} is not understood`, decoded.error);
}

export function broken(reason: string, cause: unknown): TesseraError {
  return new TesseraError("peer", "hypervisor.qmp-broken", `QMP: ${reason}`, { cause });
}
