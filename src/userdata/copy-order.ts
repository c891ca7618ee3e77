/** In which order the copier fetches. Pure. */
import type { BlockRun } from "./read-ahead.ts";

/** Demands whose surroundings are fetched first; the latest first. */
const DEMANDS_MAX = 16;
/** Blocks behind and before a demanded one that count as near: 2 MiB and 512 KiB. */
const BEHIND = 32;
const BEFORE = 8;

export type IsWanted = (block: number) => boolean;

/**
 * First what the machine used lately at the source, as told in hints; then what lies in and near
 * blocks of which the guest demanded something; then the rest, ascending. Positions only move on, so
 * the whole costs one look at each block; what was passed over because it was on its way is told anew.
 */
export class CopyOrder {
  readonly #blocks: number;
  readonly #hints: readonly BlockRun[];
  #hint = 0;
  #hintAt = 0;
  #next = 0;
  /** Blocks that were passed over and are wanted again. */
  readonly #again = new Set<number>();
  readonly #demands: number[] = [];

  constructor(blocks: number, hints: readonly BlockRun[] = []) {
    this.#blocks = blocks;
    this.#hints = hints;
  }

  /** The guest demanded a block. */
  demanded(block: number): void {
    const at = this.#demands.indexOf(block);
    if (at >= 0) this.#demands.splice(at, 1);
    this.#demands.push(block);
    if (this.#demands.length > DEMANDS_MAX) this.#demands.shift();
  }

  /**
   * The next blocks, at most `countMax` in a row; undefined when nothing is wanted. What is under way
   * is not wanted for now: {@link again} makes it be looked at anew.
   */
  next(isWanted: IsWanted, countMax: number): BlockRun | undefined {
    const first = this.#nextHint(isWanted) ?? this.#nextNear(isWanted) ?? this.#nextRest(isWanted);
    if (first === undefined) return undefined;
    let count = 1;
    while (count < countMax && first + count < this.#blocks && isWanted(first + count)) count += 1;
    return { first, count };
  }

  /** What was on its way of this block has ended, and may not have been all of it. */
  again(block: number): void {
    this.#again.add(block);
  }

  #nextHint(isWanted: IsWanted): number | undefined {
    for (; this.#hint < this.#hints.length; this.#hint += 1, this.#hintAt = 0) {
      const { first, count } = this.#hints[this.#hint] ?? { first: 0, count: 0 };
      for (; this.#hintAt < count; this.#hintAt += 1) {
        const block = first + this.#hintAt;
        if (block < this.#blocks && isWanted(block)) return block;
      }
    }
    return undefined;
  }

  #nextNear(isWanted: IsWanted): number | undefined {
    for (let at = this.#demands.length - 1; at >= 0; at -= 1) {
      const centre = this.#demands[at] ?? 0;
      for (let block = centre; block <= centre + BEHIND && block < this.#blocks; block += 1) {
        if (isWanted(block)) return block;
      }
      for (let block = centre - 1; block >= centre - BEFORE && block >= 0; block -= 1) {
        if (isWanted(block)) return block;
      }
      this.#demands.splice(at, 1);
    }
    return undefined;
  }

  #nextRest(isWanted: IsWanted): number | undefined {
    for (const block of this.#again) {
      this.#again.delete(block);
      if (isWanted(block)) return block;
    }
    for (; this.#next < this.#blocks; this.#next += 1) {
      if (isWanted(this.#next)) return this.#next;
    }
    return undefined;
  }
}
