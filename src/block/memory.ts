import { mergeRanges, type ByteRange } from "#core";
import type { BlockDevice } from "./contract.ts";
import { checkRange, checkSize, closedError } from "./errors.ts";

const PAGE_BYTES = 65_536;

interface Piece {
  readonly page: number;
  /** Within the page. */
  readonly start: number;
  readonly end: number;
  /** Of the piece within the whole range. */
  readonly at: number;
}

/** Cuts a range at the page borders. */
function* piecesOf(range: ByteRange): Generator<Piece> {
  let done = 0;
  while (done < range.length) {
    const page = Math.floor((range.offset + done) / PAGE_BYTES);
    const start = range.offset + done - page * PAGE_BYTES;
    const end = Math.min(PAGE_BYTES, start + range.length - done);
    yield { page, start, end, at: done };
    done += end - start;
  }
}

/**
 * A disk in memory, for tests and small work; takes memory only for pages that were written.
 *
 * @throws `block.size-invalid` (misuse)
 */
export function createMemoryDevice(sizeBytes: number): BlockDevice {
  checkSize(sizeBytes);
  const pages = new Map<number, Uint8Array>();
  let closed = false;
  const check = (offset: number, length: number): ByteRange => {
    if (closed) throw closedError();
    const range = { offset, length };
    checkRange(range, sizeBytes);
    return range;
  };
  const copy = (target: Uint8Array, offset: number): void => {
    for (const { page, start, end, at } of piecesOf(check(offset, target.length))) {
      const held = pages.get(page);
      if (held === undefined) target.fill(0, at, at + end - start);
      else target.set(held.subarray(start, end), at);
    }
  };
  return {
    sizeBytes,
    async read(target, offset) {
      copy(target, offset);
    },
    readNow(target, offset) {
      copy(target, offset);
      return true;
    },
    async write(source, offset) {
      for (const { page, start, end, at } of piecesOf(check(offset, source.length))) {
        const held = pages.get(page) ?? new Uint8Array(PAGE_BYTES);
        pages.set(page, held);
        held.set(source.subarray(at, at + end - start), start);
      }
    },
    async zero(range) {
      for (const { page, start, end } of piecesOf(check(range.offset, range.length))) {
        if (end - start === PAGE_BYTES) pages.delete(page);
        else pages.get(page)?.fill(0, start, end);
      }
    },
    zeroesQuickly: () => true,
    async allocated() {
      check(0, 0);
      const ranges = [...pages.keys()].map((page) => {
        const offset = page * PAGE_BYTES;
        return { offset, length: Math.min(PAGE_BYTES, sizeBytes - offset) };
      });
      return mergeRanges(ranges);
    },
    async flush() {
      check(0, 0);
    },
    async close() {
      closed = true;
    },
  };
}
