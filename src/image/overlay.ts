/** How overlayfs writes changes down (Linux, Documentation/filesystems/overlayfs.rst). */
import { TesseraError } from "#core";
import type { TreeEntry } from "./contract.ts";
import { plainDirectory } from "./entry.ts";

const PREFIX = "trusted.overlay.";
const OPAQUE = `${PREFIX}opaque`;

export function isWhiteout(entry: TreeEntry): boolean {
  return entry.type === "character" && entry.major === 0 && entry.minor === 0;
}

export function whiteout(path: string): TreeEntry {
  return { ...plainDirectory(path), type: "character", mode: 0, major: 0, minor: 0 };
}

export function isOpaque(entry: TreeEntry): boolean {
  const value = entry.xattrs.get(OPAQUE);
  return value !== undefined && Buffer.from(value).toString("latin1") === "y";
}

export function opaque(entry: TreeEntry): TreeEntry {
  return { ...entry, xattrs: new Map([...entry.xattrs, [OPAQUE, Buffer.from("y")]]) };
}

/** The entry as the mounted overlay shows it. @throws `image.overlay-unsupported` (misuse) */
export function withoutOverlayXattrs(entry: TreeEntry): TreeEntry {
  const names = [...entry.xattrs.keys()].filter((name) => name.startsWith(PREFIX));
  if (names.length === 0) return entry;
  const other = names.find((name) => name !== OPAQUE);
  if (other !== undefined) throw unsupported(entry, `the xattr ${other}`);
  return { ...entry, xattrs: new Map([...entry.xattrs].filter(([name]) => name !== OPAQUE)) };
}

/** A finished tree has no marks of an overlay. @throws `image.overlay-unsupported` (misuse) */
export function checkNoOverlay(entry: TreeEntry): void {
  if (isWhiteout(entry)) throw unsupported(entry, "a whiteout");
  const mark = [...entry.xattrs.keys()].find((name) => name.startsWith(PREFIX));
  if (mark !== undefined) throw unsupported(entry, `the xattr ${mark}`);
}

function unsupported(entry: TreeEntry, what: string): TesseraError {
  const message = `"${entry.path}" has ${what}, which has no meaning here`;
  return new TesseraError("misuse", "image.overlay-unsupported", message, { subject: entry.path });
}
