import { promisify } from "node:util";
import { constants, zstdCompress } from "node:zlib";
import type { ByteRange } from "#core";

const compress = promisify(zstdCompress);

const SAMPLE_BYTES = 2 ** 20;
const SAMPLES_MAX = 12;

export interface Sampled {
  read(target: Uint8Array, position: number): Promise<void>;
}

/**
 * Compressed over raw size, from up to twelve pieces of 1 MiB spread evenly over the ranges; zeroes
 * in them count as nothing, as on the wire.
 */
export async function sampleRatio(
  source: Sampled,
  ranges: readonly ByteRange[],
  level: number,
): Promise<number> {
  let raw = 0;
  let packed = 0;
  for (const { offset, length } of samplesOf(ranges)) {
    const piece = Buffer.alloc(length);
    await source.read(piece, offset);
    raw += length;
    packed += await packedBytes(piece, level);
  }
  return raw === 0 ? 0 : Math.min(1, packed / raw);
}

async function packedBytes(piece: Buffer, level: number): Promise<number> {
  if (piece.equals(Buffer.alloc(piece.length))) return 0;
  const params = { [constants.ZSTD_c_compressionLevel]: level };
  return (await compress(piece, { params })).length;
}

function samplesOf(ranges: readonly ByteRange[]): ByteRange[] {
  const pieces = ranges.flatMap(({ offset, length }) => {
    const count = Math.ceil(length / SAMPLE_BYTES);
    return Array.from({ length: count }, (_none, index) => ({
      offset: offset + index * SAMPLE_BYTES,
      length: Math.min(SAMPLE_BYTES, length - index * SAMPLE_BYTES),
    }));
  });
  const step = Math.max(1, pieces.length / SAMPLES_MAX);
  const chosen = Math.min(pieces.length, SAMPLES_MAX);
  return Array.from({ length: chosen }, (_none, index) => pieces[Math.floor(index * step)]).filter(
    (piece) => piece !== undefined,
  );
}
