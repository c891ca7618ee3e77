/** Which bytes of a disk are local: by block, and by byte in blocks that were partly superseded. */
import { alignRanges, endOf, mergeRanges, totalLength, type ByteRange } from "#core";
import { BLOCK_BYTES } from "#block";

export const LOCAL = 0;
/** The current content is only at the source. */
export const STALE = 1;
/** Zeroes at the source. */
export const STALE_ZERO = 2;
export type BlockState = typeof LOCAL | typeof STALE | typeof STALE_ZERO;

/** What `range` has in common with `other`; its length may be 0 or negative. */
export function overlapOf(range: ByteRange, other: ByteRange): ByteRange {
  const offset = Math.max(range.offset, other.offset);
  return { offset, length: Math.min(endOf(range), endOf(other)) - offset };
}

/** The parts of `whole` that none of the sorted, merged `holes` covers. */
function without(whole: ByteRange, holes: readonly ByteRange[]): ByteRange[] {
  const rest: ByteRange[] = [];
  let offset = whole.offset;
  for (const hole of holes) {
    if (hole.offset > offset) rest.push({ offset, length: hole.offset - offset });
    offset = Math.max(offset, endOf(hole));
  }
  if (offset < endOf(whole)) rest.push({ offset, length: endOf(whole) - offset });
  return rest;
}

/** Bytes only ever become local. Pure. */
export class BlockMap {
  readonly sizeBytes: number;
  readonly blocks: number;
  readonly #states: Uint8Array;
  /** By stale block, its local bytes: sorted and merged. */
  readonly #partial = new Map<number, ByteRange[]>();
  #remoteBytes = 0;
  #zeroBytes = 0;

  /** @param states one for each block: shared, not copied */
  constructor(sizeBytes: number, states: Uint8Array) {
    this.sizeBytes = sizeBytes;
    this.blocks = Math.ceil(sizeBytes / BLOCK_BYTES);
    this.#states = states;
    for (let block = 0; block < this.blocks; block += 1) {
      this.#count(block, this.rangeOf(block).length);
    }
  }

  /** @param zeroes only blocks that lie in them as a whole count */
  static of(
    sizeBytes: number,
    stale: readonly ByteRange[],
    zeroes: readonly ByteRange[] = [],
  ): BlockMap {
    const states = new Uint8Array(Math.ceil(sizeBytes / BLOCK_BYTES));
    for (const range of alignRanges(stale, BLOCK_BYTES, sizeBytes)) {
      states.fill(STALE, range.offset / BLOCK_BYTES, Math.ceil(endOf(range) / BLOCK_BYTES));
    }
    for (const range of mergeRanges(zeroes)) {
      const last =
        endOf(range) >= sizeBytes ? states.length : Math.floor(endOf(range) / BLOCK_BYTES);
      for (let block = Math.ceil(range.offset / BLOCK_BYTES); block < last; block += 1) {
        if (states[block] === STALE) states[block] = STALE_ZERO;
      }
    }
    return new BlockMap(sizeBytes, states);
  }

  /** Bytes that only the source has. */
  get remoteBytes(): number {
    return this.#remoteBytes;
  }

  /** Bytes that are zeroes at the source and not yet here. */
  get zeroBytes(): number {
    return this.#zeroBytes;
  }

  get isLocal(): boolean {
    return this.#remoteBytes + this.#zeroBytes === 0;
  }

  stateOf(block: number): BlockState {
    return (this.#states[block] ?? LOCAL) as BlockState;
  }

  rangeOf(block: number): ByteRange {
    const offset = block * BLOCK_BYTES;
    return { offset, length: Math.min(BLOCK_BYTES, this.sizeBytes - offset) };
  }

  /** Bytes of a range that are not local, in order; optionally only those of blocks in one state. */
  missing(range: ByteRange, state?: BlockState): ByteRange[] {
    const parts: ByteRange[] = [];
    for (const block of blocksOf(range)) {
      const own = this.stateOf(block);
      if (own === LOCAL || (state !== undefined && own !== state)) continue;
      const inside = overlapOf(range, this.rangeOf(block));
      parts.push(
        ...without(this.rangeOf(block), this.#partial.get(block) ?? []).flatMap((part) => {
          const common = overlapOf(part, inside);
          return common.length > 0 ? [common] : [];
        }),
      );
    }
    return mergeRanges(parts);
  }

  /** The range is local now. Returns how many of its bytes were not before. */
  markLocal(range: ByteRange): number {
    let changed = 0;
    for (const block of blocksOf(range)) {
      if (this.stateOf(block) === LOCAL) continue;
      changed += this.#markIn(block, overlapOf(range, this.rangeOf(block)));
    }
    return changed;
  }

  #markIn(block: number, part: ByteRange): number {
    const before = this.#partial.get(block) ?? [];
    const after = mergeRanges([...before, part]);
    const changed = totalLength(after) - totalLength(before);
    this.#count(block, -changed);
    if (totalLength(after) < this.rangeOf(block).length) this.#partial.set(block, after);
    else {
      this.#partial.delete(block);
      this.#states[block] = LOCAL;
    }
    return changed;
  }

  #count(block: number, bytes: number): void {
    const state = this.stateOf(block);
    if (state === STALE) this.#remoteBytes += bytes;
    else if (state === STALE_ZERO) this.#zeroBytes += bytes;
  }

  /** The states themselves, one for each block: not to be changed. */
  get states(): Uint8Array {
    return this.#states;
  }

  /** Local bytes in stale blocks. */
  partials(): ByteRange[] {
    return [...this.#partial.values()].flat();
  }
}

/** The indices of the blocks that a range touches. */
export function* blocksOf({ offset, length }: ByteRange): Generator<number> {
  const end = length === 0 ? 0 : Math.ceil((offset + length) / BLOCK_BYTES);
  for (let block = Math.floor(offset / BLOCK_BYTES); block < end; block += 1) yield block;
}
