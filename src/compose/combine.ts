/** Which of the components that would do fit together. Pure. */
import type { Component } from "#core";
import { checkConstraints } from "./constraints.ts";
import type { UnmetConstraint } from "./contract.ts";
import type { Choice } from "./wish.ts";

/** Combinations that are tried, the newest versions first. */
const TRIED_MAX = 64;

export interface Combination {
  /** By the place of the choice; undefined where nothing is held. */
  readonly chosen: readonly (Component | undefined)[];
  /** Of the newest versions, when no combination fits. */
  readonly unmet: readonly UnmetConstraint[];
}

/**
 * The first combination of held components whose constraints are met. Where some must come from
 * elsewhere, their constraints are not known yet: the newest of what is held is taken, and all is
 * checked once they are there.
 */
export function combine(choices: readonly Choice[]): Combination {
  const newest = choices.map(({ held }) => held[0]);
  if (newest.some((component) => component === undefined)) return { chosen: newest, unmet: [] };
  let tried = 0;
  for (const chosen of combinations(choices.map(({ held }) => held))) {
    if (checkConstraints(chosen).length === 0) return { chosen, unmet: [] };
    if ((tried += 1) >= TRIED_MAX) break;
  }
  return { chosen: newest, unmet: checkConstraints(newest.filter((one) => one !== undefined)) };
}

/** Every way to take one of each list; the last list varies first. */
function* combinations<T>(lists: readonly (readonly T[])[]): Generator<T[]> {
  const [first, ...rest] = lists;
  if (first === undefined) {
    yield [];
    return;
  }
  for (const item of first) {
    for (const others of combinations(rest)) yield [item, ...others];
  }
}
