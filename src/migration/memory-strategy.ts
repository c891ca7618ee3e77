/** While the memory of a running machine flows: when to switch, and how, or to give up. Pure. */

/** What the hypervisor tells; `HotStatistics` of room hypervisor is one. */
export interface MemoryStatistics {
  /** As the hypervisor counts what leaves it, so that coder and link are in the rate. */
  readonly transferredBytes: number;
  /** Of the pass under way. */
  readonly remainingBytes: number;
  readonly totalBytes: number;
  /** Bytes a second that the guest made dirty in the last pass. */
  readonly dirtyRate_Bps: number;
  /** Passes begun; the first one moves everything. */
  readonly passes: number;
  /** Since memory began to flow. */
  readonly total_ms: number;
}

export interface MemoryTerms {
  /** `auto`: post-copy where nothing else ends it well. `postcopy`: after the first pass. */
  readonly memory: "auto" | "precopy" | "postcopy";
  /** Both sides can. */
  readonly canPostcopy: boolean;
  /** The service level allows it. */
  readonly maySlowDown: boolean;
  /** The service level's bound of the whole pause; absent means none. */
  readonly downtimeMax_ms?: number;
  /** What the pause has besides the last memory: status, disks, hand-over. Default 250. */
  readonly besides_ms?: number;
}

/**
 * - `go-on`: look again later;
 * - `switch`: let the hypervisor aim at a pause of `allow_ms`, so that the present pass is the last;
 * - `slow-down`: the guest gets `percent` less of its processors;
 * - `postcopy`: switch now, memory follows; it cannot be undone;
 * - `give-up`: cancel; the machine goes on at the source.
 *
 * After `postcopy` and `give-up` nothing more is decided.
 */
export type MemoryStep =
  | { readonly step: "go-on"; readonly reason: GoOnReason }
  | { readonly step: "switch"; readonly allow_ms: number; readonly reason: SwitchReason }
  | { readonly step: "slow-down"; readonly percent: number; readonly reason: "outrun" }
  | { readonly step: "postcopy"; readonly reason: PostcopyReason }
  | { readonly step: "give-up"; readonly reason: GiveUpReason };

/**
 * - `pass-under-way`: what it leaves is known when it ends;
 * - `little-left`: the hypervisor switches by itself;
 * - `worth-it`: another pass brings the rest down;
 * - `takes-effect`: the guest has just been slowed down;
 * - `try-again`: the guest outruns the link, which may pass.
 */
export type GoOnReason =
  | "pass-under-way"
  | "little-left"
  | "worth-it"
  | "takes-effect"
  | "try-again";
/** `within-bound`: so long a pause is accepted; `no-bound`: the service level has none. */
export type SwitchReason = "within-bound" | "no-bound";
export type PostcopyReason = "asked-for" | "outrun" | "overdue";
/**
 * - `outrun`: the guest dirties memory faster than the link carries it, the pause would be longer than
 *   the service level allows, and post-copy is not possible or not allowed;
 * - `link-idle`: the link carries next to nothing;
 * - `overdue`: it has taken many times what one pass takes, and no other end is possible.
 */
export type GiveUpReason = "outrun" | "link-idle" | "overdue";

/** What is remembered from one look to the next. Begin with {@link WATCH}. */
export interface MemoryWatch {
  readonly pass: number;
  /** What this pass and the one before began with. */
  readonly passBytes: number;
  readonly formerBytes: number;
  readonly firstPass_ms: number | undefined;
  /** Bytes of memory a second that coder and link take. */
  readonly rate_Bps: number;
  /** Where the measure of the rate begins. */
  readonly mark: { readonly at_ms: number; readonly bytes: number };
  /** When the first pass last had moved on; the most that had been sent, the least that was left. */
  readonly moved: {
    readonly at_ms: number;
    readonly transferredBytes: number;
    readonly remainingBytes: number;
  };
  /** Passes that were not worth it. */
  readonly vain: number;
  readonly allowed_ms: number;
  readonly slowedPercent: number;
  /** The pass from which on slowing down shows. */
  readonly patientUntil: number;
}

/** The pause of memory alone that is aimed at first. */
export const AIM_MS = 300;
/** What the pause has besides the last memory, where nothing else is known. */
export const BESIDES_MS = 250;
/** A pause that post-copy would hardly shorten (doc/migration.md). */
const TOLERATED_MS = 1_500;
/** The most that QEMU takes. */
const PAUSE_MAX_MS = 2_000_000;
/** Above this share of the link's rate a pass leaves nearly as much as it takes away. */
export const OUTRUN_SHARE = 0.5;
/** A pass that leaves more than this share of what it found was in vain. */
const VAIN_SHARE = 0.75;
const VAIN_MAX = 3;
const PASSES_MAX = 30;
const SLOW_STEP_PERCENT = 10;
const SLOW_MIN_PERCENT = 20;
/** Beyond this a guest stalls for seconds, which is worse than a pause. */
const SLOW_MAX_PERCENT = 80;
/** A slowed guest dirties this share of what the link carries. */
const SLOWED_SHARE = 0.4;
/** The hypervisor slows down at the pass after the next. */
const SLOW_DELAY_PASSES = 2;
/** Long: processors that others use look like an idle link, and a dead one is noticed elsewhere. */
const IDLE_MS = 300_000;
/** The first pass has to move this share of memory each {@link IDLE_MS}. */
const IDLE_SHARE = 1 / 2_000;
const OVERDUE_MS = 60_000;
const OVERDUE_PASSES = 8;
/**
 * The rate is that of a whole pass: its end alone may be nothing but zeroes, which count as next to
 * nothing. Short passes are taken together, long ones divided.
 */
