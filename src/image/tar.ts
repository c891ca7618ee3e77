import { TesseraError } from "#core";
import { sliceSource } from "./content.ts";
import type { ContentSource, Tree, TreeEntry } from "./contract.ts";
import { tarInvalid } from "./errors.ts";
import { parsePax, type PaxRecords } from "./pax.ts";
import { TAR_BLOCK_BYTES, parseTarHeader, type TarHeader } from "./tar-header.ts";
import { ENTRIES_MAX, canonicalTree } from "./tree.ts";
import { windowReader, type WindowReader } from "./window.ts";

const EXTENSION_BYTES_MAX = 1024 * 1024;
const XATTR_PREFIX = "SCHILY.xattr.";
const NO_RECORDS: PaxRecords = new Map();

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** What headers before an entry's own say about it. */
interface Extensions {
  global: PaxRecords;
  records: PaxRecords;
  longName: Buffer | undefined;
  longLink: Buffer | undefined;
}

interface Archive {
  readonly source: ContentSource;
  readonly reader: WindowReader;
  readonly entries: Map<string, TreeEntry>;
}

function text(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw tarInvalid("a name is not UTF-8", cause);
  }
}

/** Without a leading `./` or `/` and a trailing slash, as tar programs write them. */
function plainPath(bytes: Uint8Array): string {
  const parts = text(bytes).split("/");
  return parts.filter((part) => part !== "" && part !== ".").join("/");
}

function decimal(bytes: Buffer | undefined, otherwise: number): number {
  if (bytes === undefined) return otherwise;
  const value = Math.floor(Number(bytes.toString("latin1") || "NaN"));
  if (Number.isSafeInteger(value)) return value;
  throw tarInvalid("an extended header has an invalid number");
}

/** The header with what its extensions replace. */
function extended(header: TarHeader, extensions: Extensions): TarHeader {
  const record = (name: string): Buffer | undefined =>
    extensions.records.get(name) ?? extensions.global.get(name);
  return {
    ...header,
    name: record("path") ?? extensions.longName ?? header.name,
    linkName: record("linkpath") ?? extensions.longLink ?? header.linkName,
    sizeBytes: decimal(record("size"), header.sizeBytes),
    uid: decimal(record("uid"), header.uid),
    gid: decimal(record("gid"), header.gid),
    mtime_s: decimal(record("mtime"), header.mtime_s),
  };
}

function xattrsOf(records: PaxRecords): Map<string, Uint8Array> {
  const xattrs = new Map<string, Uint8Array>();
  for (const [name, value] of records) {
    if (name.startsWith("GNU.sparse.")) throw tarInvalid("sparse entries are not supported");
    if (name.startsWith(XATTR_PREFIX)) xattrs.set(name.slice(XATTR_PREFIX.length), value);
  }
  return xattrs;
}

/** A hard link takes everything from what it links to, which comes before it. */
function linkEntry(archive: Archive, path: string, linkName: Buffer): TreeEntry {
  const target = plainPath(linkName);
  const known = archive.entries.get(target);
  if (known === undefined) throw tarInvalid(`"${path}" links to "${target}", which is missing`);
  if (known.type === "directory") throw tarInvalid(`"${path}" links to a directory`);
  if (known.type !== "file") return { ...known, path };
  const linkGroup = known.linkGroup ?? `${archive.entries.size} ${target}`;
  archive.entries.set(target, { ...known, linkGroup });
  return { ...known, path, linkGroup };
}

function entryOf(
  archive: Archive,
  header: TarHeader,
  records: PaxRecords,
  dataOffset: number,
): TreeEntry {
  const { mode, uid, gid, mtime_s, major, minor, typeFlag } = header;
  const path = plainPath(header.name);
  const common = { path, mode, uid, gid, mtime_s, xattrs: xattrsOf(records) };
  switch (typeFlag) {
    case "\0":
    case "0":
    case "7":
      if (header.name.at(-1) === 0x2f) return { ...common, type: "directory" };
      return {
        ...common,
        type: "file",
        content: sliceSource(archive.source, dataOffset, header.sizeBytes),
      };
    case "1":
      return linkEntry(archive, path, header.linkName);
    case "2":
      return { ...common, type: "symlink", target: text(header.linkName) };
    case "3":
      return { ...common, type: "character", major, minor };
    case "4":
      return { ...common, type: "block", major, minor };
    case "5":
      return { ...common, type: "directory" };
    case "6":
      return { ...common, type: "fifo" };
    default:
      throw tarInvalid(`"${path}" has the unknown type "${typeFlag}"`);
  }
}

