/** A held blob as dictionary for another one. */
import type { BlobReader } from "#repository";
import { BLOB_DICTIONARY_BYTES_MAX } from "./protocol.ts";
import { compressFrame, dictionaryOf } from "./solid.ts";

/** The frames are small and few: the highest level costs little. */
const LEVEL = 19;
const TABLE_LOG_MIN = 17;
const TABLE_LOG_MAX = 22;

/** The dictionary that a blob is; undefined where it is too large for one. */
export async function blobDictionary(base: BlobReader): Promise<Buffer | undefined> {
  if (base.sizeBytes > BLOB_DICTIONARY_BYTES_MAX || base.sizeBytes === 0) return undefined;
  const dictionary = dictionaryOf(base.sizeBytes);
  await base.read(dictionary.subarray(1), 0);
  return dictionary;
}

/** One frame with a dictionary, or undefined where it would not be smaller. */
export function compressWith(raw: Uint8Array, dictionary: Buffer): Promise<Buffer | undefined> {
  const span = Math.ceil(Math.log2(raw.length + dictionary.length));
  const table = Math.max(TABLE_LOG_MIN, Math.min(TABLE_LOG_MAX, span));
  const parameters = {
    compressionLevel: LEVEL,
    windowLog: TABLE_LOG_MAX,
    hashLog: table,
    chainLog: table,
  };
  return compressFrame(raw, parameters, { bytesMax: raw.length, dictionary });
}
