import { constants, zstdCompress, zstdDecompress } from "node:zlib";
import { violation } from "./errors.ts";
import type { LinkRate } from "./meter.ts";
import { RAW_BYTES_MAX } from "./protocol.ts";

const SLOW_LINK_BITS_PER_SECOND = 100e6;
const WINDOW_LOG = 20;

/** Whether a sender compresses: `none` for links that are quicker than one core can compress. */
export type CompressionMode = "auto" | "none";

/**
 * The zstd level for a link. One core gives about 86 MB/s at level 9 and 300 MB/s at level 3, so
 * 9 pays on links below 100 Mbit/s even when only one core is free. A low measured rate counts
 * only while the sender waits for the link: else it is the sender that is slow, and a higher level
 * would make it slower still.
 */
export function compressionLevel(rate: LinkRate): 3 | 9 {
  const { limitBitsPerSecond, measuredBitsPerSecond, waitingShare = 0 } = rate;
  if ((limitBitsPerSecond ?? Infinity) < SLOW_LINK_BITS_PER_SECOND) return 9;
  const linkIsSlow =
    (measuredBitsPerSecond ?? Infinity) < SLOW_LINK_BITS_PER_SECOND && waitingShare > 0.5;
  return linkIsSlow ? 9 : 3;
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
    zstdCompress(raw, { params, chunkSize: RAW_BYTES_MAX }, (error, result) => {
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
  const options = { params, maxOutputLength: rawBytes, chunkSize: Math.max(64, rawBytes) };
  return new Promise((resolve, reject) => {
    zstdDecompress(data, options, (error, result) => {
      if (error !== null) reject(violation("compressed data do not decompress", error));
      else if (result.length === rawBytes) resolve(result);
      else reject(violation(`${result.length} bytes came out in place of ${rawBytes}`));
    });
  });
}