const RATE_PASS_MS = 3_000;
const RATE_MOST_MS = 10_000;

export const WATCH: MemoryWatch = {
  pass: 0,
  passBytes: 0,
  formerBytes: 0,
  firstPass_ms: undefined,
  rate_Bps: 0,
  mark: { at_ms: 0, bytes: 0 },
  moved: { at_ms: 0, transferredBytes: 0, remainingBytes: Number.POSITIVE_INFINITY },
  vain: 0,
  allowed_ms: AIM_MS,
  slowedPercent: 0,
  patientUntil: 0,
};

/** The pause of memory alone to begin with, within the service level's bound. */
export function firstAim_ms(terms: MemoryTerms): number {
  return Math.min(AIM_MS, boundOf(terms) ?? AIM_MS);
}

/**
 * What to do now. It always ends: passes are counted, what is not worth another pass is counted too,
 * the first pass has to move on, and all together may take some times of what it took.
 */
export function memoryStep(
  former: MemoryWatch,
  facts: MemoryStatistics,
  terms: MemoryTerms,
): { readonly watch: MemoryWatch; readonly next: MemoryStep } {
  const seen = noted(former, facts);
  const ended = seen.pass > former.pass && former.pass > 0;
  const outrun = ended && !isWorthIt(seen, facts);
  const watch = outrun ? { ...seen, vain: seen.vain + 1 } : seen;
  const next = decide(watch, facts, { terms, ended, outrun });
  return { watch: { ...watch, ...changeBy(next, watch) }, next };
}

function changeBy(next: MemoryStep, { pass }: MemoryWatch): Partial<MemoryWatch> {
  if (next.step === "switch") return { allowed_ms: next.allow_ms };
  if (next.step !== "slow-down") return {};
  return { slowedPercent: next.percent, patientUntil: pass + SLOW_DELAY_PASSES };
}

function noted(watch: MemoryWatch, facts: MemoryStatistics): MemoryWatch {
  const { remainingBytes, total_ms, passes } = facts;
  const began = passes > watch.pass;
  return {
    ...watch,
    ...measured(watch, facts, began && watch.pass > 0),
    pass: Math.max(passes, watch.pass),
    passBytes: began ? remainingBytes : Math.max(remainingBytes, watch.passBytes),
    formerBytes: began ? watch.passBytes : watch.formerBytes,
    firstPass_ms: watch.firstPass_ms ?? (passes > 1 ? total_ms : undefined),
    moved: movedOn(watch, facts),
  };
}

function measured(
  { mark, rate_Bps }: MemoryWatch,
  { total_ms, transferredBytes }: MemoryStatistics,
  ended: boolean,
): Pick<MemoryWatch, "mark" | "rate_Bps"> {
  const since_ms = total_ms - mark.at_ms;
  const atEnd_ms = rate_Bps === 0 ? 1 : RATE_PASS_MS;
  if (since_ms < (ended ? atEnd_ms : RATE_MOST_MS)) return { mark, rate_Bps };
  const rate = ((transferredBytes - mark.bytes) * 1000) / since_ms;
  return { mark: { at_ms: total_ms, bytes: transferredBytes }, rate_Bps: rate };
}

/**
 * By either measure. Both go one way only, so that it ends. A hypervisor that has not begun says that
 * nothing is left, which would be less than anything later.
 */
function movedOn({ moved, pass }: MemoryWatch, facts: MemoryStatistics): MemoryWatch["moved"] {
  if (pass > 1 || facts.totalBytes === 0) return moved;
  const least = facts.totalBytes * IDLE_SHARE;
  const sent = facts.transferredBytes >= moved.transferredBytes + least;
  if (!sent && facts.remainingBytes > moved.remainingBytes - least) return moved;
  return {
    at_ms: facts.total_ms,
    transferredBytes: Math.max(moved.transferredBytes, facts.transferredBytes),
    remainingBytes: Math.min(moved.remainingBytes, facts.remainingBytes),
  };
}

/** Written so that a rate that is not known, NaN, does not lead to another pass. */
function isWorthIt(watch: MemoryWatch, { dirtyRate_Bps }: MemoryStatistics): boolean {
  const keepsUp = dirtyRate_Bps < OUTRUN_SHARE * watch.rate_Bps;
  return keepsUp && watch.passBytes <= VAIN_SHARE * watch.formerBytes;
}

interface Situation {
  readonly terms: MemoryTerms;
  /** A pass has just ended. */
  readonly ended: boolean;
  /** ... and another one is not worth it. */
  readonly outrun: boolean;
}

