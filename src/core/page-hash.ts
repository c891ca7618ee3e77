/**
 * A quick hash of a page, 32 bits, not cryptographic: equal hashes are compared before they count.
 *
 * @param page a multiple of 8 bytes
 */
export function pageHash(page: Uint8Array): number {
  const words = wordsOf(page);
  let one = 0x9e37_79b1;
  let other = 0x85eb_ca77;
  for (let at = 0; at < words.length; at += 2) {
    one = Math.imul(one ^ (words[at] ?? 0), 0xcc9e_2d51);
    other = Math.imul(other ^ (words[at + 1] ?? 0), 0x1b87_3593);
    one ^= one >>> 15;
    other ^= other >>> 13;
  }
  return (Math.imul(one ^ (other >>> 16), 0x2c1b_3c6d) ^ other) >>> 0;
}

/** The page as words of this machine's byte order, copied where it is not aligned. */
function wordsOf(page: Uint8Array): Uint32Array {
  const aligned = page.byteOffset % 4 === 0 ? page : Uint8Array.from(page);
  return new Uint32Array(aligned.buffer, aligned.byteOffset, page.length / 4);
}
