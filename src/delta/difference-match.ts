/**
 * Finds what of some bytes lies, approximately, in older ones. The logic is that of bsdiff (Colin
 * Percival, "Naive differences of executable code", 2003): an alignment is kept while it agrees,
 * bytes that differ within it included, and left for an exact match that agrees in more places.
 * In place of a suffix array there is a table of sampled windows, which is much quicker to make.
 */

/** Bytes of a window that must agree before a match is looked at. */
const WINDOW_BYTES = 8;
/** Every so many bytes of the old ones a window is in the table; the quick way finds a little less. */
const STEP_BYTES = 4;
const QUICK_STEP_BYTES = 8;
const TABLE_LOG_MIN = 10;
/** A match must agree in so many places more than the alignment that it replaces. */
const GAIN = 8;
/** While so many of the next bytes agree, differing ones count as changed in place. */
const AHEAD_BYTES = 32;
const AHEAD_DIFFERING_MAX = 12;
/** Log2 of the searches in vain after which one more place is passed over at each. */
const PATIENCE_LOG = 6;
const PASSED_MAX = 32;
/**
 * What is looked at before matches, in all, for each new byte, and at least before each: where bytes
 * repeat themselves every match could lead back to where the region begins.
 */
const BACK_PER_BYTE = 8;
const BACK_BYTES_MIN = 64;
/** Where so many more bytes differ than agree, what is further off is not looked at. */
const HOPELESS = 64;
/** After so many equal bytes the alignment is taken to hold up to here. */
const CERTAIN_BYTES = 16;

/** `length` bytes at `at` of the new bytes stand, approximately, at `from` of the old ones. */
export interface Region {
  readonly at: number;
  readonly length: number;
  readonly from: number;
}

/** Log2 of the entries of the table for so many old bytes. */
export function tableLog(oldBytes: number): number {
  return Math.max(TABLE_LOG_MIN, Math.ceil(Math.log2(oldBytes / STEP_BYTES + 1)));
}

/** What a search works with, by who makes several, one after the other. */
export interface SearchOptions {
  readonly space?: TableSpace;
  /** Takes a fifth less time, and leaves up to 3 percent more. */
  readonly quick?: boolean;
}

/** Memory of a table that is used again: who makes many differences would leave much garbage. */
export class TableSpace {
  #entries = new Int32Array(0);

