import type { Log, LogLevel } from "#core";

const ORDER: readonly LogLevel[] = ["debug", "info", "warn", "error"];

/** A log of one JSON object a line, at `level` and above, to `write`. */
export function lineLog(
  write: (line: string) => void,
  level: LogLevel = "info",
  now: () => number = Date.now,
): Log {
  const least = ORDER.indexOf(level);
  const make = (fixed: Readonly<Record<string, unknown>>): Log => ({
    log: (at, message, fields) => {
      if (ORDER.indexOf(at) < least) return;
      const time = new Date(now()).toISOString();
      write(`${JSON.stringify({ time, level: at, message, ...fixed, ...fields })}\n`);
    },
    with: (fields) => make({ ...fixed, ...fields }),
  });
  return make({});
}

/** A log that drops everything. */
export function silentLog(): Log {
  return lineLog(() => {}, "error");
}
