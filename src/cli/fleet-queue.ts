/** Which of several machines may go now. Pure. */

export interface Move {
  /** UUID. */
  readonly machine: string;
  /** What it brings: `CLOUD COMPONENT` for each component that the destination lacks. */
  readonly brings: ReadonlySet<string>;
}

/**
 * The next move that may begin, or undefined: at most `parallel` are under way, and none begins while
 * another one is bringing what it needs as well, so that nothing travels twice.
 *
 * @param bringing those under way whose components are not there yet
 */
export function nextMove<M extends Move>(
  waiting: readonly M[],
  bringing: readonly Move[],
  { active, parallel }: { readonly active: number; readonly parallel: number },
): M | undefined {
  if (active >= parallel) return undefined;
  return waiting.find((move) => bringing.every(({ brings }) => brings.isDisjointFrom(move.brings)));
}
