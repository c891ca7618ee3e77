/** ACLs as ext4 stores them (fs/ext4/acl.h) and as extended attributes show them (posix_acl_xattr.h). */

const STORED_VERSION = 1;
const SHOWN_VERSION = 2;
const NO_ID = 0xffff_ffff;
/** Entries for one user or one group carry its id. */
const NAMED: ReadonlySet<number> = new Set([0x02, 0x08]);

interface AclEntry {
  readonly tag: number;
  readonly permissions: number;
  readonly id: number;
}

function encodeShown(entries: readonly AclEntry[]): Buffer {
  const bytes = Buffer.alloc(4 + entries.length * 8);
  bytes.writeUInt32LE(SHOWN_VERSION, 0);
  for (const [index, { tag, permissions, id }] of entries.entries()) {
    const at = 4 + index * 8;
    bytes.writeUInt16LE(tag, at);
    bytes.writeUInt16LE(permissions, at + 2);
    bytes.writeUInt32LE(id, at + 4);
  }
  return bytes;
}

/** Undefined for what is no ACL. */
export function shownAcl(stored: Buffer): Buffer | undefined {
  if (stored.length < 4 || stored.readUInt32LE(0) !== STORED_VERSION) return undefined;
  const entries: AclEntry[] = [];
  for (let at = 4; at < stored.length;) {
    if (at + 4 > stored.length) return undefined;
    const tag = stored.readUInt16LE(at);
    const named = NAMED.has(tag);
    if (named && at + 8 > stored.length) return undefined;
    const id = named ? stored.readUInt32LE(at + 4) : NO_ID;
    entries.push({ tag, permissions: stored.readUInt16LE(at + 2), id });
    at += named ? 8 : 4;
  }
  return encodeShown(entries);
}

/** Undefined for what is no ACL. */
export function storedAcl(shown: Buffer): Buffer | undefined {
  const whole = shown.length >= 4 && (shown.length - 4) % 8 === 0;
  if (!whole || shown.readUInt32LE(0) !== SHOWN_VERSION) return undefined;
  const parts: Buffer[] = [Buffer.from([STORED_VERSION, 0, 0, 0])];
  for (let at = 4; at < shown.length; at += 8) {
    const named = NAMED.has(shown.readUInt16LE(at));
    parts.push(shown.subarray(at, at + (named ? 8 : 4)));
  }
  return Buffer.concat(parts);
}
