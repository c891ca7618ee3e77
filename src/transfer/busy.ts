import { performance } from "node:perf_hooks";

/** Over at least so long. */
const WINDOW_ms = 40;

/** Tells the share of the time, 0 to 1, in which this thread's event loop had work, lately. */
export function busyShare(): () => number {
  let since = performance.eventLoopUtilization();
  let share = 0;
  return () => {
    const { active, idle, utilization } = performance.eventLoopUtilization(since);
    if (active + idle < WINDOW_ms) return share;
    since = performance.eventLoopUtilization();
    share = utilization;
    return share;
  };
}
