/** Compression of CHANGES against the old blocks and the frame before. */
import { BLOCK_BYTES, isZero } from "#block";
import { violation } from "./errors.ts";
import { compressFrame, decompressFrame, dictionaryOf } from "./solid.ts";
import { RAW_BYTES_MAX } from "./protocol.ts";

/** Below this, zstd does not look into dictionaries well. */
const LEVEL_MIN = 3;
const TABLE_LOG = 20;
const WINDOW_LOG = 20;

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
  const compressionLevel = Math.max(LEVEL_MIN, level);
  const tables = { windowLog: WINDOW_LOG, hashLog: TABLE_LOG, chainLog: TABLE_LOG };
  const bytesMax = raw.length - Math.ceil(raw.length / 64);
  return await compressFrame(raw, { compressionLevel, ...tables }, { bytesMax, dictionary });
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

export const ZERO_BLOCK: Buffer = Buffer.alloc(BLOCK_BYTES);
