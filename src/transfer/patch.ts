/** Compression of CHANGES against the old blocks and the frame before. */
import { isZero } from "#block";
import { violation } from "./errors.ts";
import { linkBitsPerSecond, type LinkRate } from "./meter.ts";
import { compressFrame, decompressFrame, dictionaryOf } from "./solid.ts";
import { RAW_BYTES_MAX } from "./protocol.ts";

/**
 * Up to which rate per processor a level ends soonest: with two copies of a data disk, levels 3, 9
 * and 19 give 179, 43 and 1 MB/s and 10.4, 9.8 and 9.5 % of the raw bytes. Below 3, zstd does not
 * look into dictionaries well.
 */
const LEVELS = [
  { level: 19, bitsPerSecondMax: 0.8e6 },
  { level: 9, bitsPerSecondMax: 35e6 },
  { level: 3, bitsPerSecondMax: 2e9 },
] as const;
const LEVEL_UNKNOWN = 3;
const TABLE_LOG = 20;
const WINDOW_LOG = 20;

/** The level (3, 9 or 19) for changes on a link, or undefined for none. Pure. */
export function patchLevel(rate: LinkRate, cores: number): number | undefined {
  const bitsPerSecond = linkBitsPerSecond(rate);
  if (bitsPerSecond === undefined) return LEVEL_UNKNOWN;
  return LEVELS.find(({ bitsPerSecondMax }) => bitsPerSecond <= bitsPerSecondMax * cores)?.level;
}

/**
 * The dictionary of a frame: a zero byte, the data of the frame before in the same stream, and the
 * old contents of the blocks that the frame gives data for, those left out that are all zero.
 * Undefined where that is nothing.
 */
export function patchDictionary(
  before: Uint8Array,
  olds: readonly Uint8Array[],
): Buffer | undefined {
  const parts = [before, ...olds.filter((old) => !isZero(old))];
  const sizeBytes = parts.reduce((sum, part) => sum + part.length, 0);
  if (sizeBytes === 0) return undefined;
  const dictionary = dictionaryOf(sizeBytes);
  let at = 1;
  for (const part of parts) {
    dictionary.set(part, at);
    at += part.length;
  }
  return dictionary;
}

/** Undefined where it would save less than a sixty-fourth. */
export async function compressPatch(
  raw: Uint8Array,
  level: number,
  dictionary: Uint8Array | undefined,
): Promise<Buffer | undefined> {
  const tables = { windowLog: WINDOW_LOG, hashLog: TABLE_LOG, chainLog: TABLE_LOG };
  const bytesMax = raw.length - Math.ceil(raw.length / 64);
  return await compressFrame(raw, { compressionLevel: level, ...tables }, { bytesMax, dictionary });
}

/** @throws `transfer.protocol-violation` when the data are no frame of exactly `rawBytes` */
export async function decompressPatch(
  data: Uint8Array,
  rawBytes: number,
  dictionary: Uint8Array | undefined,
): Promise<Buffer> {
  if (rawBytes === 0 || rawBytes > RAW_BYTES_MAX)
    throw violation("a patch of no or too many bytes");
  const raw = await decompressFrame(data, rawBytes, dictionary);
  if (raw === undefined) throw violation("changes do not decompress");
  return raw;
}
