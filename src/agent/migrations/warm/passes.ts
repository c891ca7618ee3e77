/** When a replica of a user data block that is written to is good enough. Pure. */

/** So little travels in no time. */
const LITTLE_BYTES = 2 ** 20;
/** A pass that finds more than this share of what the one before has found was in vain. */
const VAIN_SHARE = 0.75;
const PASSES_MAX = 10;

/**
 * Whether another pass pays. It always ends: what a pass finds changed has to shrink by a quarter.
 *
 * @param changedBytes what each pass has found, the first one first, which finds all that is not here
 */
export function anotherPass(changedBytes: readonly number[]): boolean {
  const [former, last] = [changedBytes.at(-2) ?? Number.POSITIVE_INFINITY, changedBytes.at(-1)];
  if (last === undefined) return true;
  if (last <= LITTLE_BYTES || changedBytes.length >= PASSES_MAX) return false;
  return last <= VAIN_SHARE * former;
}
