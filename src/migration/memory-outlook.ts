/** What is said of a machine's memory before it moves while it runs. Pure. */
import { formatBytes, formatDuration, type MemoryForecast } from "#core";
import { forecastMemory, type MemoryLink } from "./memory-forecast.ts";
import { OUTRUN_SHARE, type MemoryTerms } from "./memory-strategy.ts";

/**
 * Wire bytes over RAM: between the 0.06 of a guest with a warm page cache and the 0.4 of one that keeps
 * writing (doc/memory.md, "Figures").
 */
const WIRE_RATIO = 0.1;
/** Wire bytes over bytes that are sent again, of the guests that write there. */
const AGAIN_RATIO = 0.28;
/** What the coder takes in at its usual levels. */
const CODER_BPS = 120e6;
/** More than any link carries. */
const HEAVY_BPS = 1e12;

export interface MemoryOutlook {
  /** For a guest that writes to little of its memory. */
  readonly forecast: MemoryForecast;
  /** What becomes of one that writes to much of it. */
  readonly notes: readonly string[];
}

/** What is expected of memory over a link whose guest is not known. */
export function usualMemoryLink(bitsPerSecond: number): Required<MemoryLink> {
  return {
    wire_Bps: bitsPerSecond / 8,
    wireRatio: WIRE_RATIO,
    againRatio: AGAIN_RATIO,
    coder_Bps: CODER_BPS,
  };
}

export function memoryOutlook(
  memoryBytes: number,
  bitsPerSecond: number,
  terms: MemoryTerms,
): MemoryOutlook {
  const link = usualMemoryLink(bitsPerSecond);
  const forecast = forecastMemory({ memoryBytes, dirtyRate_Bps: 0 }, link, terms);
  if (forecast.method === "none") return { forecast, notes: [givenUp(forecast)] };
  const heavy = forecastMemory({ memoryBytes, dirtyRate_Bps: HEAVY_BPS }, link, terms);
  const bound = formatBytes(calmRate_Bps(link));
  return {
    forecast,
    notes: [`if it writes more than ${bound} a second to its memory, ${endOf(heavy)}`],
  };
}

/** Up to this rate another pass brings the rest down. */
function calmRate_Bps({ wire_Bps, againRatio = 1, coder_Bps }: MemoryLink): number {
  return OUTRUN_SHARE * Math.min(coder_Bps, wire_Bps / againRatio);
}

function endOf({ method, pause_ms }: MemoryForecast): string {
  switch (method) {
    case "postcopy":
      return "memory follows after the switch";
    case "none":
      return "the migration may be given up; it goes on here then";
    case "slowed":
      return `it is slowed down, and the pause may grow to ${formatDuration(pause_ms)}`;
    case "precopy":
      return `the pause may grow to ${formatDuration(pause_ms)}`;
  }
}

function givenUp({ givenUp: reason }: MemoryForecast): string {
  return `its memory would not come across (${reason ?? "overdue"}): the migration would be given up`;
}
