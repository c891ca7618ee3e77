/** Extended attributes in the inode and in a block of their own (Linux, fs/ext4/xattr.h). */
import { damaged } from "../errors.ts";
import { shownAcl } from "./acl.ts";
import type { Superblock } from "./superblock.ts";

export const XATTR_MAGIC = 0xea02_0000;
export const ENTRY_BYTES = 16;
export const BLOCK_HEADER_BYTES = 32;
const VALUE_BYTES_MAX = 65_535;

/** The number that stands for the beginning of a name. */
export const PREFIXES: readonly (readonly [index: number, prefix: string])[] = [
  [1, "user."],
  [2, "system.posix_acl_access"],
  [3, "system.posix_acl_default"],
  [4, "trusted."],
  [6, "security."],
  [7, "system."],
];
const ACLS: ReadonlySet<number> = new Set([2, 3]);

/** Inline data of the inode: no attribute for anybody to see. */
export const INLINE_DATA = "system.data";

export type ReadValue = (inode: number, sizeBytes: number) => Promise<Buffer>;

interface Area {
  readonly s: Superblock;
  readonly what: string;
  readonly bytes: Buffer;
  /** Where the list of entries begins. */
  readonly start: number;
  /** Where the offsets of values count from. */
  readonly base: number;
}

const decoder = new TextDecoder("utf-8", { fatal: true });

function nameOf(area: Area, index: number, rest: Buffer): string {
  const prefix = PREFIXES.find(([number]) => number === index)?.[1];
  if (prefix === undefined)
    throw damaged(area.s.name, `${area.what} has an xattr of the kind ${index}`);
  try {
    return prefix + decoder.decode(rest);
  } catch (cause) {
    throw damaged(area.s.name, `${area.what} has an xattr whose name is no text`, cause);
  }
}

async function decodeArea(
  area: Area,
  readValue: ReadValue,
  into: Map<string, Uint8Array>,
): Promise<void> {
  const { s, bytes, base, what } = area;
  for (let at = area.start; at + 4 <= bytes.length && bytes.readUInt32LE(at) !== 0;) {
    if (at + ENTRY_BYTES > bytes.length) throw damaged(s.name, `${what} has a broken xattr`);
    const nameBytes = bytes.readUInt8(at);
    const index = bytes.readUInt8(at + 1);
    const valueAt = base + bytes.readUInt16LE(at + 2);
    const valueInode = bytes.readUInt32LE(at + 4);
    const valueBytes = bytes.readUInt32LE(at + 8);
    const end = at + ENTRY_BYTES + nameBytes;
    const inside = valueInode !== 0 || valueAt + valueBytes <= bytes.length;
    if (end > bytes.length || !inside || valueBytes > VALUE_BYTES_MAX) {
      throw damaged(s.name, `${what} has an xattr that leaves its place`);
    }
    const name = nameOf(area, index, bytes.subarray(at + ENTRY_BYTES, end));
    if (into.has(name)) throw damaged(s.name, `${what} has the xattr ${name} twice`);
    const stored =
      valueInode === 0
        ? Buffer.from(bytes.subarray(valueAt, valueAt + valueBytes))
        : await readValue(valueInode, valueBytes);
    const value = ACLS.has(index) ? shownAcl(stored) : stored;
    if (value === undefined) throw damaged(s.name, `${what} has an ACL that is none`);
    into.set(name, value);
    at += Math.ceil((ENTRY_BYTES + nameBytes) / 4) * 4;
  }
}

/** Those behind the fields of an inode. @throws `import.image-damaged` (corrupt) */
export async function xattrsInInode(
  s: Superblock,
  number: number,
  rest: Buffer,
  readValue: ReadValue,
  into: Map<string, Uint8Array>,
): Promise<void> {
  if (rest.length < 8 || rest.readUInt32LE(0) !== XATTR_MAGIC) return;
  const area = { s, what: `inode ${number}`, bytes: rest, start: 4, base: 4 };
  await decodeArea(area, readValue, into);
}

/** Those of an attribute block. @throws `import.image-damaged` (corrupt) */
export async function xattrsInBlock(
  s: Superblock,
  number: number,
  block: Buffer,
  readValue: ReadValue,
  into: Map<string, Uint8Array>,
): Promise<void> {
  if (block.readUInt32LE(0) !== XATTR_MAGIC || block.readUInt32LE(8) !== 1) {
    throw damaged(s.name, `the xattrs of inode ${number} have no magic number`);
  }
  const what = `inode ${number}`;
  await decodeArea({ s, what, bytes: block, start: BLOCK_HEADER_BYTES, base: 0 }, readValue, into);
}
