/** Directory entries, read one after the other; the nodes of an index pass for empty ones. */
import { damaged } from "../errors.ts";
import type { Superblock } from "./superblock.ts";

export interface DirectoryEntry {
  readonly inode: number;
  readonly name: Buffer;
}

const HEADER_BYTES = 8;

function recordBytes(s: Superblock, stored: number): number {
  /* Blocks of 64 KiB: 16 bits do not hold their length. */
  if (s.blockBytes === 65_536 && (stored === 65_535 || stored === 0)) return 65_536;
  return stored;
}

/** @throws `import.image-damaged` (corrupt) */
export function* entriesIn(
  s: Superblock,
  number: number,
  block: Buffer,
): Generator<DirectoryEntry> {
  const fail = (problem: string) => damaged(s.name, `directory ${number} has ${problem}`);
  let at = 0;
  while (at + HEADER_BYTES <= block.length) {
    const inode = block.readUInt32LE(at);
    const record = recordBytes(s, block.readUInt16LE(at + 4));
    const nameBytes = block.readUInt8(at + 6);
    const fits = record >= HEADER_BYTES && record % 4 === 0 && at + record <= block.length;
    if (!fits) throw fail("an entry of a wrong length");
    if (inode !== 0) {
      if (HEADER_BYTES + nameBytes > record || nameBytes === 0)
        throw fail("a name of a wrong length");
      if (inode > s.inodes) throw fail(`an entry for inode ${inode}, which cannot be`);
      const start = at + HEADER_BYTES;
      yield { inode, name: block.subarray(start, start + nameBytes) };
    }
    at += record;
  }
}
