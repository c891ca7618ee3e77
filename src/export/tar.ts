/** The headers of a tar archive (POSIX.1-1988, ustar), as an OVA has them. Pure. */

export const TAR_BLOCK_BYTES = 512;
const NAME_BYTES_MAX = 100;
const OCTAL_MAX = 0o77777777777;

function octal(value: number, digits: number): string {
  return `${value.toString(8).padStart(digits, "0")}\0`;
}

/** Above 8 GiB the size is stored in base 256, as GNU tar and others do. */
function writeSize(bytes: Buffer, sizeBytes: number): void {
  if (sizeBytes <= OCTAL_MAX) bytes.write(octal(sizeBytes, 11), 124, "latin1");
  else {
    bytes.writeUInt8(0x80, 124);
    bytes.writeBigUInt64BE(BigInt(sizeBytes), 128);
  }
}

/**
 * The header of a plain file; its content follows, filled up to whole blocks.
 *
 * @throws RangeError for a name that does not fit, which the caller prevents
 */
export function tarHeader(name: string, sizeBytes: number): Buffer {
  if (Buffer.byteLength(name) > NAME_BYTES_MAX) throw new RangeError(`${name} is too long`);
  const bytes = Buffer.alloc(TAR_BLOCK_BYTES);
  bytes.write(name, 0, "utf8");
  bytes.write(octal(0o644, 7), 100, "latin1");
  bytes.write(octal(0, 7), 108, "latin1");
  bytes.write(octal(0, 7), 116, "latin1");
  writeSize(bytes, sizeBytes);
  bytes.write(octal(0, 11), 136, "latin1");
  bytes.write(" ".repeat(8), 148, "latin1");
  bytes.write("0", 156, "latin1");
  bytes.write("ustar\x0000", 257, "latin1");
  const sum = bytes.reduce((total, byte) => total + byte, 0);
  bytes.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return bytes;
}

export function tarPadding(sizeBytes: number): Buffer {
  return Buffer.alloc((TAR_BLOCK_BYTES - (sizeBytes % TAR_BLOCK_BYTES)) % TAR_BLOCK_BYTES);
}

/** Two empty blocks. */
export const TAR_END = Buffer.alloc(2 * TAR_BLOCK_BYTES);
