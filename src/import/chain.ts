/** The files that an image is made of, judged by our own reading before a tool is let near them. */
import { dirname, isAbsolute, join, normalize } from "node:path";
import { openFileDevice } from "#block";
import { TesseraError, type World } from "#core";
import { damaged, unsupported } from "./errors.ts";
import { detectFormat, leaningsOf, type ImageFormat } from "./format.ts";
import { partOf } from "./source.ts";

export interface ChainLink {
  readonly path: string;
  readonly format: ImageFormat;
  /** Of the file. */
  readonly sizeBytes: number;
  /** The part of the file that is the image; absent for the whole. */
  readonly window?: Window;
}

export interface Window {
  readonly offset: number;
  readonly sizeBytes: number;
}

export interface ChainOptions {
  /** Of the topmost file, which leans on no other then. */
  readonly window?: Window;
  /** Absent: by its magic number. */
  readonly format?: ImageFormat;
  /** Directories beside the image's own in which files that it names may lie. */
  readonly directories: readonly string[];
}

const DEPTH_MAX = 64;

function refused(path: string, name: string, why: string): TesseraError {
  const message = `${path} wants the file "${name}" opened with it, ${why}`;
  return new TesseraError("misuse", "import.backing-refused", message, {
    subject: name,
    remedy: "if that is meant, allow its directory with --backing DIRECTORY",
  });
}

/** A file that an image names: a plain file in a directory that is allowed. */
async function fileBeside(
  world: World,
  path: string,
  name: string,
  allowed: ReadonlySet<string>,
): Promise<string> {
  if (name === "" || name.includes("\0")) throw damaged(path, "it names a file without a name");
  const target = normalize(isAbsolute(name) ? name : join(dirname(path), name));
  if (!allowed.has(dirname(target))) throw refused(path, name, "which lies elsewhere");
  const kind = (await world.files.status(target))?.kind;
  if (kind !== "file") throw refused(path, name, "which is no file");
  return target;
}

async function look(
  world: World,
  path: string,
  stated: ImageFormat | undefined,
  window: Window | undefined,
) {
  const whole = await openFileDevice(world, path, { readOnly: true });
  try {
    const file = window === undefined ? whole : partOf(whole, window.offset, window.sizeBytes);
    const format = stated ?? (await detectFormat(file, path));
    if (format === "tar")
      throw unsupported(path, "an archive in place of an image", "give the OVA itself");
    return { format, sizeBytes: file.sizeBytes, ...(await leaningsOf(file, format, path)) };
  } finally {
    await whole.close();
  }
}

/**
 * The image and what it is based on, topmost first.
 *
 * @param path absolute
 * @throws `import.backing-refused`, `import.unsupported` (misuse), `import.image-damaged` (corrupt),
 *   `system.not-found`
 */
export async function readChain(
  world: World,
  path: string,
  options: ChainOptions,
): Promise<readonly ChainLink[]> {
  const allowed = new Set([dirname(path), ...options.directories].map((item) => normalize(item)));
  const chain: ChainLink[] = [];
  let [at, stated]: [string, ImageFormat | undefined] = [normalize(path), options.format];
  for (;;) {
    const window = chain.length === 0 ? options.window : undefined;
    const { format, sizeBytes, extents, backing } = await look(world, at, stated, window);
    const leans = extents.length > 0 || backing !== undefined;
    if (window !== undefined && leans)
      throw unsupported(path, "a disk in an archive that leans on other files", "unpack it first");
    for (const name of extents) await fileBeside(world, at, name, allowed);
    chain.push({ path: at, format, sizeBytes, ...(window === undefined ? {} : { window }) });
    if (backing === undefined) return chain;
    const next = await fileBeside(world, at, backing.name, allowed);
    if (chain.some((link) => link.path === next))
      throw damaged(path, "its backing files form a circle");
    if (chain.length === DEPTH_MAX) throw damaged(path, `more than ${DEPTH_MAX} backing files`);
    [at, stated] = [next, backing.format];
  }
}
