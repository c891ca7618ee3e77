import { tarInvalid } from "./errors.ts";

export const TAR_BLOCK_BYTES = 512;

/** A header block (POSIX.1-2017, "ustar Interchange Format", and GNU tar's `tar.h`). */
export interface TarHeader {
  readonly typeFlag: string;
  readonly name: Buffer;
  readonly linkName: Buffer;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly sizeBytes: number;
  readonly mtime_s: number;
  readonly major: number;
  readonly minor: number;
}

function textField(block: Buffer, offset: number, length: number): Buffer {
  const field = block.subarray(offset, offset + length);
  const end = field.indexOf(0);
  return end < 0 ? field : field.subarray(0, end);
}

/** Octal digits, or GNU's binary form for larger and negative numbers. */
function numberField(block: Buffer, offset: number, length: number): number {
  const field = block.subarray(offset, offset + length);
  const head = field[0] ?? 0;
  if (head >= 0x80) {
    const value = BigInt.asIntN(length * 8 - 1, BigInt(`0x${field.toString("hex")}`));
    const number = Number(value);
    if (Number.isSafeInteger(number)) return number;
    throw tarInvalid("a number is out of bounds");
  }
  const digits = textField(field, 0, length).toString("latin1").trim();
  if (/^[0-7]*$/.test(digits)) return Number.parseInt(digits || "0", 8);
  throw tarInvalid(`"${digits}" is not an octal number`);
}

/** The sum of all bytes, those of the checksum taken as spaces. */
function checksum(block: Buffer): number {
  let sum = 8 * 0x20;
  for (const byte of block) sum += byte;
  for (const byte of block.subarray(148, 156)) sum -= byte;
  return sum;
}

/** Undefined for the block of zeroes that ends an archive. @throws `image.tar-invalid` (corrupt) */
export function parseTarHeader(block: Buffer): TarHeader | undefined {
  if (block.every((byte) => byte === 0)) return undefined;
  if (numberField(block, 148, 8) !== checksum(block)) throw tarInvalid("a header's checksum");
  const posix = block.toString("latin1", 257, 263) === "ustar\0";
  const prefix = posix ? textField(block, 345, 155) : Buffer.alloc(0);
  const name = textField(block, 0, 100);
  const sizeBytes = numberField(block, 124, 12);
  if (sizeBytes < 0) throw tarInvalid("an entry has a negative size");
  return {
    typeFlag: String.fromCharCode(block[156] ?? 0),
    name: prefix.length === 0 ? name : Buffer.concat([prefix, Buffer.from("/"), name]),
    linkName: textField(block, 157, 100),
    mode: numberField(block, 100, 8) & 0o7777,
    uid: numberField(block, 108, 8),
    gid: numberField(block, 116, 8),
    sizeBytes,
    mtime_s: numberField(block, 136, 12),
    major: numberField(block, 329, 8),
    minor: numberField(block, 337, 8),
  };
}
