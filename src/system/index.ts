import type { Log, World } from "#core";
import { realClock } from "./clock.ts";
import { realFiles } from "./files.ts";
import { silentLog } from "./log.ts";
import { realProcesses } from "./processes.ts";
import { realRandom } from "./random.ts";

export { readTextSync } from "./files.ts";
export { growingBuffers } from "./heap.ts";
export { lineLog, silentLog } from "./log.ts";

/** The real adapters behind core's contracts, put together. The log is silent unless given. */
export function realWorld(log: Log = silentLog()): World {
  return {
    clock: realClock(),
    random: realRandom(),
    log,
    files: realFiles(),
    processes: realProcesses(),
  };
}
