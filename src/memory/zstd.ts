import { promisify } from "node:util";
import { constants, zstdCompress, zstdDecompress } from "node:zlib";
import { BODY_BYTES_MAX, streamInvalid } from "./format.ts";

const WINDOW_LOG = Math.log2(BODY_BYTES_MAX);
const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

/** One zstd frame (RFC 8878) with a checksum, made on the thread pool; undefined where it is no smaller. */
export async function shrink(body: Buffer, level: number): Promise<Buffer | undefined> {
  const params = {
    [constants.ZSTD_c_compressionLevel]: level,
    [constants.ZSTD_c_checksumFlag]: 1,
    [constants.ZSTD_c_windowLog]: WINDOW_LOG,
  };
  const packed = await compress(body, { params, chunkSize: Math.max(64, body.length) });
  return packed.length < body.length ? packed : undefined;
}

/**
 * The inverse, in memory of at most `rawBytes` and the window.
 *
 * @throws `memory.stream-invalid` when the data are no frame of exactly `rawBytes`
 */
export async function unshrink(data: Uint8Array, rawBytes: number): Promise<Buffer> {
  const params = { [constants.ZSTD_d_windowLogMax]: WINDOW_LOG };
  const limits = { maxOutputLength: rawBytes, chunkSize: Math.max(64, rawBytes) };
  const raw = await decompress(data, { params, ...limits }).catch((cause: unknown) => {
    throw streamInvalid("compressed data do not decompress", cause);
  });
  if (raw.length === rawBytes) return raw;
  throw streamInvalid(`${raw.length} bytes came out in place of ${rawBytes}`);
}
