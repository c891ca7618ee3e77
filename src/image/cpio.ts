import type { Digest } from "#core";
import type { ByteSink, Tree, TreeEntry } from "./contract.ts";
import { TYPES } from "./erofs-format.ts";
import { entryInvalid } from "./errors.ts";
import { outputTo, type Output } from "./output.ts";
import { linkGroupsOf } from "./tree.ts";

const TRAILER = "TRAILER!!!";
const ARCHIVE_BLOCK_BYTES = 512;

interface CpioFields {
  readonly inode: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly links: number;
  readonly mtime_s: number;
  readonly sizeBytes: number;
  readonly major: number;
  readonly minor: number;
}

/** A `newc` header (Linux, Documentation/driver-api/early-userspace/buffer-format.rst). */
function header(fields: CpioFields, name: string): Buffer {
  const numbers = [
    fields.inode,
    fields.mode,
    fields.uid,
    fields.gid,
    fields.links,
    fields.mtime_s,
    fields.sizeBytes,
    0,
    0,
    fields.major,
    fields.minor,
    Buffer.byteLength(name) + 1,
    0,
  ];
  const digits = numbers.map((number) => number.toString(16).padStart(8, "0")).join("");
  return Buffer.from(`070701${digits}${name}\0`);
}

function checkFields(entry: TreeEntry): void {
  const size = entry.type === "file" ? entry.content.sizeBytes : 0;
  if (entry.xattrs.size > 0) throw entryInvalid(entry.path, "has xattrs, which cpio cannot hold");
  const fits = size <= 0xffff_ffff && entry.mtime_s >= 0 && entry.mtime_s <= 0xffff_ffff;
  if (!fits) throw entryInvalid(entry.path, "has a size or time that cpio cannot hold");
}

function fieldsOf(entry: TreeEntry, inode: number, links: number): Omit<CpioFields, "sizeBytes"> {
  const device = entry.type === "character" || entry.type === "block";
  const kind = TYPES.find(({ type }) => type === entry.type)?.mode ?? 0;
  const { uid, gid, mtime_s } = entry;
  const [major, minor] = device ? [entry.major, entry.minor] : [0, 0];
  return { inode, mode: kind | entry.mode, uid, gid, links, mtime_s, major, minor };
}

async function writeEntry(
  output: Output,
  entry: TreeEntry,
  fields: Omit<CpioFields, "sizeBytes">,
  withData: boolean,
): Promise<void> {
  const target = entry.type === "symlink" ? Buffer.from(entry.target) : undefined;
  const content = entry.type === "file" && withData ? entry.content : undefined;
  const sizeBytes = target?.length ?? content?.sizeBytes ?? 0;
  await output.write(header({ ...fields, sizeBytes }, entry.path));
  await output.pad(4);
  if (target !== undefined) await output.write(target);
  if (content !== undefined) await output.copy(content);
  await output.pad(4);
}

/**
 * Writes a tree as an uncompressed cpio archive in the `newc` format, for an initramfs; equal trees
 * give equal bytes. Inodes are numbered in order, the root is left out, a linked file's content
 * stands at its last path.
 *
 * @throws `image.entry-invalid` (misuse) for xattrs, times before 1970 and files of 4 GiB or more
 */
export async function writeCpio(
  tree: Tree,
  sink: ByteSink,
): Promise<{ readonly digest: Digest; readonly sizeBytes: number }> {
  const output = outputTo(sink);
  const groups = linkGroupsOf(tree);
  const inodes = new Map<string, number>();
  for (const entry of tree.entries) {
    if (entry.path === "") continue;
    checkFields(entry);
    const group = entry.type === "file" ? (entry.linkGroup ?? entry.path) : entry.path;
    const inode = inodes.get(group) ?? inodes.size + 1;
    inodes.set(group, inode);
    const paths = groups.get(group);
    const withData = paths === undefined || paths.at(-1) === entry.path;
    const links = entry.type === "directory" ? 2 : (paths?.length ?? 1);
    await writeEntry(output, entry, fieldsOf(entry, inode, links), withData);
  }
  const none = { inode: 0, mode: 0, uid: 0, gid: 0, links: 1, mtime_s: 0, major: 0, minor: 0 };
  await output.write(header({ ...none, sizeBytes: 0 }, TRAILER));
  await output.pad(ARCHIVE_BLOCK_BYTES);
  const digest = await output.end();
  return { digest, sizeBytes: output.position() };
}
