const ZEROES = new Uint8Array(65_536);

/** True when every byte is zero, and for no bytes. */
export function isZero(bytes: Uint8Array): boolean {
  for (let start = 0; start < bytes.length; start += ZEROES.length) {
    const end = Math.min(start + ZEROES.length, bytes.length);
    const zeroes = ZEROES.subarray(0, end - start);
    if (Buffer.compare(bytes.subarray(start, end), zeroes) !== 0) return false;
  }
  return true;
}
