/** What the memory of a running machine will take: the strategy, played with a modelled guest. Pure. */
import type { MemoryForecast } from "#core";
import {
  BESIDES_MS,
  firstAim_ms,
  memoryStep,
  WATCH,
  type MemoryStatistics,
  type MemoryStep,
  type MemoryTerms,
  type MemoryWatch,
} from "./memory-strategy.ts";

export interface MemoryGuest {
  readonly memoryBytes: number;
  /** Bytes a second that it makes dirty, at random places of `hotBytes`. */
  readonly dirtyRate_Bps: number;
  /** What it writes to again and again; all of its memory when absent. */
  readonly hotBytes?: number;
  /** How much of a slow-down shows in the dirty rate: 0 to 1. Default 1. */
  readonly slowable?: number;
}

export interface MemoryLink {
  /** Bytes a second on the wire. */
  readonly wire_Bps: number;
  /** Wire bytes over bytes of memory, references and compression counted in: 0 to 1. */
  readonly wireRatio: number;
  /** The same for what is sent again; as `wireRatio` when absent. */
  readonly againRatio?: number;
  /** What the hypervisor and the coder take in at most, in bytes of memory a second. */
  readonly coder_Bps: number;
}

/** A pass is looked at a hundred times, within these limits. */
const LOOK_MS = 1_000;
const LOOK_MAX_MS = 50_000;

interface Play {
  readonly watch: MemoryWatch;
  readonly facts: MemoryStatistics;
  readonly next: MemoryStep;
  readonly allowed_ms: number;
  /** A pass begins: what remains is all that is dirty. */
  readonly atStart: boolean;
}

export function forecastMemory(
  guest: MemoryGuest,
  link: MemoryLink,
  terms: MemoryTerms,
): MemoryForecast {
  let play = begin(guest, terms);
  for (;;) {
    const { next, facts } = play;
    const rate_Bps = rateOf(link, facts);
    const ended = next.step === "postcopy" || next.step === "give-up";
    const fits = play.atStart && pauseOf(facts, rate_Bps) <= play.allowed_ms;
    if (ended || fits) {
      return forecastOf(play, { rate_Bps, link, terms });
    }
    play = onward(play, { guest, rate_Bps, terms });
  }
}

function ratioOf({ wireRatio, againRatio = wireRatio }: MemoryLink, passes: number): number {
  return passes > 1 ? againRatio : wireRatio;
}

/** Bytes of memory a second. */
function rateOf(link: MemoryLink, { passes }: MemoryStatistics): number {
  return Math.min(link.coder_Bps, link.wire_Bps / Math.max(ratioOf(link, passes), 1e-6));
}

function begin(guest: MemoryGuest, terms: MemoryTerms): Play {
  const facts: MemoryStatistics = {
    transferredBytes: 0,
    remainingBytes: guest.memoryBytes,
    totalBytes: guest.memoryBytes,
    dirtyRate_Bps: 0,
    passes: 1,
    total_ms: 0,
  };
  const allowed_ms = firstAim_ms(terms);
  return { facts, ...memoryStep(WATCH, facts, terms), allowed_ms, atStart: true };
}

interface Conditions {
  readonly guest: MemoryGuest;
  readonly rate_Bps: number;
  readonly terms: MemoryTerms;
}

/** To the end of the pass, or to the next look where it takes longer than that. */
function onward(play: Play, { guest, rate_Bps, terms }: Conditions): Play {
  const left_ms = pauseOf(play.facts, rate_Bps);
  const look_ms = Math.min(LOOK_MAX_MS, Math.max(LOOK_MS, left_ms / 100));
  const atStart = left_ms <= look_ms;
  const facts = atStart
    ? passEnded(play, left_ms, { guest, rate_Bps, terms })
    : looked(play.facts, look_ms, rate_Bps);
  const { watch, next } = memoryStep(play.watch, facts, terms);
  const allowed_ms = next.step === "switch" ? next.allow_ms : play.allowed_ms;
  return { facts, watch, next, allowed_ms, atStart };
}

function looked(facts: MemoryStatistics, ms: number, rate_Bps: number): MemoryStatistics {
  const bytes = (rate_Bps * ms) / 1000;
  return {
    ...facts,
    transferredBytes: facts.transferredBytes + bytes,
    remainingBytes: facts.remainingBytes - bytes,
    total_ms: facts.total_ms + ms,
  };
}

/** What the guest has written meanwhile is the next pass. */
function passEnded(
  { facts, watch }: Play,
  ms: number,
  { guest, rate_Bps }: Conditions,
): MemoryStatistics {
  const total_ms = facts.total_ms + ms;
  const took_ms = Math.max(1, (watch.passBytes * 1000) / rate_Bps);
  const dirtyBytes = dirtiedBytes(guest, took_ms, watch.slowedPercent);
  return {
    ...facts,
    transferredBytes: facts.transferredBytes + facts.remainingBytes,
    remainingBytes: Math.round(dirtyBytes),
    dirtyRate_Bps: (dirtyBytes * 1000) / took_ms,
    passes: facts.passes + 1,
    total_ms,
  };
}

/** What a guest makes dirty in a time; what it writes twice counts once. */
export function dirtiedBytes(guest: MemoryGuest, ms: number, slowedPercent: number): number {
  const slowed = (slowedPercent / 100) * (guest.slowable ?? 1);
  const written = (guest.dirtyRate_Bps * (1 - slowed) * ms) / 1000;
  const hotBytes = Math.min(guest.memoryBytes, guest.hotBytes ?? guest.memoryBytes);
  return hotBytes === 0 ? 0 : hotBytes * (1 - Math.exp(-written / hotBytes));
}

function pauseOf({ remainingBytes }: MemoryStatistics, rate_Bps: number): number {
  if (remainingBytes === 0) return 0;
  return rate_Bps > 0 ? (remainingBytes * 1000) / rate_Bps : Number.POSITIVE_INFINITY;
}

function forecastOf(
  { facts, next, watch }: Play,
  at: { readonly rate_Bps: number; readonly link: MemoryLink; readonly terms: MemoryTerms },
): MemoryForecast {
  const { besides_ms = BESIDES_MS } = at.terms;
  const left_ms = next.step === "give-up" ? 0 : pauseOf(facts, at.rate_Bps);
  const leftBytes = next.step === "give-up" ? 0 : facts.remainingBytes;
  const memoryBytes = facts.transferredBytes + leftBytes;
  const follows = next.step === "postcopy";
  return {
    method: methodOf(next, watch),
    passes: facts.passes,
    memoryBytes: Math.round(memoryBytes),
    wireBytes: Math.round(wireBytesOf(at.link, facts, memoryBytes)),
    total_ms: Math.round(facts.total_ms + left_ms + besides_ms),
    pause_ms: Math.round((follows ? 0 : left_ms) + besides_ms),
    follows_ms: Math.round(follows ? left_ms : 0),
    slowedPercent: watch.slowedPercent,
    ...(next.step === "give-up" ? { givenUp: next.reason } : {}),
  };
}

/** The first pass moves all there is, as far as it got. */
function wireBytesOf(link: MemoryLink, { totalBytes }: MemoryStatistics, bytes: number): number {
  const first = Math.min(totalBytes, bytes);
  return first * ratioOf(link, 1) + (bytes - first) * ratioOf(link, 2);
}

function methodOf(next: MemoryStep, watch: MemoryWatch): MemoryForecast["method"] {
  if (next.step === "postcopy") return "postcopy";
  if (next.step === "give-up") return "none";
  return watch.slowedPercent > 0 ? "slowed" : "precopy";
}
