/** Which format an image has and what it leans on, by bounded looks at its headers, before any tool opens it. */
import { damaged, unsupported } from "./errors.ts";
import { bytesAt, type DiskBytes } from "./source.ts";

export type ImageFormat = "raw" | "qcow2" | "vmdk" | "vpc" | "vhdx" | "vdi";

export const IMAGE_FORMATS: readonly ImageFormat[] = ["raw", "qcow2", "vmdk", "vpc", "vhdx", "vdi"];

/** What an image's headers name beside the image itself. */
export interface Leanings {
  /** The image below it. */
  readonly backing?: { readonly name: string; readonly format?: ImageFormat };
  /** Files with its data, beside a descriptor. */
  readonly extents: readonly string[];
}

const HEAD_BYTES = 65_536;
const NAME_BYTES_MAX = 1023;
const DESCRIPTOR_BYTES_MAX = 2 ** 20;
const EXTENTS_MAX = 4096;
const SIZE_BYTES_MAX = 2 ** 50;
const SECTOR_BYTES = 512;
const NOTHING: Leanings = { extents: [] };

async function head(file: DiskBytes, length = HEAD_BYTES): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  await file.read(bytes.subarray(0, Math.min(length, file.sizeBytes)), 0);
  return bytes;
}

async function footer(file: DiskBytes): Promise<Buffer> {
  if (file.sizeBytes < SECTOR_BYTES) return Buffer.alloc(SECTOR_BYTES);
  return await bytesAt(file, file.sizeBytes - SECTOR_BYTES, SECTOR_BYTES);
}

const VHD_COOKIE = "conectix";
const text = (bytes: Buffer, start: number, end: number): string =>
  bytes.toString("latin1", start, end);

/**
 * The format by its magic number; what has none is raw. Encrypted containers are refused.
 *
 * @throws `import.unsupported` (misuse)
 */
export async function detectFormat(file: DiskBytes, name: string): Promise<ImageFormat | "tar"> {
  const bytes = await head(file);
  if (text(bytes, 0, 6) === "LUKS\xba\xbe") throw encrypted(name);
  if (bytes.readUInt32BE(0) === 0x5146_49fb) return "qcow2";
  if (text(bytes, 0, 4) === "KDMV" || text(bytes, 0, 21) === "# Disk DescriptorFile") return "vmdk";
  if (text(bytes, 0, 8) === "vhdxfile") return "vhdx";
  if (bytes.readUInt32LE(0x40) === 0xbeda_107f) return "vdi";
  if (text(bytes, 257, 262) === "ustar") return "tar";
  if (text(bytes, 0, 8) === VHD_COOKIE || text(await footer(file), 0, 8) === VHD_COOKIE)
    return "vpc";
  return "raw";
}

function encrypted(name: string): Error {
  return unsupported(
    name,
    "encryption",
    "decrypt the image where its key is, and import the result",
  );
}

function merges(name: string, what: string): Error {
  return unsupported(name, what, "merge it with what it is based on: qemu-img convert");
}

