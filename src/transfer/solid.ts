/** Zstandard frames with a dictionary, on Node's thread pool; see doc/data-protocol.md. */
import { constants, zstdCompress, zstdDecompress, type ZstdOptions } from "node:zlib";
import type { SolidParameters } from "#delta";
import { hasErrorCode } from "./errors.ts";

const CHUNK_BYTES = 2 ** 18;
const WINDOW_LOG_MIN = 10;

/** The least window that spans so many bytes. */
export function windowLogOf(rawBytes: number): number {
  return Math.max(WINDOW_LOG_MIN, Math.ceil(Math.log2(Math.max(1, rawBytes))));
}

/**
 * A dictionary as both sides load it: one zero byte, then the references. Without the zero byte
 * references that begin with zstd's dictionary magic would be parsed.
 */
export function dictionaryOf(
  sizeBytes: number,
  allocate: (bytes: number) => Buffer = (bytes) => Buffer.allocUnsafeSlow(bytes),
): Buffer {
  const dictionary = allocate(1 + sizeBytes);
  dictionary[0] = 0;
  return dictionary;
}

const NUMBERS = {
  compressionLevel: constants.ZSTD_c_compressionLevel,
  windowLog: constants.ZSTD_c_windowLog,
  hashLog: constants.ZSTD_c_hashLog,
  chainLog: constants.ZSTD_c_chainLog,
  searchLog: constants.ZSTD_c_searchLog,
  minMatch: constants.ZSTD_c_minMatch,
} as const;

/** By zstd's numbers of the parameters. */
function numbered(parameters: Partial<SolidParameters>): Record<number, number> {
  const names = Object.keys(NUMBERS) as (keyof typeof NUMBERS)[];
  const entries = names.flatMap((name) => {
    const value = parameters[name];
    return value === undefined ? [] : [[NUMBERS[name], value] as const];
  });
  return Object.fromEntries(entries);
}

/**
 * One zstd frame with content size and checksum; undefined when it would have more than
 * `bytesMax`. The dictionary is reachable throughout: the frame's window is its whole content.
 */
export function compressFrame(
  raw: Uint8Array,
  parameters: Partial<SolidParameters>,
  options: { readonly bytesMax: number; readonly dictionary?: Uint8Array | undefined },
): Promise<Buffer | undefined> {
  const { bytesMax, dictionary } = options;
  const zstd: ZstdOptions = {
    params: {
      ...numbered(parameters),
      [constants.ZSTD_c_checksumFlag]: 1,
      // No larger than the content: the receiver bounds its memory by it.
      [constants.ZSTD_c_windowLog]: windowLogOf(raw.length),
    },
    chunkSize: CHUNK_BYTES,
    maxOutputLength: bytesMax,
    ...(dictionary === undefined ? {} : { dictionary }),
  };
  const pledged = { ...zstd, pledgedSrcSize: raw.length };
  return new Promise((resolve, reject) => {
    zstdCompress(raw, pledged, (error, result) => {
      if (error === null) resolve(result);
      else if (hasErrorCode(error, "ERR_BUFFER_TOO_LARGE")) resolve(undefined);
      else reject(error);
    });
  });
}

/**
 * The inverse: exactly `rawBytes`, else undefined. Memory is bounded by `rawBytes`, the dictionary
 * and a window of `rawBytes`, rounded up to a power of two.
 */
export async function decompressFrame(
  data: Uint8Array,
  rawBytes: number,
  dictionary?: Uint8Array,
): Promise<Buffer | undefined> {
  // With a byte more than it needs the output is one buffer, and no other one is allocated.
  const raw = await decompressUpTo(data, rawBytes, { dictionary, chunkSize: rawBytes + 64 });
  return raw?.length === rawBytes ? raw : undefined;
}

/** At most `bytesMax`, else undefined. */
export function decompressUpTo(
  data: Uint8Array,
  bytesMax: number,
  more: { readonly dictionary?: Uint8Array | undefined; readonly chunkSize?: number } = {},
): Promise<Buffer | undefined> {
  const { dictionary, chunkSize = CHUNK_BYTES } = more;
  const options = {
    params: { [constants.ZSTD_d_windowLogMax]: windowLogOf(bytesMax) },
    maxOutputLength: bytesMax,
    chunkSize: Math.max(64, chunkSize),
    ...(dictionary === undefined ? {} : { dictionary }),
  };
  return new Promise((resolve) => {
    zstdDecompress(data, options, (error, result) => resolve(error === null ? result : undefined));
  });
}
