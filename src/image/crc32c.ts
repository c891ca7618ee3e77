const POLYNOMIAL = 0x82f6_3b78;

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = (value >>> 1) ^ (value & 1 ? POLYNOMIAL : 0);
  return value >>> 0;
});

/**
 * CRC-32C (RFC 3720, appendix B.4) without the last inversion, as Linux has it; goes on from `seed`,
 * by default from all ones.
 */
export function crc32c(bytes: Uint8Array, seed = 0xffff_ffff): number {
  let crc = seed;
  for (const byte of bytes) crc = (crc >>> 8) ^ (TABLE[(crc ^ byte) & 0xff] ?? 0);
  return crc >>> 0;
}
