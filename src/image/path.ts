import { pathInvalid } from "./errors.ts";

/** Linux's PATH_MAX and NAME_MAX, in bytes, without the terminating NUL. */
export const PATH_BYTES_MAX = 4095;
export const NAME_BYTES_MAX = 255;

/** Code units from here on do not sort as their UTF-8 bytes do. */
const SURROGATES = 0xd800;
const AFTER_SURROGATES = 0xe000;

/** Surrogates stand for code points above every code unit, so they sort after all of those. */
function rank(unit: number): number {
  if (unit < SURROGATES) return unit;
  return unit < AFTER_SURROGATES ? unit + 0x10000 : unit;
}

/** Compares well-formed strings as their UTF-8 bytes compare; negative when `a` comes first. */
export function compareBytes(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let index = 0; index < length; index += 1) {
    const difference = rank(a.charCodeAt(index)) - rank(b.charCodeAt(index));
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

/** The path of the directory that holds `path`; the root for entries of the root. */
export function parentOf(path: string): string {
  const slash = path.lastIndexOf("/");
  return slash < 0 ? "" : path.slice(0, slash);
}

/** The last segment. */
export function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

function segmentFault(segment: string): string | undefined {
  if (segment === "") return "has an empty segment or a slash at an end";
  if (segment === "." || segment === "..") return `has a segment "${segment}"`;
  if (Buffer.byteLength(segment) > NAME_BYTES_MAX) {
    return `has a segment of more than ${NAME_BYTES_MAX} bytes`;
  }
  return undefined;
}

/** @throws `image.path-invalid` (misuse) unless the path is relative, plain and short enough. */
export function checkPath(path: string): void {
  if (path === "") return;
  if (!path.isWellFormed()) throw pathInvalid(path, "is not Unicode");
  if (path.includes("\0")) throw pathInvalid(path, "has a NUL");
  if (Buffer.byteLength(path) > PATH_BYTES_MAX) {
    throw pathInvalid(`${path.slice(0, 80)}...`, `has more than ${PATH_BYTES_MAX} bytes`);
  }
  for (const segment of path.split("/")) {
    const fault = segmentFault(segment);
    if (fault !== undefined) throw pathInvalid(path, fault);
  }
}
