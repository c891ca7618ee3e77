import { promisify } from "node:util";
import { constants, zstdCompress } from "node:zlib";
import { isZero } from "#block";
import type { ByteRange } from "#core";

const compress = promisify(zstdCompress);

/** What whoever sends a machine as one block would take: the default of zstd. */
const LEVEL = 3;
const PIECE_BYTES = 2 ** 20;
const PIECES_MAX = 64;
/** Pieces in hand: as many as Node's thread pool has threads. */
const SIDE_BY_SIDE = 4;

export interface Sampled {
  read(target: Uint8Array, position: number): Promise<void>;
}

/**
 * Compressed bytes over raw bytes, of pieces spread over the ranges: within a tenth, exact up to
 * 64 MiB. Zeroes count as nothing.
 *
 * @param pieces at most, of 1 MiB; fewer are quicker, and a dozen may miss by a fifth
 */
export async function sampleRatio(
  source: Sampled,
  ranges: readonly ByteRange[],
  pieces = PIECES_MAX,
): Promise<number> {
  const chosen = spread(piecesOf(ranges), pieces);
  const packed = await sideBySide(chosen, async ({ offset, length }) => {
    const bytes = Buffer.alloc(length);
    await source.read(bytes, offset);
    return isZero(bytes) ? 0 : await packedBytes(bytes);
  });
  const raw = sum(chosen, ({ length }) => length);
  return raw === 0 ? 0 : sum(packed, (bytes) => bytes) / raw;
}

async function packedBytes(piece: Buffer): Promise<number> {
  const params = { [constants.ZSTD_c_compressionLevel]: LEVEL };
  return Math.min(piece.length, (await compress(piece, { params })).length);
}

function piecesOf(ranges: readonly ByteRange[]): ByteRange[] {
  return ranges.flatMap(({ offset, length }) =>
    Array.from({ length: Math.ceil(length / PIECE_BYTES) }, (_none, index) => ({
      offset: offset + index * PIECE_BYTES,
      length: Math.min(PIECE_BYTES, length - index * PIECE_BYTES),
    })),
  );
}

/** Up to `most` items, each from the middle of an equal share of the list. */
function spread<T>(items: readonly T[], most: number): T[] {
  const count = Math.min(most, items.length);
  return Array.from({ length: count }, (_none, index) =>
    items.at(Math.floor(((index + 0.5) * items.length) / count)),
  ).filter((item) => item !== undefined);
}

async function sideBySide<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let item = items[next++]; item !== undefined; item = items[next++]) {
      results.push(await work(item));
    }
  };
  await Promise.all(Array.from({ length: SIDE_BY_SIDE }, worker));
  return results;
}

function sum<T>(items: readonly T[], of: (item: T) => number): number {
  return items.reduce((total, item) => total + of(item), 0);
}