  /** All entries are 0; the table before is not used any more. */
  table(log: number): Int32Array {
    const entries = 2 ** log;
    if (this.#entries.length < entries) this.#entries = new Int32Array(entries);
    else this.#entries.fill(0, 0, entries);
    return this.#entries.subarray(0, entries);
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** The upper bits depend on all bytes of the window. */
function hashAt(view: DataView, at: number): number {
  const low = Math.imul(view.getInt32(at, true), 0x9e3779b1);
  const hash = Math.imul(low ^ view.getInt32(at + 4, true), 0x85ebca77);
  return hash ^ (hash >>> 15);
}

/**
 * Makes a function that tells where the bytes from `from` on, at most up to `to`, begin to differ
 * from the old ones at a distance of `delta`.
 *
 * @param to at most the length of `fresh`, and that of `old` less `delta`
 */
export function equalEnds(old: Uint8Array, fresh: Uint8Array) {
  const oldView = viewOf(old);
  const freshView = viewOf(fresh);
  return (from: number, to: number, delta: number): number => {
    let at = from;
    const lastWords = to - 8;
    while (
      at <= lastWords &&
      freshView.getInt32(at, true) === oldView.getInt32(at + delta, true) &&
      freshView.getInt32(at + 4, true) === oldView.getInt32(at + 4 + delta, true)
    ) {
      at += 8;
    }
    while (at < to && fresh[at] === old[at + delta]) at += 1;
    return at;
  };
}

/** Looks for matches of one pair; `regions` is called once. */
class Matcher {
  readonly #old: Uint8Array;
  readonly #oldView: DataView;
  readonly #fresh: Uint8Array;
  readonly #freshView: DataView;
  /** Place of a window in the old bytes, plus 1. */
  readonly #table: Int32Array;
  readonly #shift: number;
  readonly #equal: (from: number, to: number, delta: number) => number;
  readonly #regions: Region[] = [];
  /** Where the region begins that is being followed, and what leads from new to old places. */
  #begin = 0;
  #delta = 0;
  /** Up to here the alignment agrees for certain. */
  #certain = 0;
  #backLeftBytes: number;
  /** Searches since the last that led to another alignment. */
  #misses = 0;

  constructor(old: Uint8Array, fresh: Uint8Array, options: SearchOptions) {
    const { space = new TableSpace(), quick = false } = options;
    this.#old = old;
    this.#oldView = viewOf(old);
    this.#fresh = fresh;
    this.#freshView = viewOf(fresh);
    const log = tableLog(old.length);
    this.#table = space.table(log);
    this.#shift = 32 - log;
    this.#equal = equalEnds(old, fresh);
    this.#backLeftBytes = BACK_PER_BYTE * fresh.length;
    this.#index(quick ? QUICK_STEP_BYTES : STEP_BYTES);
  }

  /** Of a run of equal windows the first counts: from there a match is longest. */
  #index(stepBytes: number): void {
    const view = this.#oldView;
    const table = this.#table;
    const shift = this.#shift;
    const last = this.#old.length - WINDOW_BYTES;
    let before = -1;
    for (let at = 0; at <= last; at += stepBytes) {
      const entry = hashAt(view, at) >>> shift;
      if (entry !== before) table[entry] = at + 1;
      before = entry;
    }
  }

  /** New bytes up to here have old ones in the alignment `delta`. */
  #limit(delta: number): number {
    return Math.min(this.#fresh.length, this.#old.length - delta);
  }

  /** @param regionsMax gives up, with undefined, when there would be more */
  regions(regionsMax: number): Region[] | undefined {
    const end = this.#fresh.length;
    for (let scan = 0; scan < end;) {
      scan = this.#equalEnd(scan, this.#delta);
      if (scan - this.#begin > 0 && scan >= end) break;
      scan = this.#holds(scan) ? scan + 1 : this.#search(scan);
      if (this.#regions.length > regionsMax) return undefined;
    }
    this.#put(this.#forwardEnd(end));
    return this.#regions;
  }

  /** The end of the run of equal bytes that begins at `scan`. */
  #equalEnd(scan: number, delta: number): number {
    const at = this.#equal(scan, this.#limit(delta), delta);
    if (delta === this.#delta && at - scan >= CERTAIN_BYTES) this.#certain = at;
    return at;
  }

  /** How many of the new bytes between two places agree with the old ones in the alignment. */
  #agreeing(from: number, to: number): number {
    const old = this.#old;
    const fresh = this.#fresh;
    const delta = this.#delta;
    const end = Math.min(to, this.#limit(delta));
    let count = 0;
    for (let at = from; at < end; at += 1) if (fresh[at] === old[at + delta]) count += 1;
    return count;
  }

  #holds(scan: number): boolean {
    const old = this.#old;
    const fresh = this.#fresh;
    const delta = this.#delta;
    const to = scan + AHEAD_BYTES;
    if (to > this.#limit(delta)) return false;
    let differing = 0;
    for (let at = scan; at < to; at += 1) {
      if (fresh[at] === old[at + delta]) continue;
      differing += 1;
      if (differing > AHEAD_DIFFERING_MAX) return false;
    }
    return true;
  }

  /**
   * As `#tryMatch`; after many places in a row without a better alignment some are passed over, as
   * where the bytes stand nowhere in the old ones: what is found then is followed backwards, too.
   */
  #search(scan: number): number {
    const next = this.#tryMatch(scan);
    if (next > scan + 1) {
      this.#misses = 0;
      return next;
    }
    this.#misses += 1;
    const passed = Math.min(PASSED_MAX, this.#misses >>> PATIENCE_LOG);
    return Math.min(this.#fresh.length, next + passed);
  }

  /** Changes the alignment when there is a better one; the place from which to go on. */
  #tryMatch(scan: number): number {
    if (scan + WINDOW_BYTES > this.#fresh.length) return scan + 1;
    const found = (this.#table[hashAt(this.#freshView, scan) >>> this.#shift] ?? 0) - 1;
    const delta = found - scan;
    if (found < 0 || delta === this.#delta) return scan + 1;
    const end = this.#equalEnd(scan, delta);
    if (end - scan < WINDOW_BYTES) return scan + 1;
    const start = this.#equalStart(scan, delta);
    if (end - start <= this.#agreeing(start, end) + GAIN) return scan + 1;
    this.#change(scan, delta);
    this.#certain = end;
    return end;
  }

  #equalStart(scan: number, delta: number): number {
    const old = this.#old;
    const fresh = this.#fresh;
    const least = this.#least(scan, delta);
    let at = scan;
    while (at > least && fresh[at - 1] === old[at - 1 + delta]) at -= 1;
    this.#backLeftBytes -= scan - at;
    return at;
  }

  /** How far before `scan` may be looked. */
  #least(scan: number, delta: number): number {
    const most = Math.max(BACK_BYTES_MIN, this.#backLeftBytes);
    return Math.max(this.#begin, -delta, scan - most);
  }

  /** The region that is followed ends before `scan`; the next one has the alignment `delta`. */
  #change(scan: number, delta: number): void {
    let end = this.#forwardEnd(scan);
    let start = this.#backwardStart(scan, delta);
    if (end > start) {
      end = this.#divided(start, end, delta);
      start = end;
    }
    this.#put(end);
    this.#begin = start;
    this.#delta = delta;
  }

  #put(end: number): void {
    const at = this.#begin;
    if (end > at) this.#regions.push({ at, length: end - at, from: at + this.#delta });
  }

  /** Up to where, at most `to`, more than half of the bytes agree. */
  #forwardEnd(to: number): number {
    const old = this.#old;
    const fresh = this.#fresh;
    const delta = this.#delta;
    const limit = Math.min(to, this.#limit(delta));
    let end = Math.max(this.#begin, this.#certain);
    let score = 0;
    let best = 0;
    for (let at = end; at < limit; at += 1) {
      score += fresh[at] === old[at + delta] ? 1 : -1;
      if (score > best) {
        best = score;
        end = at + 1;
      } else if (score < best - HOPELESS) break;
    }
    return end;
  }

  /** From where on more than half of the bytes before `scan` agree in the alignment `delta`. */
  #backwardStart(scan: number, delta: number): number {
    const old = this.#old;
    const fresh = this.#fresh;
    const least = this.#least(scan, delta);
    let start = scan;
    let score = 0;
    let best = 0;
    let at = scan - 1;
    for (; at >= least; at -= 1) {
      score += fresh[at] === old[at + delta] ? 1 : -1;
      if (score > best) {
        best = score;
        start = at;
      } else if (score < best - HOPELESS) break;
    }
    this.#backLeftBytes -= scan - at;
    return start;
  }

  /** Where, within what both alignments claim, the second one becomes the better one. */
  #divided(start: number, end: number, delta: number): number {
    const old = this.#old;
    const fresh = this.#fresh;
    let score = 0;
    let best = 0;
    let cut = start;
    for (let at = start; at < end; at += 1) {
      if (fresh[at] === old[at + this.#delta]) score += 1;
      if (fresh[at] === old[at + delta]) score -= 1;
      if (score > best) {
        best = score;
        cut = at + 1;
      }
    }
    return cut;
  }
}

/**
 * Regions of `fresh` by place, without overlap; what lies between them stands nowhere in `old`.
 *
 * @param regionsMax undefined is returned when there are more: then the bytes are hardly similar
 */
export function findRegions(
  old: Uint8Array,
  fresh: Uint8Array,
  regionsMax: number,
  options: SearchOptions,
): Region[] | undefined {
  return new Matcher(old, fresh, options).regions(regionsMax);
}
