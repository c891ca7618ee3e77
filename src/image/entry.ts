import type { TreeEntry } from "./contract.ts";
import { entryInvalid } from "./errors.ts";
import { PATH_BYTES_MAX, compareBytes } from "./path.ts";
import { XATTR_AREA_BYTES_MAX, splitXattrName, xattrAreaBytes } from "./xattr.ts";

const U32_MAX = 0xffff_ffff;
/** Linux's device numbers have 12 and 20 bits. */
const MAJOR_MAX = 0xfff;
const MINOR_MAX = 0xf_ffff;
const MTIME_MAX_S = 2 ** 40;

function within(value: number, min: number, max: number): boolean {
  return Number.isSafeInteger(value) && value >= min && value <= max;
}

function xattrFault(xattrs: ReadonlyMap<string, Uint8Array>): string | undefined {
  for (const [name, value] of xattrs) {
    if (splitXattrName(name) === undefined) return `has an xattr "${name}" that cannot be kept`;
    if (value.length > 0xffff) return `has an xattr "${name}" of more than 65535 bytes`;
  }
  if (xattrAreaBytes(xattrs) <= XATTR_AREA_BYTES_MAX) return undefined;
  return `has more than ${XATTR_AREA_BYTES_MAX} bytes of xattrs`;
}

function targetFault(target: string): string | undefined {
  if (target === "") return "is a symbolic link to nothing";
  if (!target.isWellFormed() || target.includes("\0")) return "has an invalid link target";
  if (Buffer.byteLength(target) > PATH_BYTES_MAX) return "has a link target that is too long";
  return undefined;
}

function typeFault(entry: TreeEntry): string | undefined {
  if (entry.type === "file") {
    return within(entry.content.sizeBytes, 0, 2 ** 43) ? undefined : "has an invalid size";
  }
  if (entry.type === "symlink") return targetFault(entry.target);
  if (entry.type !== "character" && entry.type !== "block") return undefined;
  const valid = within(entry.major, 0, MAJOR_MAX) && within(entry.minor, 0, MINOR_MAX);
  return valid ? undefined : "has an invalid device number";
}

function commonFault(entry: TreeEntry): string | undefined {
  if (!within(entry.mode, 0, 0o7777)) return "has an invalid mode";
  if (!within(entry.uid, 0, U32_MAX)) return "has an invalid user id";
  if (!within(entry.gid, 0, U32_MAX)) return "has an invalid group id";
  if (!within(entry.mtime_s, -MTIME_MAX_S, MTIME_MAX_S)) return "has an invalid time";
  return undefined;
}

/** @throws `image.entry-invalid` (misuse) unless every field is within its range. */
export function checkEntry(entry: TreeEntry): void {
  const fault = commonFault(entry) ?? typeFault(entry) ?? xattrFault(entry.xattrs);
  if (fault !== undefined) throw entryInvalid(entry.path, fault);
}

const NO_XATTRS: ReadonlyMap<string, Uint8Array> = new Map();

/** The same map sorted by the bytes of the names. */
export function sortedXattrs(
  xattrs: ReadonlyMap<string, Uint8Array>,
): ReadonlyMap<string, Uint8Array> {
  if (xattrs.size === 0) return NO_XATTRS;
  return new Map([...xattrs].toSorted(([a], [b]) => compareBytes(a, b)));
}

export function sameXattrs(
  a: ReadonlyMap<string, Uint8Array>,
  b: ReadonlyMap<string, Uint8Array>,
): boolean {
  if (a.size !== b.size) return false;
  return [...a].every(([name, value]) => {
    const other = b.get(name);
    return other !== undefined && Buffer.compare(value, other) === 0;
  });
}

/** A directory that nobody described: root's, 0755, at the epoch. */
export function plainDirectory(path: string): TreeEntry {
  return { type: "directory", path, mode: 0o755, uid: 0, gid: 0, mtime_s: 0, xattrs: NO_XATTRS };
}
