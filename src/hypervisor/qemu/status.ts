import { z } from "zod";
import { TesseraError } from "#core";
import type { RunState } from "../contract.ts";

const STATUS = z.object({ status: z.string() });

const STATES: Readonly<Record<string, RunState>> = {
  running: "running",
  prelaunch: "starting",
  inmigrate: "starting",
  shutdown: "shut-down",
};

/**
 * The answer of `query-status`. Every other state of QEMU (`RunState` in qapi/run-state.json) has
 * the processors stopped.
 */
export function runStateOf(answer: unknown): RunState {
  const decoded = STATUS.safeParse(answer);
  if (decoded.success) return STATES[decoded.data.status] ?? "paused";
  throw new TesseraError("peer", "hypervisor.qmp-broken", "QMP: query-status has no status", {
    cause: decoded.error,
  });
}
