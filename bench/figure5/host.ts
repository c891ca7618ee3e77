/** How busy the host is while a point is taken. */
import { cpus, loadavg } from "node:os";

/** How a point was taken. */
export interface Taken {
  /** Of the run, from 1: an interruption ends one. */
  readonly session: number;
  /** ISO 8601, when the migration had ended. */
  readonly at: string;
  /** Load average of the host over a minute: as the migration began and ended, the higher one. */
  readonly load: number;
  /** Part of the processors' time during the migration in which they had nothing to do. */
  readonly idle: number;
}

/** Notes how the host is now; the function that it gives is to be called at the end. */
export function watchHost(session: number): () => Taken {
  const [loadBefore = 0] = loadavg();
  const before = processorTime();
  return () => {
    const after = processorTime();
    const [loadAfter = 0] = loadavg();
    const idle = (after.idle - before.idle) / Math.max(1, after.all - before.all);
    const at = new Date().toISOString();
    return { session, at, load: Math.max(loadBefore, loadAfter), idle };
  };
}

/** Since the host began, in milliseconds of all processors. */
function processorTime(): { readonly idle: number; readonly all: number } {
  const all = cpus().map(({ times }) => times);
  const idle = all.reduce((sum, times) => sum + times.idle, 0);
  const busy = all.reduce((sum, { user, nice, sys, irq }) => sum + user + nice + sys + irq, 0);
  return { idle, all: idle + busy };
}
