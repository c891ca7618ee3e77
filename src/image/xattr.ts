import { erofsInvalid } from "./errors.ts";
import { NAME_BYTES_MAX } from "./path.ts";

/** How EROFS writes the prefix of an xattr's name: a number (Linux, fs/erofs/erofs_fs.h). */
const PREFIXES: readonly (readonly [prefix: string, index: number, whole: boolean])[] = [
  ["user.", 1, false],
  ["system.posix_acl_access", 2, true],
  ["system.posix_acl_default", 3, true],
  ["trusted.", 4, false],
  ["security.", 6, false],
];

const HEADER_BYTES = 12;
/** An entry before its name and value. */
export const XATTR_ENTRY_BYTES = 4;
/** Linux lists no more than this (XATTR_LIST_MAX); it also keeps an inode's size bounded. */
export const XATTR_AREA_BYTES_MAX = 65_536;

export type Xattrs = ReadonlyMap<string, Uint8Array>;

/** The prefix's number and the bytes after it, or undefined where EROFS cannot hold the name. */
export function splitXattrName(name: string): { index: number; rest: Buffer } | undefined {
  if (!name.isWellFormed() || name.includes("\0")) return undefined;
  for (const [prefix, index, whole] of PREFIXES) {
    if (!name.startsWith(prefix)) continue;
    const rest = Buffer.from(name.slice(prefix.length));
    const valid = whole ? rest.length === 0 : rest.length > 0 && rest.length <= NAME_BYTES_MAX;
    if (valid) return { index, rest };
  }
  return undefined;
}

function align4(bytes: number): number {
  return Math.ceil(bytes / 4) * 4;
}

/** Bytes that the xattrs of an inode take after it; 0 without any. Names must be valid. */
export function xattrAreaBytes(xattrs: Xattrs): number {
  if (xattrs.size === 0) return 0;
  let sum = HEADER_BYTES;
  for (const [name, value] of xattrs) {
    const nameBytes = splitXattrName(name)?.rest.length ?? 0;
    sum += align4(XATTR_ENTRY_BYTES + nameBytes + value.length);
  }
  return sum;
}

/** The inline xattr area of an inode: a header without shared entries, then the entries. */
export function encodeXattrs(xattrs: Xattrs, area: Buffer): void {
  let at = HEADER_BYTES;
  for (const [name, value] of xattrs) {
    const { index, rest } = splitXattrName(name) ?? { index: 0, rest: Buffer.alloc(0) };
    area.writeUInt8(rest.length, at);
    area.writeUInt8(index, at + 1);
    area.writeUInt16LE(value.length, at + 2);
    area.set(rest, at + XATTR_ENTRY_BYTES);
    area.set(value, at + XATTR_ENTRY_BYTES + rest.length);
    at += align4(XATTR_ENTRY_BYTES + rest.length + value.length);
  }
}

/** The length of the entry that begins with `head`, without padding. */
export function xattrEntryBytes(head: Buffer): number {
  return XATTR_ENTRY_BYTES + head.readUInt8(0) + head.readUInt16LE(2);
}

interface DecodedXattr {
  readonly name: string;
  readonly value: Uint8Array;
  /** Where the next entry begins. */
  readonly next: number;
}

/** One entry at `at`. @throws `image.erofs-invalid` (corrupt) */
function decodeXattr(area: Buffer, at: number): DecodedXattr {
  if (at + XATTR_ENTRY_BYTES > area.length) throw erofsInvalid("an xattr leaves its area");
  const nameBytes = area.readUInt8(at);
  const index = area.readUInt8(at + 1);
  const valueBytes = area.readUInt16LE(at + 2);
  const start = at + XATTR_ENTRY_BYTES;
  if (start + nameBytes + valueBytes > area.length) throw erofsInvalid("an xattr leaves its area");
  const prefix = PREFIXES.find((row) => row[1] === index)?.[0];
  if (prefix === undefined) throw erofsInvalid(`an xattr has the unknown prefix ${index}`);
  const name = prefix + area.toString("utf8", start, start + nameBytes);
  if (splitXattrName(name)?.rest.equals(area.subarray(start, start + nameBytes)) !== true) {
    throw erofsInvalid("an xattr has an invalid name");
  }
  const value = Uint8Array.from(area.subarray(start + nameBytes, start + nameBytes + valueBytes));
  return { name, value, next: at + align4(XATTR_ENTRY_BYTES + nameBytes + valueBytes) };
}

/**
 * The xattrs of an inode's area; `readShared` gives the bytes at a shared entry's number.
 *
 * @throws `image.erofs-invalid` (corrupt)
 */
export async function decodeXattrs(
  area: Buffer,
  readShared: (id: number) => Promise<Buffer>,
): Promise<Xattrs> {
  if (area.length === 0) return new Map();
  const shared = area.readUInt8(4);
  const xattrs = new Map<string, Uint8Array>();
  let at = HEADER_BYTES + shared * 4;
  if (at > area.length) throw erofsInvalid("shared xattrs leave their area");
  const add = ({ name, value }: DecodedXattr): void => {
    if (xattrs.has(name)) throw erofsInvalid(`an inode has the xattr ${name} twice`);
    xattrs.set(name, value);
  };
  for (let index = 0; index < shared; index += 1) {
    add(decodeXattr(await readShared(area.readUInt32LE(HEADER_BYTES + index * 4)), 0));
  }
  while (at < area.length) {
    const entry = decodeXattr(area, at);
    add(entry);
    at = entry.next;
  }
  return xattrs;
}
