/** An OVA: which of its members is the disk, and what its descriptor says of the machine. */
import { createHash } from "node:crypto";
import { damaged, unsupported } from "../errors.ts";
import { bytesAt, type DiskBytes } from "../source.ts";
import { readArchive, type ArchiveMember } from "./archive.ts";
import { chooseDisk, noteOf, type MachineDescription } from "./description.ts";
import { MANIFEST_BYTES_MAX, readManifest, type ManifestLine } from "./manifest.ts";
import { readOvf } from "./ovf.ts";
import { XML_BYTES_MAX } from "./xml.ts";

const CHUNK_BYTES = 2 ** 20;

export interface OvaContent {
  readonly description: MachineDescription;
  /** Where the disk lies in the archive. */
  readonly disk: ArchiveMember;
}

type Members = ReadonlyMap<string, ArchiveMember>;

function only(members: Members, ending: string, what: string): ArchiveMember | undefined {
  const found = [...members.values()].filter(({ name }) => name.toLowerCase().endsWith(ending));
  if (found.length > 1) throw damaged(what, `it has several members that end with ${ending}`);
  return found[0];
}

async function textOf(disk: DiskBytes, member: ArchiveMember, bytesMax: number, what: string) {
  const { name, offset, sizeBytes } = member;
  if (sizeBytes > bytesMax) throw damaged(what, `"${name}" is longer than ${bytesMax} bytes`);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(await bytesAt(disk, offset, sizeBytes));
  } catch (cause) {
    throw damaged(what, `"${name}" is no text`, cause);
  }
}

async function checkSum(
  disk: DiskBytes,
  { offset, sizeBytes }: ArchiveMember,
  { kind, file, hex }: ManifestLine,
  what: string,
  signal: AbortSignal,
): Promise<void> {
  const sum = createHash(kind);
  for (let at = 0; at < sizeBytes; at += CHUNK_BYTES) {
    signal.throwIfAborted();
    sum.update(await bytesAt(disk, offset + at, Math.min(CHUNK_BYTES, sizeBytes - at)));
  }
  if (sum.digest("hex") !== hex) throw damaged(what, `"${file}" is not what its manifest says`);
}

/** Every sum that the archive brings; a member of which it has none is taken as it is. */
async function checkManifest(
  disk: DiskBytes,
  members: Members,
  what: string,
  signal: AbortSignal,
): Promise<void> {
  const member = only(members, ".mf", what);
  if (member === undefined) return;
  const lines = readManifest(await textOf(disk, member, MANIFEST_BYTES_MAX, what), what);
  const seen = new Set<string>();
  for (const line of lines) {
    const named = members.get(line.file);
    if (named === undefined)
      throw damaged(what, `its manifest names "${line.file}", which is missing`);
    if (seen.has(line.file)) throw damaged(what, `its manifest names "${line.file}" twice`);
    seen.add(line.file);
    await checkSum(disk, named, line, what, signal);
  }
}

/**
 * Reads descriptor and manifest of an archive, checks the sums, and finds the disk.
 *
 * @param wanted the disk's name in the archive, where there are several
 * @param what for messages
 * @throws `import.image-damaged` (corrupt), `import.unsupported`, `import.disk-ambiguous`,
 *   `import.disk-not-found` (misuse)
 */
export async function readOva(
  disk: DiskBytes,
  wanted: string | undefined,
  what: string,
  signal: AbortSignal,
): Promise<OvaContent> {
  const members = await readArchive(disk, what);
  const descriptor = only(members, ".ovf", what);
  if (descriptor === undefined) {
    throw unsupported(
      what,
      "an archive without an OVF descriptor",
      "give an OVA, or the disk itself",
    );
  }
  const { disks, ...description } = readOvf(
    await textOf(disk, descriptor, XML_BYTES_MAX, what),
    what,
  );
  const chosen = chooseDisk(what, disks, wanted);
  const member = members.get(chosen.file);
  if (member === undefined) throw damaged(what, `its disk "${noteOf(chosen.file)}" is missing`);
  await checkManifest(disk, members, what, signal);
  const others = disks
    .filter((item) => item !== chosen)
    .map(({ file }) => noteOf(`disk "${file}"`));
  const notCarried = [...others, ...description.notCarried];
  return { description: { ...description, notCarried }, disk: member };
}