function decide(watch: MemoryWatch, facts: MemoryStatistics, at: Situation): MemoryStep {
  const pause_ms = pauseOf(watch, facts);
  const late = lateness(watch, facts);
  if (late === "idle") return { step: "give-up", reason: "link-idle" };
  if (late === "over") return { step: "give-up", reason: "overdue" };
  if (late === "overdue") return lastResort(pause_ms, at.terms, "overdue");
  if (!at.ended) return { step: "go-on", reason: "pass-under-way" };
  if (pause_ms <= watch.allowed_ms) return { step: "go-on", reason: "little-left" };
  const asked = at.terms.memory === "postcopy" && at.terms.canPostcopy;
  if (asked) return { step: "postcopy", reason: "asked-for" };
  if (!at.outrun) return { step: "go-on", reason: "worth-it" };
  return whenOutrun(watch, facts, at.terms);
}

function whenOutrun(watch: MemoryWatch, facts: MemoryStatistics, terms: MemoryTerms): MemoryStep {
  const pause_ms = pauseOf(watch, facts);
  if (isAccepted(pause_ms, terms)) return switchAt(pause_ms, terms, "within-bound");
  if (watch.pass < watch.patientUntil) return { step: "go-on", reason: "takes-effect" };
  const percent = terms.maySlowDown ? slowerBy(watch, facts) : undefined;
  if (percent !== undefined) return { step: "slow-down", percent, reason: "outrun" };
  if (watch.vain < VAIN_MAX && !mayPostcopy(terms)) return { step: "go-on", reason: "try-again" };
  return lastResort(pause_ms, terms, "outrun");
}

/** Some end, whatever comes; nothing that makes it last. */
function lastResort(
  pause_ms: number,
  terms: MemoryTerms,
  reason: "outrun" | "overdue",
): MemoryStep {
  if (isAccepted(pause_ms, terms)) return switchAt(pause_ms, terms, "within-bound");
  if (pause_ms === Number.POSITIVE_INFINITY) return { step: "give-up", reason: "link-idle" };
  if (mayPostcopy(terms)) return { step: "postcopy", reason };
  const unbound = terms.downtimeMax_ms === undefined && pause_ms <= PAUSE_MAX_MS;
  return unbound ? switchAt(pause_ms, terms, "no-bound") : { step: "give-up", reason };
}

function mayPostcopy(terms: MemoryTerms): boolean {
  return terms.canPostcopy && terms.memory !== "precopy";
}

/** What is left now would take so long; infinite where the link carries nothing. */
function pauseOf({ rate_Bps }: MemoryWatch, { remainingBytes }: MemoryStatistics): number {
  if (remainingBytes === 0) return 0;
  return rate_Bps > 0 ? (remainingBytes * 1000) / rate_Bps : Number.POSITIVE_INFINITY;
}

/** Of memory alone; undefined where the service level has no bound. */
function boundOf({ downtimeMax_ms, besides_ms = BESIDES_MS }: MemoryTerms): number | undefined {
  return downtimeMax_ms === undefined ? undefined : Math.max(1, downtimeMax_ms - besides_ms);
}

function isAccepted(pause_ms: number, terms: MemoryTerms): boolean {
  return pause_ms <= (boundOf(terms) ?? TOLERATED_MS);
}

/** Half as much again as is expected, so that a little more does not cost a pass. */
function switchAt(pause_ms: number, terms: MemoryTerms, reason: SwitchReason): MemoryStep {
  const generous_ms = Math.max(AIM_MS, pause_ms * 1.5);
  const allow_ms = Math.ceil(Math.min(generous_ms, boundOf(terms) ?? PAUSE_MAX_MS));
  return { step: "switch", allow_ms, reason };
}

/** The percentage at which the link would win, or undefined when that is too much. */
function slowerBy(watch: MemoryWatch, { dirtyRate_Bps }: MemoryStatistics): number | undefined {
  const unslowed_Bps = dirtyRate_Bps / (1 - watch.slowedPercent / 100);
  const needed = 100 * (1 - (SLOWED_SHARE * watch.rate_Bps) / unslowed_Bps);
  const stepped = SLOW_STEP_PERCENT * Math.ceil(needed / SLOW_STEP_PERCENT);
  const percent = Math.max(SLOW_MIN_PERCENT, watch.slowedPercent + SLOW_STEP_PERCENT, stepped);
  return percent <= SLOW_MAX_PERCENT ? percent : undefined;
}

/** `over` is the end in any case; before it `overdue` looks for a good one. */
function lateness(
  { firstPass_ms, moved, pass }: MemoryWatch,
  { total_ms }: MemoryStatistics,
): "idle" | "overdue" | "over" | undefined {
  if (firstPass_ms === undefined) return total_ms - moved.at_ms > IDLE_MS ? "idle" : undefined;
  const allowed_ms = OVERDUE_MS + OVERDUE_PASSES * firstPass_ms;
  if (total_ms > 2 * allowed_ms || pass > 2 * PASSES_MAX) return "over";
  return total_ms > allowed_ms || pass > PASSES_MAX ? "overdue" : undefined;
}