/** Takes in a header that only extends the next one; false for an entry's own. */
function takeExtension(extensions: Extensions, typeFlag: string, body: Buffer): boolean {
  const end = body.indexOf(0);
  const name = end < 0 ? body : body.subarray(0, end);
  switch (typeFlag) {
    case "x":
      extensions.records = parsePax(body);
      return true;
    case "g":
      extensions.global = new Map([...extensions.global, ...parsePax(body)]);
      return true;
    case "L":
      extensions.longName = name;
      return true;
    case "K":
      extensions.longLink = name;
      return true;
    default:
      return false;
  }
}

/** Links and special files have no data whatever their header's size says, but for pax files. */
function dataBytes(header: TarHeader): number {
  return /[0-7\0]/.test(header.typeFlag) && /[1-6]/.test(header.typeFlag) ? 0 : header.sizeBytes;
}

function freshExtensions(global: PaxRecords): Extensions {
  return { global, records: NO_RECORDS, longName: undefined, longLink: undefined };
}

async function readEntries(archive: Archive): Promise<void> {
  const { source, reader, entries } = archive;
  let extensions = freshExtensions(NO_RECORDS);
  for (let at = 0; at < source.sizeBytes;) {
    if (at + TAR_BLOCK_BYTES > source.sizeBytes) throw tarInvalid("it ends within a header");
    const plain = parseTarHeader(await reader.read(at, TAR_BLOCK_BYTES));
    if (plain === undefined) return;
    const dataOffset = at + TAR_BLOCK_BYTES;
    const isExtension = "xgLK".includes(plain.typeFlag);
    const header = isExtension ? plain : extended(plain, extensions);
    const length = dataBytes(header);
    if (length < 0 || dataOffset + length > source.sizeBytes) {
      throw tarInvalid("it ends within an entry");
    }
    at = dataOffset + Math.ceil(length / TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES;
    if (isExtension) {
      if (length > EXTENSION_BYTES_MAX) throw tarInvalid("an extended header is too long");
      takeExtension(extensions, plain.typeFlag, await reader.read(dataOffset, length));
      continue;
    }
    const records = new Map([...extensions.global, ...extensions.records]);
    const entry = entryOf(archive, header, records, dataOffset);
    entries.set(entry.path, entry);
    if (entries.size > ENTRIES_MAX) throw tarInvalid("it has too many entries");
    extensions = freshExtensions(extensions.global);
  }
}

/**
 * The tree in a tar archive (POSIX ustar and pax with `SCHILY.xattr` records, GNU long names), not
 * compressed. Contents stay in the source and are read when wanted. A later entry replaces an
 * earlier one of the same path, as when tar extracts.
 *
 * @throws `image.tar-invalid` (corrupt)
 */
export async function readTar(source: ContentSource): Promise<Tree> {
  return treeOf((await readTarEntries(source)).values());
}

/**
 * The entries of an archive by path, as they are there: directories that it leaves out are not added,
 * and paths are not checked.
 */
export async function readTarEntries(
  source: ContentSource,
): Promise<ReadonlyMap<string, TreeEntry>> {
  const archive: Archive = { source, reader: windowReader(source), entries: new Map() };
  await readEntries(archive);
  return archive.entries;
}

/** @throws `image.tar-invalid` (corrupt) */
export function treeOf(entries: Iterable<TreeEntry>): Tree {
  try {
    return canonicalTree(entries);
  } catch (cause) {
    if (!(cause instanceof TesseraError)) throw cause;
    throw tarInvalid(cause.message, cause);
  }
}