function backingFormat(bytes: Buffer): ImageFormat | undefined {
  const version = bytes.readUInt32BE(4);
  let at = version === 2 ? 72 : bytes.readUInt32BE(100);
  while (at + 8 <= bytes.length && bytes.readUInt32BE(at) !== 0) {
    const length = bytes.readUInt32BE(at + 4);
    if (bytes.readUInt32BE(at) === 0xe279_2aca) {
      const stated = text(bytes, at + 8, Math.min(bytes.length, at + 8 + Math.min(length, 16)));
      return IMAGE_FORMATS.find((format) => format === stated);
    }
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return undefined;
}

/** QEMU, docs/interop/qcow2.txt. */
async function qcow2(file: DiskBytes, name: string): Promise<Leanings> {
  const bytes = await head(file);
  const version = bytes.readUInt32BE(4);
  if (version !== 2 && version !== 3) throw damaged(name, `qcow2 of version ${version}`);
  if (bytes.readUInt32BE(32) !== 0) throw encrypted(name);
  const sizeBytes = Number(bytes.readBigUInt64BE(24));
  const clusterBits = bytes.readUInt32BE(20);
  if (clusterBits < 9 || clusterBits > 21 || sizeBytes > SIZE_BYTES_MAX) {
    throw damaged(name, "its header claims absurd sizes");
  }
  const features = version === 3 ? bytes.readBigUInt64BE(72) : 0n;
  if ((features & 2n) !== 0n) throw damaged(name, "it is marked as corrupt");
  if ((features & 4n) !== 0n) throw merges(name, "qcow2 with its data in another file");
  if ((features & ~0x1fn) !== 0n) throw merges(name, "a feature of qcow2 that is not known");
  const at = Number(bytes.readBigUInt64BE(8));
  const length = bytes.readUInt32BE(16);
  if (at === 0) return NOTHING;
  const inside = length > 0 && length <= NAME_BYTES_MAX && at + length <= HEAD_BYTES * 32;
  if (!inside || at + length > file.sizeBytes) throw damaged(name, "its backing file has no name");
  const backing = (await bytesAt(file, at, length)).toString("utf8");
  const format = backingFormat(bytes);
  return { extents: [], backing: { name: backing, ...(format === undefined ? {} : { format }) } };
}

async function vmdkDescriptor(file: DiskBytes, name: string): Promise<string> {
  const bytes = await head(file, SECTOR_BYTES);
  const sparse = text(bytes, 0, 4) === "KDMV";
  const at = sparse ? Number(bytes.readBigUInt64LE(28)) * SECTOR_BYTES : 0;
  const length = sparse ? Number(bytes.readBigUInt64LE(36)) * SECTOR_BYTES : file.sizeBytes;
  if (length > DESCRIPTOR_BYTES_MAX || at + length > file.sizeBytes) {
    throw damaged(name, "its descriptor is not where it should be");
  }
  return (await bytesAt(file, at, length)).toString("latin1");
}

/** VMware Virtual Disk Format 5.0, "The Descriptor File". */
async function vmdk(file: DiskBytes, name: string): Promise<Leanings> {
  const descriptor = await vmdkDescriptor(file, name);
  const parent = /^parentCID\s*=\s*([0-9a-fA-F]{1,8})\s*$/m.exec(descriptor)?.[1] ?? "ffffffff";
  if (parent.toLowerCase() !== "ffffffff") throw merges(name, "a VMDK that is based on another");
  const extents = [...descriptor.matchAll(/^(?:RW|RDONLY)\s+\d+\s+[A-Z]+\s+"([^"\n]*)"/gm)];
  if (extents.length > EXTENTS_MAX) throw damaged(name, "it has too many extents");
  if ((await head(file, 4)).toString("latin1") === "KDMV") return NOTHING;
  return { extents: extents.map((match) => match[1] ?? "") };
}

async function vpc(file: DiskBytes, name: string): Promise<Leanings> {
  const end = await footer(file);
  const bytes = text(end, 0, 8) === VHD_COOKIE ? end : await head(file, SECTOR_BYTES);
  const type = bytes.readUInt32BE(60);
  if (type === 4) throw merges(name, "a VHD that is based on another");
  if (type !== 2 && type !== 3) throw damaged(name, `a VHD of type ${type}`);
  return NOTHING;
}

async function vdi(file: DiskBytes, name: string): Promise<Leanings> {
  const type = (await head(file, SECTOR_BYTES)).readUInt32LE(0x4c);
  if (type === 1 || type === 2) return NOTHING;
  throw merges(name, "a VDI that is based on another");
}

/**
 * What else an image would have opened with it.
 *
 * @throws `import.image-damaged` (corrupt), `import.unsupported` (misuse)
 */
export async function leaningsOf(
  file: DiskBytes,
  format: ImageFormat,
  name: string,
): Promise<Leanings> {
  if (format === "qcow2") return await qcow2(file, name);
  if (format === "vmdk") return await vmdk(file, name);
  if (format === "vpc") return await vpc(file, name);
  if (format === "vdi") return await vdi(file, name);
  return NOTHING;
}
