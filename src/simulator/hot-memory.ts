/** Memory of machines that move while they run: the real strategy, asked at the end of each pass. */
import type { MemoryForecast } from "#core";
import {
  dirtiedBytes,
  firstAim_ms,
  forecastMemory,
  memoryStep,
  usualMemoryLink,
  WATCH,
  type MemoryGuest,
  type MemoryStatistics,
  type MemoryTerms,
  type MemoryWatch,
} from "#migration";
import type { Parts } from "./parts.ts";

/** The memory of one migration, as far as it has come. */
export interface MemoryPlay {
  readonly watch: MemoryWatch;
  readonly facts: MemoryStatistics;
  /** The pause that the hypervisor aims at. */
  readonly allowed_ms: number;
  /** `pass`: another one is under way; `pause`: what remains goes within the pause. */
  readonly next: "pass" | "pause" | "postcopy" | "give-up";
}

export function guestOf({ population, scenario }: Parts, machine: number): MemoryGuest {
  const { memoryBytes, dirty } = scenario.machines;
  const { withinBytes } = dirty;
  return {
    memoryBytes,
    dirtyRate_Bps: population.dirty_Bps[machine] as number,
    ...(withinBytes === undefined ? {} : { hotBytes: withinBytes }),
  };
}

/** As the agent has them: post-copy is not chosen by itself. */
export function termsOf({ policy, scenario }: Parts): MemoryTerms {
  const { downtimeMax_s } = scenario.machines;
  const { hot = "auto" } = policy;
  const bound = downtimeMax_s === undefined ? {} : { downtimeMax_ms: downtimeMax_s * 1000 };
  return { memory: hot, canPostcopy: hot === "postcopy", maySlowDown: true, ...bound };
}

/** With the links idle. */
export function forecastOf(
  parts: Parts,
  machine: number,
  from: number,
  to: number,
): MemoryForecast {
  const link = usualMemoryLink(parts.clouds.rate_bps(from, to));
  return forecastMemory(guestOf(parts, machine), link, termsOf(parts));
}

export function beginMemory({ memoryBytes }: MemoryGuest, terms: MemoryTerms): MemoryPlay {
  const facts: MemoryStatistics = {
    transferredBytes: 0,
    remainingBytes: memoryBytes,
    totalBytes: memoryBytes,
    dirtyRate_Bps: 0,
    passes: 1,
    total_ms: 0,
  };
  const { watch } = memoryStep(WATCH, facts, terms);
  return { facts, watch, allowed_ms: firstAim_ms(terms), next: "pass" };
}

/** A pass has ended that took so long on the simulated network. */
export function passEnds(
  { facts, watch, allowed_ms }: MemoryPlay,
  took_ms: number,
  guest: MemoryGuest,
  terms: MemoryTerms,
): MemoryPlay {
  const ms = Math.max(1, took_ms);
  const dirtyBytes = dirtiedBytes(guest, ms, watch.slowedPercent);
  const after: MemoryStatistics = {
    transferredBytes: facts.transferredBytes + facts.remainingBytes,
    remainingBytes: Math.round(dirtyBytes),
    totalBytes: facts.totalBytes,
    dirtyRate_Bps: (dirtyBytes * 1000) / ms,
    passes: facts.passes + 1,
    total_ms: facts.total_ms + ms,
  };
  const decided = memoryStep(watch, after, terms);
  const { step } = decided.next;
  const allowed = decided.next.step === "switch" ? decided.next.allow_ms : allowed_ms;
  const rate_Bps = (facts.remainingBytes * 1000) / ms;
  const fits = after.remainingBytes * 1000 <= allowed * rate_Bps;
  const ended = step === "postcopy" || step === "give-up";
  const next = ended ? step : fits ? "pause" : "pass";
  return { facts: after, watch: decided.watch, allowed_ms: allowed, next };
}
