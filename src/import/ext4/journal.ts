/**
 * What a journal holds and its file system does not yet (Linux, Documentation/filesystems/ext4,
 * "Journal (jbd2)"). The image is only read: the journal's blocks are shown in place of the old.
 */
import { damaged, unsupported } from "../errors.ts";
import type { DiskBytes } from "../source.ts";
import type { Superblock } from "./superblock.ts";

const MAGIC = 0xc03b_3998;
const TYPE = { DESCRIPTOR: 1, COMMIT: 2, SUPERBLOCK_1: 3, SUPERBLOCK_2: 4, REVOKE: 5 } as const;
const FEATURE = { BIT64: 2, ASYNC_COMMIT: 4, CSUM_2: 8, CSUM_3: 0x10, FAST_COMMIT: 0x20 } as const;
const FEATURES_KNOWN = 1 | FEATURE.BIT64 | FEATURE.CSUM_2 | FEATURE.CSUM_3;
const TAG = { ESCAPED: 1, SAME_UUID: 2, LAST: 8 } as const;

/** The journal as a file of whole blocks. */
export interface JournalFile {
  readonly blocks: number;
  read(index: number): Promise<Buffer>;
}

interface Tag {
  readonly block: number;
  readonly flags: number;
}

interface Journal {
  readonly s: Superblock;
  readonly file: JournalFile;
  readonly first: number;
  readonly end: number;
  readonly features: number;
}

interface Copy {
  readonly tag: Tag;
  readonly index: number;
  readonly sequence: number;
}

const hasMagic = (block: Buffer, type: number, sequence: number): boolean =>
  block.readUInt32BE(0) === MAGIC &&
  block.readUInt32BE(4) === type &&
  block.readUInt32BE(8) === sequence;

function tagsOf({ features }: Journal, block: Buffer): Tag[] {
  const v3 = (features & FEATURE.CSUM_3) !== 0;
  const is64 = (features & FEATURE.BIT64) !== 0;
  const tagBytes = v3 ? 16 : is64 ? 12 : 8;
  const end = block.length - ((features & (FEATURE.CSUM_2 | FEATURE.CSUM_3)) === 0 ? 0 : 4);
  const tags: Tag[] = [];
  for (let at = 12; at + tagBytes <= end;) {
    const flags = v3 ? block.readUInt32BE(at + 4) : block.readUInt16BE(at + 6);
    const high = is64 ? block.readUInt32BE(at + 8) : 0;
    tags.push({ block: block.readUInt32BE(at) + high * 2 ** 32, flags });
    if ((flags & TAG.LAST) !== 0) break;
    at += tagBytes + ((flags & TAG.SAME_UUID) === 0 ? 16 : 0);
  }
  return tags;
}

function revokedIn({ features }: Journal, block: Buffer): number[] {
  const is64 = (features & FEATURE.BIT64) !== 0;
  const end = Math.min(block.readUInt32BE(12), block.length);
  const numbers: number[] = [];
  for (let at = 16; at + (is64 ? 8 : 4) <= end; at += is64 ? 8 : 4) {
    numbers.push(is64 ? Number(block.readBigUInt64BE(at)) : block.readUInt32BE(at));
  }
  return numbers;
}

async function openJournal(
  s: Superblock,
  file: JournalFile,
): Promise<Journal & { start: number; sequence: number }> {
  const block = await file.read(0);
  const type = block.readUInt32BE(4);
  const isOne = type === TYPE.SUPERBLOCK_1 || type === TYPE.SUPERBLOCK_2;
  if (block.readUInt32BE(0) !== MAGIC || !isOne)
    throw damaged(s.name, "its journal has no superblock");
  const features = type === TYPE.SUPERBLOCK_2 ? block.readUInt32BE(40) : 0;
  if ((features & ~FEATURES_KNOWN) !== 0) {
    const remedy =
      "start the machine once where it is and shut it down, so that its journal is empty";
    throw unsupported(s.name, "a journal with fast or asynchronous commits", remedy);
  }
  const [first, end, start] = [
    block.readUInt32BE(20),
    block.readUInt32BE(16),
    block.readUInt32BE(28),
  ];
  const inside = first > 0 && first < end && end <= file.blocks && start < end;
  if (block.readUInt32BE(12) !== s.blockBytes || !inside) {
    throw damaged(s.name, "the superblock of its journal contradicts itself");
  }
  return { s, file, first, end, features, start, sequence: block.readUInt32BE(24) };
}

/** All transactions that were committed, oldest first; the log ends where the numbers do. */
async function readLog(journal: Journal, start: number, firstSequence: number) {
  const copies: Copy[] = [];
  const revoked = new Map<number, number>();
  let [at, sequence] = [start, firstSequence];
  let pending: Copy[] = [];
  let pendingRevoked: number[] = [];
  const next = (index: number): number => (index + 1 === journal.end ? journal.first : index + 1);
  for (let steps = journal.end; steps > 0; steps -= 1) {
    const block = await journal.file.read(at);
    at = next(at);
    if (hasMagic(block, TYPE.DESCRIPTOR, sequence)) {
      for (const tag of tagsOf(journal, block)) {
        pending.push({ tag, index: at, sequence });
        at = next(at);
        steps -= 1;
      }
    } else if (hasMagic(block, TYPE.REVOKE, sequence)) {
      pendingRevoked.push(...revokedIn(journal, block));
    } else if (hasMagic(block, TYPE.COMMIT, sequence)) {
      copies.push(...pending);
      for (const number of pendingRevoked) revoked.set(number, sequence);
      [pending, pendingRevoked] = [[], []];
      sequence = (sequence + 1) >>> 0;
    } else break;
  }
  return copies.filter(({ tag, sequence: own }) => (revoked.get(tag.block) ?? -1) < own);
}

/** The block's content as it belongs on the disk: one that looked like the journal's own was changed. */
async function contentOf({ file }: Journal, { tag, index }: Copy): Promise<Buffer> {
  const block = Buffer.from(await file.read(index));
  if ((tag.flags & TAG.ESCAPED) !== 0) block.writeUInt32BE(MAGIC, 0);
  return block;
}

/**
 * The blocks that recovery would write, by number.
 *
 * @throws `import.image-damaged` (corrupt), `import.unsupported` (misuse)
 */
export async function recoveredBlocks(
  s: Superblock,
  file: JournalFile,
): Promise<Map<number, Buffer>> {
  const journal = await openJournal(s, file);
  const blocks = new Map<number, Buffer>();
  if (journal.start === 0) return blocks;
  for (const copy of await readLog(journal, journal.start, journal.sequence)) {
    if (copy.tag.block >= s.blocks)
      throw damaged(s.name, "its journal names a block beyond its end");
    blocks.set(copy.tag.block, await contentOf(journal, copy));
  }
  return blocks;
}

/** The disk with these blocks in place of its own. */
export function withBlocks(
  disk: DiskBytes,
  blockBytes: number,
  blocks: ReadonlyMap<number, Buffer>,
): DiskBytes {
  if (blocks.size === 0) return disk;
  return {
    sizeBytes: disk.sizeBytes,
    async read(target, offset) {
      await disk.read(target, offset);
      const last = Math.floor((offset + target.length - 1) / blockBytes);
      for (let number = Math.floor(offset / blockBytes); number <= last; number += 1) {
        const block = blocks.get(number);
        if (block === undefined) continue;
        const from = Math.max(offset, number * blockBytes);
        const to = Math.min(offset + target.length, (number + 1) * blockBytes);
        const start = from - number * blockBytes;
        target.set(block.subarray(start, start + to - from), from - offset);
      }
    },
  };
}
