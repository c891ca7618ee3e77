import { BLOCK_BYTES, TYPES, type InodeType } from "./erofs-format.ts";
import { erofsInvalid } from "./errors.ts";
import { compareBytes } from "./path.ts";

const DIRENT_BYTES = 12;

export interface Dirent {
  readonly name: string;
  readonly nid: number;
  readonly type: InodeType;
}

/** Cuts sorted names into blocks, each as full as it can be. */
function* blocksOf<T extends { readonly name: string }>(
  sorted: readonly T[],
): Generator<{ items: T[]; bytes: number }> {
  let items: T[] = [];
  let bytes = 0;
  for (const item of sorted) {
    const length = DIRENT_BYTES + Buffer.byteLength(item.name);
    if (bytes + length > BLOCK_BYTES) {
      yield { items, bytes };
      items = [];
      bytes = 0;
    }
    items.push(item);
    bytes += length;
  }
  yield { items, bytes };
}

/** With `.` and `..`, in the order that Linux searches: by the bytes of the name. */
function sorted<T extends { readonly name: string }>(entries: readonly T[]): T[] {
  return entries.toSorted((a, b) => compareBytes(a.name, b.name));
}

/** The size of a directory with these names; `.` and `..` are added here. */
export function directoryBytes(names: readonly string[]): number {
  let size = 0;
  for (const { bytes } of blocksOf(sorted([".", "..", ...names].map((name) => ({ name }))))) {
    size = Math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES + bytes;
  }
  return size;
}

/** The content of a directory; `entries` include `.` and `..`. */
export function encodeDirectory(entries: readonly Dirent[]): Buffer {
  const blocks = [...blocksOf(sorted(entries))];
  const last = blocks.at(-1)?.bytes ?? 0;
  const content = Buffer.alloc((blocks.length - 1) * BLOCK_BYTES + last);
  for (const [index, { items }] of blocks.entries()) {
    const start = index * BLOCK_BYTES;
    let nameAt = items.length * DIRENT_BYTES;
    for (const [row, { name, nid, type }] of items.entries()) {
      const at = start + row * DIRENT_BYTES;
      content.writeBigUInt64LE(BigInt(nid), at);
      content.writeUInt16LE(nameAt, at + 8);
      content.writeUInt8(TYPES.find((kind) => kind.type === type)?.entry ?? 0, at + 10);
      nameAt += content.write(name, start + nameAt);
    }
  }
  return content;
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function decodeName(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  const name = end < 0 ? bytes : bytes.subarray(0, end);
  if (name.length === 0) throw erofsInvalid("a directory has an empty name");
  try {
    return decoder.decode(name);
  } catch (cause) {
    throw erofsInvalid("a name is not UTF-8", cause);
  }
}

/** The entries of one directory block, which may be cut short at the directory's end. */
export function decodeDirectoryBlock(block: Buffer): Dirent[] {
  if (block.length < DIRENT_BYTES) throw erofsInvalid("a directory block is too short");
  const first = block.readUInt16LE(8);
  if (first < DIRENT_BYTES || first % DIRENT_BYTES !== 0 || first >= block.length) {
    throw erofsInvalid("a directory block has an invalid head");
  }
  const entries: Dirent[] = [];
  for (let at = 0; at < first; at += DIRENT_BYTES) {
    const start = block.readUInt16LE(at + 8);
    const last = at + DIRENT_BYTES === first;
    const end = last ? block.length : block.readUInt16LE(at + DIRENT_BYTES + 8);
    const kind = TYPES.find(({ entry }) => entry === block.readUInt8(at + 10));
    const nid = block.readBigUInt64LE(at);
    if (start < first || end <= start || end > block.length) {
      throw erofsInvalid("a directory entry's name leaves its block");
    }
    if (kind === undefined) throw erofsInvalid("a directory entry has an unknown type");
    if (nid > BigInt(Number.MAX_SAFE_INTEGER)) throw erofsInvalid("an inode lies out of bounds");
    entries.push({
      name: decodeName(block.subarray(start, end)),
      nid: Number(nid),
      type: kind.type,
    });
  }
  return entries;
}
