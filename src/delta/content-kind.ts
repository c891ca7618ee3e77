import { baseName } from "./version-path.ts";

/** Directories whose files without an extension are programs. */
const PROGRAMS = /(?:^|\/)(?:s?bin|libexec|lib\d*)\//;
const LIBRARY = /\.(?:so|ko|a|o|node)(?:\.[\d.]+)?$/;

/**
 * What a content is likely to be, by its path: contents of one kind compress well together.
 * `elf` for programs and libraries, else the extension in lower case, else `none`.
 */
export function kindOf(path: string): string {
  const name = baseName(path);
  if (LIBRARY.test(name)) return "elf";
  const extension = /\.([A-Za-z][A-Za-z0-9_-]{0,9})$/.exec(name.slice(1))?.[1];
  if (extension !== undefined) return `.${extension.toLowerCase()}`;
  return PROGRAMS.test(path) ? "elf" : "none";
}

/** Extensions of contents that are compressed themselves. */
const COMPRESSED = new Set(".gz .xz .bz2 .zst .zip .jar .whl .png .jpg .jpeg .woff2".split(" "));

/** Whether a content is compressed itself, by its path: then it hardly becomes smaller. */
export function isCompressed(path: string): boolean {
  return COMPRESSED.has(kindOf(path));
}
