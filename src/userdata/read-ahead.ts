/** Which blocks a sequential reader will want soon. Pure. */

/** Blocks of a run, by index. */
export interface BlockRun {
  readonly first: number;
  readonly count: number;
}

interface Reader {
  /** The last block that was read. */
  last: number;
  /** The block after those asked for ahead. */
  aheadEnd: number;
  /** Blocks to be ahead; 0 until a second read follows the first. */
  window: number;
}

const READERS_MAX = 16;
const WINDOW_FIRST = 2;
const WINDOW_MAX = 16;

/**
 * Follows up to sixteen readers. One that goes on where it was gets twice as many blocks ahead as
 * before, up to 1 MiB; they are asked for when it has used half of them. Others cost nothing.
 */
export class ReadAhead {
  /** The one that was used last is the last. */
  readonly #readers: Reader[] = [];

  /** The guest reads these blocks. Returns what should be there soon; undefined for nothing. */
  onRead({ first, count }: BlockRun): BlockRun | undefined {
    const last = first + count - 1;
    const at = this.#readers.findIndex(
      (reader) => first === reader.last || first === reader.last + 1,
    );
    const [reader] = at < 0 ? [] : this.#readers.splice(at, 1);
    if (reader === undefined) {
      this.#readers.push({ last, aheadEnd: last + 1, window: 0 });
      if (this.#readers.length > READERS_MAX) this.#readers.shift();
      return undefined;
    }
    this.#readers.push(reader);
    if (last <= reader.last) return undefined;
    reader.last = last;
    reader.aheadEnd = Math.max(reader.aheadEnd, last + 1);
    if (reader.aheadEnd - last - 1 > reader.window / 2) return undefined;
    reader.window = Math.min(WINDOW_MAX, Math.max(WINDOW_FIRST, 2 * reader.window));
    const run = { first: reader.aheadEnd, count: last + 1 + reader.window - reader.aheadEnd };
    reader.aheadEnd = last + 1 + reader.window;
    return run.count > 0 ? run : undefined;
  }
}
