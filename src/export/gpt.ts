/** A GUID partition table (UEFI 2.10, section 5) as bytes: both copies and the protective MBR. */
import { crc32 } from "node:zlib";
import { uuidBytes } from "./identity.ts";

export const SECTOR_BYTES = 512;

/** Types of partitions. */
export const GPT_TYPE = {
  bios: "21686148-6449-6e6f-744e-656564454649",
  esp: "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
  root: "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
} as const;

export interface NewPartition {
  /** Its place in the table, 1 to 128. */
  readonly number: number;
  readonly type: string;
  readonly uuid: string;
  /** At most 36 characters. */
  readonly name: string;
  readonly firstSector: number;
  readonly sectors: number;
}

/** Bytes for a place on the disk. */
export interface Piece {
  readonly offset: number;
  readonly bytes: Buffer;
}

const ENTRIES = 128;
const ENTRY_BYTES = 128;
const TABLE_SECTORS = (ENTRIES * ENTRY_BYTES) / SECTOR_BYTES;
const HEADER_BYTES = 92;
/** What the table takes at the disk's end. */
const BACKUP_SECTORS = TABLE_SECTORS + 1;
export const BOOT_CODE_BYTES = 440;

/** A GUID as it is stored: its first three fields with the low byte first. */
export function guidBytes(uuid: string): Buffer {
  const bytes = uuidBytes(uuid);
  bytes.subarray(0, 4).reverse();
  bytes.subarray(4, 6).reverse();
  bytes.subarray(6, 8).reverse();
  return bytes;
}

function tableOf(partitions: readonly NewPartition[]): Buffer {
  const table = Buffer.alloc(ENTRIES * ENTRY_BYTES);
  for (const { number, type, uuid, name, firstSector, sectors } of partitions) {
    const at = (number - 1) * ENTRY_BYTES;
    table.set(guidBytes(type), at);
    table.set(guidBytes(uuid), at + 16);
    table.writeBigUInt64LE(BigInt(firstSector), at + 32);
    table.writeBigUInt64LE(BigInt(firstSector + sectors - 1), at + 40);
    table.write(name, at + 56, 72, "utf16le");
  }
  return table;
}

interface Header {
  readonly own: number;
  readonly other: number;
  readonly table: number;
}

function headerOf(place: Header, sectors: number, diskUuid: string, table: Buffer): Buffer {
  const bytes = Buffer.alloc(SECTOR_BYTES);
  bytes.write("EFI PART", 0, "latin1");
  bytes.writeUInt32LE(0x0001_0000, 8);
  bytes.writeUInt32LE(HEADER_BYTES, 12);
  bytes.writeBigUInt64LE(BigInt(place.own), 24);
  bytes.writeBigUInt64LE(BigInt(place.other), 32);
  bytes.writeBigUInt64LE(BigInt(2 + TABLE_SECTORS), 40);
  bytes.writeBigUInt64LE(BigInt(sectors - BACKUP_SECTORS - 1), 48);
  bytes.set(guidBytes(diskUuid), 56);
  bytes.writeBigUInt64LE(BigInt(place.table), 72);
  bytes.writeUInt32LE(ENTRIES, 80);
  bytes.writeUInt32LE(ENTRY_BYTES, 84);
  bytes.writeUInt32LE(crc32(table), 88);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, HEADER_BYTES)), 16);
  return bytes;
}

/** The MBR: boot code, and one partition that keeps tools from taking the disk for empty. */
function protectiveMbr(sectors: number, bootCode: Uint8Array): Buffer {
  const bytes = Buffer.alloc(SECTOR_BYTES);
  bytes.set(bootCode.subarray(0, BOOT_CODE_BYTES));
  bytes.set([0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff], 446);
  bytes.writeUInt32LE(1, 454);
  bytes.writeUInt32LE(Math.min(sectors - 1, 0xffff_ffff), 458);
  bytes.writeUInt16LE(0xaa55, 510);
  return bytes;
}

const at = (sector: number): number => sector * SECTOR_BYTES;

/** All bytes of the table of a disk of so many sectors. */
export function encodeGpt(
  sectors: number,
  diskUuid: string,
  partitions: readonly NewPartition[],
  bootCode: Uint8Array = new Uint8Array(),
): Piece[] {
  const table = tableOf(partitions);
  const last = sectors - 1;
  const first: Header = { own: 1, other: last, table: 2 };
  const backup: Header = { own: last, other: 1, table: last - TABLE_SECTORS };
  return [
    { offset: 0, bytes: protectiveMbr(sectors, bootCode) },
    { offset: at(first.own), bytes: headerOf(first, sectors, diskUuid, table) },
    { offset: at(first.table), bytes: table },
    { offset: at(backup.table), bytes: table },
    { offset: at(backup.own), bytes: headerOf(backup, sectors, diskUuid, table) },
  ];
}
