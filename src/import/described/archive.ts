/** The members of an OVA: plain files in a tar archive, by their places. */
import { TesseraError } from "#core";
import { parsePax, parseTarHeader, TAR_BLOCK_BYTES, type TarHeader } from "#image";
import { damaged, unsupported } from "../errors.ts";
import { bytesAt, type DiskBytes } from "../source.ts";

export interface ArchiveMember {
  readonly name: string;
  readonly offset: number;
  readonly sizeBytes: number;
}

const MEMBERS_MAX = 1000;
const NAME_BYTES_MAX = 255;
const EXTENSION_BYTES_MAX = 65_536;

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Of a name that leads nowhere else. */
function plainName(bytes: Buffer, what: string): string {
  let name = "";
  try {
    name = decoder.decode(bytes).replace(/^(?:\.\/)+/, "");
  } catch (cause) {
    throw damaged(what, "a name in it is no text", cause);
  }
  const parts = name.split("/");
  const isPlain = parts.every((part) => part !== "" && part !== "." && part !== "..");
  const isShort = bytes.length <= NAME_BYTES_MAX && !name.includes("\0") && !name.includes("\\");
  if (isPlain && isShort) return name;
  throw damaged(what, `it has a member "${name.slice(0, 80)}", which leads elsewhere`);
}

interface Extension {
  readonly name?: Buffer;
  readonly sizeBytes?: number;
}

async function extensionOf(disk: DiskBytes, at: number, length: number, what: string) {
  if (length > EXTENSION_BYTES_MAX) throw damaged(what, "an extended header is too long");
  const records = parsePax(await bytesAt(disk, at, length));
  const [name, size] = [records.get("path"), records.get("size")?.toString("latin1")];
  if (size !== undefined && !/^\d{1,15}$/.test(size)) throw damaged(what, "a size is no number");
  const extension: Extension = {
    ...(name === undefined ? {} : { name }),
    ...(size === undefined ? {} : { sizeBytes: Number(size) }),
  };
  return extension;
}

async function* membersIn(disk: DiskBytes, what: string): AsyncGenerator<ArchiveMember> {
  let extension: Extension = {};
  for (let at = 0; at + TAR_BLOCK_BYTES <= disk.sizeBytes;) {
    const header: TarHeader | undefined = parseTarHeader(await bytesAt(disk, at, TAR_BLOCK_BYTES));
    if (header === undefined) return;
    const offset = at + TAR_BLOCK_BYTES;
    const isExtension = header.typeFlag === "x" || header.typeFlag === "g";
    const sizeBytes = isExtension ? header.sizeBytes : (extension.sizeBytes ?? header.sizeBytes);
    if (offset + sizeBytes > disk.sizeBytes) throw damaged(what, "it ends within a member");
    at = offset + Math.ceil(sizeBytes / TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES;
    if (header.typeFlag === "x") extension = await extensionOf(disk, offset, sizeBytes, what);
    if (isExtension) continue;
    const name = plainName(extension.name ?? header.name, what);
    extension = {};
    if (!["0", "\0"].includes(header.typeFlag)) {
      throw unsupported(what, `the member "${name}", which is no plain file,`, "pack it again");
    }
    yield { name, offset, sizeBytes };
  }
}

/**
 * The members by name. Nothing of them is read.
 *
 * @throws `import.image-damaged` (corrupt), `import.unsupported` (misuse)
 */
export async function readArchive(
  disk: DiskBytes,
  what: string,
): Promise<ReadonlyMap<string, ArchiveMember>> {
  const members = new Map<string, ArchiveMember>();
  try {
    for await (const member of membersIn(disk, what)) {
      if (members.has(member.name)) throw damaged(what, `it has "${member.name}" twice`);
      if (members.size === MEMBERS_MAX) throw damaged(what, `more than ${MEMBERS_MAX} members`);
      members.set(member.name, member);
    }
  } catch (error) {
    const known = error instanceof TesseraError && error.code !== "image.tar-invalid";
    throw known ? error : damaged(what, "it is no sound archive", error);
  }
  return members;
}
