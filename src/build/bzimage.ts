import { constants, gunzipSync, zstdDecompressSync } from "node:zlib";
import { TesseraError } from "#core";
import { decodeLz4Legacy } from "./lz4.ts";

/** A kernel is a few tens of megabytes; this bounds what a hostile one could make us hold. */
export const VMLINUX_BYTES_MAX = 512 * 2 ** 20;

const HEADER_BYTES = 0x250;

/** The compressed kernel inside a bzImage, without the size that is appended to it. */
export interface Payload {
  readonly compression: "gzip" | "lz4" | "xz" | "zstd";
  readonly bytes: Uint8Array;
}

const MAGICS: readonly (readonly [Payload["compression"], readonly number[]])[] = [
  ["gzip", [0x1f, 0x8b]],
  ["lz4", [0x02, 0x21, 0x4c, 0x18]],
  ["xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ["zstd", [0x28, 0xb5, 0x2f, 0xfd]],
];

function invalid(problem: string): TesseraError {
  return new TesseraError("corrupt", "build.kernel-invalid", `the kernel ${problem}`, {
    remedy: "use a kernel package with a bzImage of boot protocol 2.08 or later",
  });
}

/**
 * Finds the compressed kernel of a bzImage by its setup header (the Linux/x86 boot protocol,
 * `Documentation/arch/x86/boot.rst`: `setup_sects`, `HdrS`, `payload_offset`, `payload_length`).
 *
 * @throws `build.kernel-invalid` (corrupt)
 */
export function payloadOf(image: Uint8Array): Payload {
  if (image.length < HEADER_BYTES) throw invalid("is too short");
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  if (view.getUint32(0x202) !== 0x48647253) throw invalid("is no bzImage");
  if (view.getUint16(0x206, true) < 0x208) throw invalid("has an old boot protocol");
  const setupSectors = view.getUint8(0x1f1) || 4;
  const start = (setupSectors + 1) * 512 + view.getUint32(0x248, true);
  const length = view.getUint32(0x24c, true);
  if (length < 8 || start + length > image.length) throw invalid("has a payload out of bounds");
  const bytes = image.subarray(start, start + length);
  const magic = MAGICS.find(([, head]) => head.every((byte, index) => bytes[index] === byte));
  if (magic === undefined) throw invalid("is compressed in a way that is not known");
  const [compression] = magic;
  // All but gzip, which ends with its own size, are followed by the size in four bytes.
  return { compression, bytes: compression === "gzip" ? bytes : bytes.subarray(0, length - 4) };
}

/** The kernel of a payload that is not xz. @throws `build.kernel-invalid` (corrupt) */
export function decompress({ compression, bytes }: Payload): Uint8Array {
  const maxOutputLength = VMLINUX_BYTES_MAX;
  try {
    if (compression === "gzip") return gunzipSync(bytes, { maxOutputLength });
    if (compression === "lz4") return decodeLz4Legacy(bytes, maxOutputLength);
    const params = { [constants.ZSTD_d_windowLogMax]: 31 };
    return zstdDecompressSync(bytes, { maxOutputLength, params });
  } catch (cause) {
    throw new TesseraError("corrupt", "build.kernel-invalid", "the kernel does not unpack", {
      cause,
    });
  }
}
