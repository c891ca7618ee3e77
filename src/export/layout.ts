/** Where everything lies on an exported disk. Pure. */
import { formatFault } from "#block";
import { TesseraError, formatBytes } from "#core";
import { contentBytes } from "#import";
import type { Tree } from "#image";
import type { ExportFormat } from "./contract.ts";
import { GPT_TYPE, SECTOR_BYTES, type NewPartition } from "./gpt.ts";
import type { DiskIdentity } from "./identity.ts";

const MIB = 2 ** 20;
const BIOS_AT = MIB;
const ESP_AT = 2 * MIB;
export const ESP_BYTES = 64 * MIB;
const ROOT_AT = ESP_AT + ESP_BYTES;
/** Behind the root lies the table's second copy. */
const END_BYTES = MIB;
const BLOCK_BYTES = 4096;
/** Journal, and a little air. */
const FIXED_BYTES = 64 * MIB;
const INODE_BYTES = 256;
/** Of the file system's size: its inodes, as our writer lays it out, and what heads its groups. */
const OVERHEAD = 1 / 60;
const DISK_BYTES_MAX = 16 * 2 ** 40;

export interface DiskLayout {
  readonly diskBytes: number;
  readonly rootAt: number;
  readonly rootBytes: number;
  /** First sector of the BIOS boot partition. */
  readonly biosSector: number;
  readonly biosBytes: number;
  readonly espAt: number;
}

const wholeMib = (bytes: number): number => Math.ceil(bytes / MIB) * MIB;

/** Blocks that a tree takes at most, holes counted as data. */
function treeBytes(tree: Tree): number {
  const files = tree.entries.filter(({ type }) => type !== "directory").length;
  const directories = tree.entries.length - files;
  return (
    contentBytes(tree.entries) +
    files * (BLOCK_BYTES / 2 + INODE_BYTES) +
    directories * 2 * BLOCK_BYTES
  );
}

function sizeInvalid(message: string, remedy: string): TesseraError {
  return new TesseraError("misuse", "export.size-invalid", message, { remedy });
}

/**
 * Refuses a disk that a format cannot hold, before it is made.
 *
 * @throws `export.size-invalid` (misuse)
 */
export function checkFormat(format: ExportFormat, { diskBytes }: DiskLayout): void {
  const fault = formatFault(format === "ova" ? "vmdk" : format, diskBytes);
  if (fault !== undefined) throw sizeInvalid(fault, "choose a smaller --size, or another format");
}

/** The machine's files do not fit. */
export function tooSmall(sizeBytes: number): TesseraError {
  const message = `the machine's files do not fit on a disk of ${formatBytes(sizeBytes)}`;
  return sizeInvalid(message, "choose a larger one with --size, or leave it out");
}

/**
 * @param freeBytes what is to be free by default, beside the tree
 * @param sizeBytes of the disk as it was asked for; rounded up to whole MiB
 * @throws `export.size-invalid` (misuse)
 */
export function diskLayout(tree: Tree, freeBytes: number, sizeBytes?: number): DiskLayout {
  const wanted = (treeBytes(tree) + freeBytes + FIXED_BYTES) * (1 + OVERHEAD);
  const diskBytes = wholeMib(sizeBytes ?? ROOT_AT + wanted + END_BYTES);
  if (diskBytes > DISK_BYTES_MAX) {
    throw sizeInvalid(`a disk cannot have ${diskBytes} bytes`, "choose at most 16T with --size");
  }
  const rootBytes = diskBytes - ROOT_AT - END_BYTES;
  if (rootBytes < FIXED_BYTES) throw tooSmall(diskBytes);
  return {
    diskBytes,
    rootAt: ROOT_AT,
    rootBytes,
    biosSector: BIOS_AT / SECTOR_BYTES,
    biosBytes: ESP_AT - BIOS_AT,
    espAt: ESP_AT,
  };
}

const sectorsIn = (bytes: number): number => bytes / SECTOR_BYTES;

/** Numbered as Debian's own images for clouds are: the root is the first, though it lies last. */
export function partitionsOf(layout: DiskLayout, identity: DiskIdentity): NewPartition[] {
  return [
    {
      number: 1,
      type: GPT_TYPE.root,
      uuid: identity.root,
      name: "root",
      firstSector: sectorsIn(layout.rootAt),
      sectors: sectorsIn(layout.rootBytes),
    },
    {
      number: 14,
      type: GPT_TYPE.bios,
      uuid: identity.bios,
      name: "bios",
      firstSector: layout.biosSector,
      sectors: sectorsIn(layout.biosBytes),
    },
    {
      number: 15,
      type: GPT_TYPE.esp,
      uuid: identity.esp,
      name: "efi",
      firstSector: sectorsIn(layout.espAt),
      sectors: sectorsIn(ESP_BYTES),
    },
  ];
}
