/** When a push of the user data block while the machine runs has gone on long enough. Pure. */

/** What is known after a pass of the push. */
export interface PushFacts {
  /** Passes that have ended; the first one moves everything. */
  readonly pass: number;
  /** Bytes that the guest has written since the pass began, in whole blocks. */
  readonly dirtyBytes: number;
  /** What was stale before the pass; the whole content for the first. */
  readonly formerDirtyBytes: number;
  /** Bytes a second that become dirty. */
  readonly dirtyBytesPerSecond: number;
  /** Bytes a second that the link carries of this disk, compression counted in. */
  readonly linkBytesPerSecond: number;
  /** Passes after which the switch comes in any case. Default 1, which is the first one only. */
  readonly passesMax?: number;
  /** What may be pulled after the switch without a further pass, in seconds. Default 1. */
  readonly pullSecondsMax?: number;
}

export type PushStep = { readonly step: "pass" | "switch"; readonly reason: PushReason };

/**
 * - `little-left`: the rest is pulled within the time that is allowed;
 * - `passes-over`: so many passes were allowed;
 * - `outrun`: the guest writes as fast as the link carries, or a pass has not brought it down;
 * - `worth-it`: another pass brings the rest down.
 */
export type PushReason = "little-left" | "passes-over" | "outrun" | "worth-it";

/** Above this share of the link's rate a pass leaves nearly as much as it takes away. */
const OUTRUN_SHARE = 0.5;
/** A pass that leaves more than this share of what it found was in vain. */
const VAIN_SHARE = 0.75;
const PULL_SECONDS = 1;

/**
 * Another pass or the switch. It always ends: another pass needs that what is dirty has shrunk by a
 * quarter since the one before, and what is little is switched.
 */
export function nextStep(facts: PushFacts): PushStep {
  const { pass, dirtyBytes, formerDirtyBytes, dirtyBytesPerSecond, linkBytesPerSecond } = facts;
  const { passesMax = 1, pullSecondsMax = PULL_SECONDS } = facts;
  const littleBytes = Math.max(65_536, linkBytesPerSecond * pullSecondsMax);
  if (dirtyBytes <= littleBytes) return { step: "switch", reason: "little-left" };
  if (pass >= passesMax) return { step: "switch", reason: "passes-over" };
  // Written so that a rate that is not known, NaN, does not lead to another pass.
  const keepsUp = dirtyBytesPerSecond < OUTRUN_SHARE * linkBytesPerSecond;
  const shrinks = dirtyBytes <= VAIN_SHARE * formerDirtyBytes;
  return keepsUp && shrinks
    ? { step: "pass", reason: "worth-it" }
    : { step: "switch", reason: "outrun" };
}
