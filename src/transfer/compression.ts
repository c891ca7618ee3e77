import { constants, zstdCompress, zstdDecompress } from "node:zlib";
import { ENCODING_OPTIONS, forecastEncoding, type EncodingOption } from "#delta";
import { violation } from "./errors.ts";
import { linkBitsPerSecond, type LinkRate } from "./meter.ts";
import { RAW_BYTES_MAX } from "./protocol.ts";

const WINDOW_LOG = 20;
/** An output buffer that is filled to the last byte makes zlib allocate another one. */
const ROOM_BYTES = 64;
/** Most of what is compressed fits into one of these. */
const CHUNK_BYTES = RAW_BYTES_MAX / 2;

/** Whether a sender compresses: `none` for links that are quicker than one core can compress. */
export type CompressionMode = "auto" | "none";

const LEVEL_UNKNOWN = 3;

/**
 * Levels that pay in frames of up to 1 MiB on slow links; for contents of components other kinds do
 * better there, so their table ends before. Against level 3, measured on program code: 0.945 and
 * 0.845 of its bytes.
 */
const SLOW_OPTIONS: readonly EncodingOption[] = [
  { level: 9, plain_MBps: 55, plainRatio: 0.265 },
  { level: 19, plain_MBps: 3, plainRatio: 0.238 },
].map(({ level, plain_MBps, plainRatio }) => ({
  encoding: { kind: "direct", level },
  plain_MBps,
  plainRatio,
  patched_MBps: plain_MBps,
  patchedRatio: plainRatio,
}));
const DIRECT_OPTIONS: readonly EncodingOption[] = [
  ...ENCODING_OPTIONS.filter(({ encoding: { kind, level } }) => kind === "direct" && level !== 9),
  ...SLOW_OPTIONS,
];

/**
 * The zstd level (1, 3, 9, 19) for frames of up to 1 MiB on a link, or undefined for none: what
 * brings typical data across soonest when compression and wire work side by side, and of equals
 * what sends least. The lower of the limit and what the link can take counts; where neither is
 * known the level is 3.
 *
 * @param cores processors that are free to compress: above 0
 */
export function compressionLevel(rate: LinkRate, cores = 1): number | undefined {
  const bitsPerSecond = linkBitsPerSecond(rate);
  if (bitsPerSecond === undefined) return LEVEL_UNKNOWN;
  const facts = { rawBytes: 1e6, patchableBytes: 0 };
  const best = DIRECT_OPTIONS.map(({ encoding, ...option }) => ({
    level: encoding.level,
    ...forecastEncoding({ encoding, ...option }, { bitsPerSecond, cores }, facts),
  })).reduce((one, other) => {
    if (other.seconds !== one.seconds) return other.seconds < one.seconds ? other : one;
    return other.wireBytes < one.wireBytes ? other : one;
  });
  return best.level;
}

/** After so many pieces that did not shrink, only every eighth is tried. */
const HOPELESS = 4;
const RETRY_EVERY = 8;

/** Compresses the pieces of one stream, and spares the work while they do not shrink. */
export class Compressor {
  #failures = 0;
  #skipped = 0;

  /** As {@link compress}; undefined also where the level is, or where there is no hope. */
  async pack(raw: Uint8Array, level: number | undefined): Promise<Buffer | undefined> {
    if (level === undefined) return undefined;
    if (this.#failures >= HOPELESS && this.#skipped < RETRY_EVERY - 1) {
      this.#skipped += 1;
      return undefined;
    }
    this.#skipped = 0;
    const packed = await compress(raw, level);
    this.#failures = packed === undefined ? this.#failures + 1 : 0;
    return packed;
  }
}

/**
 * One zstd frame (RFC 8878) with a content checksum, or undefined where it would save less than a
 * sixty-fourth. Runs on Node's thread pool.
 */
export function compress(raw: Uint8Array, level: number): Promise<Buffer | undefined> {
  const params = {
    [constants.ZSTD_c_compressionLevel]: level,
    [constants.ZSTD_c_checksumFlag]: 1,
    [constants.ZSTD_c_windowLog]: WINDOW_LOG,
  };
  return new Promise((resolve, reject) => {
    zstdCompress(raw, { params, chunkSize: CHUNK_BYTES }, (error, result) => {
      if (error !== null) reject(error);
      else resolve(result.length < raw.length - raw.length / 64 ? result : undefined);
    });
  });
}

/**
 * The inverse, with memory bounded by `rawBytes` and a window of 1 MiB.
 *
 * @throws `transfer.protocol-violation` when the data are no frame of exactly `rawBytes`
 */
export function decompress(data: Uint8Array, rawBytes: number): Promise<Buffer> {
  const params = { [constants.ZSTD_d_windowLogMax]: WINDOW_LOG };
  const options = { params, maxOutputLength: rawBytes, chunkSize: rawBytes + ROOM_BYTES };
  return new Promise((resolve, reject) => {
    zstdDecompress(data, options, (error, result) => {
      if (error !== null) reject(violation("compressed data do not decompress", error));
      else if (result.length === rawBytes) resolve(result);
      else reject(violation(`${result.length} bytes came out in place of ${rawBytes}`));
    });
  });
}
