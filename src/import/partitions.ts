/** Partition tables: MBR with logical partitions, and GPT (UEFI 2.10, section 5). */
import { crc32 } from "node:zlib";
import { damaged } from "./errors.ts";
import { bytesAt, type DiskBytes } from "./source.ts";

export interface Partition {
  /** As Linux counts: primary 1 to 4, logical from 5; of a GPT its place in the table. */
  readonly number: number;
  readonly offset: number;
  readonly sizeBytes: number;
  /** MBR: two hexadecimal digits; GPT: the type's GUID, lower case. */
  readonly type: string;
  /** `PARTUUID` as Linux tells it: of a GPT the GUID, of an MBR disk id and number. */
  readonly uuid: string;
}

export interface PartitionTable {
  readonly scheme: "mbr" | "gpt" | "none";
  readonly partitions: readonly Partition[];
}

const SECTOR_BYTES = 512;
const MBR_MAGIC = 0xaa55;
const PROTECTIVE = 0xee;
const EXTENDED: ReadonlySet<number> = new Set([0x05, 0x0f, 0x85]);
const LOGICAL_MAX = 60;
/** What is taken of a table; usual are 128 entries of 128 bytes. */
const ENTRIES_MAX = 1024;
const ENTRY_BYTES_MAX = 4096;

interface MbrEntry {
  readonly type: number;
  readonly firstSector: number;
  readonly sectors: number;
}

const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, "0");

function mbrEntries(sector: Buffer): MbrEntry[] {
  return [0, 1, 2, 3].map((index) => {
    const at = 446 + index * 16;
    return {
      type: sector.readUInt8(at + 4),
      firstSector: sector.readUInt32LE(at + 8),
      sectors: sector.readUInt32LE(at + 12),
    };
  });
}

const isUsed = ({ type, sectors }: MbrEntry): boolean => type !== 0 && sectors !== 0;

function checkInside(disk: DiskBytes, offset: number, sizeBytes: number, name: string): void {
  const inside = offset >= SECTOR_BYTES && sizeBytes > 0 && offset + sizeBytes <= disk.sizeBytes;
  if (!inside) throw damaged(name, `it ends beyond the disk of ${disk.sizeBytes} bytes`);
}

function mbrPartition(
  disk: DiskBytes,
  diskId: string,
  { type, sectors }: MbrEntry,
  place: { readonly number: number; readonly sector: number },
): Partition {
  const offset = place.sector * SECTOR_BYTES;
  const sizeBytes = sectors * SECTOR_BYTES;
  checkInside(disk, offset, sizeBytes, `partition ${place.number}`);
  const uuid = `${diskId}-${hex(place.number, 2)}`;
  return { number: place.number, offset, sizeBytes, type: hex(type, 2), uuid };
}

/** Follows the chain of extended boot records; each may only lie behind the one before. */
async function logicalPartitions(
  disk: DiskBytes,
  diskId: string,
  extended: MbrEntry,
): Promise<Partition[]> {
  const found: Partition[] = [];
  let at = extended.firstSector;
  while (found.length <= LOGICAL_MAX) {
    if ((at + 1) * SECTOR_BYTES > disk.sizeBytes)
      throw damaged("the extended partition", "too short");
    const record = await bytesAt(disk, at * SECTOR_BYTES, SECTOR_BYTES);
    if (record.readUInt16LE(510) !== MBR_MAGIC) return found;
    const [own, next] = mbrEntries(record);
    if (own !== undefined && isUsed(own)) {
      const place = { number: 5 + found.length, sector: at + own.firstSector };
      found.push(mbrPartition(disk, diskId, own, place));
    }
    if (next === undefined || !isUsed(next)) return found;
    const following = extended.firstSector + next.firstSector;
    if (following <= at) throw damaged("the extended partition", "its chain turns back");
    at = following;
  }
  throw damaged("the extended partition", `more than ${LOGICAL_MAX} logical partitions`);
}

async function readMbr(disk: DiskBytes, sector: Buffer): Promise<PartitionTable> {
  const diskId = hex(sector.readUInt32LE(440), 8);
  const partitions: Partition[] = [];
  for (const [index, entry] of mbrEntries(sector).entries()) {
    if (!isUsed(entry)) continue;
    if (EXTENDED.has(entry.type))
      partitions.push(...(await logicalPartitions(disk, diskId, entry)));
    else {
      const place = { number: index + 1, sector: entry.firstSector };
      partitions.push(mbrPartition(disk, diskId, entry, place));
    }
  }
  return { scheme: "mbr", partitions };
}

/** The mixed-endian text form of a GUID. */
function guidText(bytes: Buffer): string {
  const tail = bytes.toString("hex", 8);
  const head = [hex(bytes.readUInt32LE(0), 8), hex(bytes.readUInt16LE(4), 4)];
  return [...head, hex(bytes.readUInt16LE(6), 4), tail.slice(0, 4), tail.slice(4)].join("-");
}

interface GptHeader {
  readonly entriesAt: number;
  readonly entries: number;
  readonly entryBytes: number;
  readonly entriesCrc: number;
}

/** Undefined unless a sound header lies at this sector. */
async function gptHeader(
  disk: DiskBytes,
  sector: number,
  sectorBytes: number,
): Promise<GptHeader | undefined> {
  const at = sector * sectorBytes;
  if (at < 0 || at + sectorBytes > disk.sizeBytes) return undefined;
  const header = await bytesAt(disk, at, sectorBytes);
  if (header.toString("latin1", 0, 8) !== "EFI PART") return undefined;
  const length = header.readUInt32LE(12);
  if (length < 92 || length > sectorBytes) return undefined;
  const stated = header.readUInt32LE(16);
  header.writeUInt32LE(0, 16);
  if (crc32(header.subarray(0, length)) !== stated) return undefined;
  if (header.readBigUInt64LE(24) !== BigInt(sector)) return undefined;
  return {
    entriesAt: Number(header.readBigUInt64LE(72)) * sectorBytes,
    entries: header.readUInt32LE(80),
    entryBytes: header.readUInt32LE(84),
    entriesCrc: header.readUInt32LE(88),
  };
}

async function gptEntries(disk: DiskBytes, header: GptHeader): Promise<Buffer | undefined> {
  const { entries, entryBytes, entriesAt, entriesCrc } = header;
  if (entries > ENTRIES_MAX || entryBytes < 128 || entryBytes > ENTRY_BYTES_MAX) return undefined;
  const length = entries * entryBytes;
  if (entriesAt + length > disk.sizeBytes) return undefined;
  const table = await bytesAt(disk, entriesAt, length);
  return crc32(table) === entriesCrc ? table : undefined;
}

function gptPartitions(disk: DiskBytes, table: Buffer, entryBytes: number, sectorBytes: number) {
  const partitions: Partition[] = [];
  for (let index = 0; (index + 1) * entryBytes <= table.length; index += 1) {
    const entry = table.subarray(index * entryBytes, (index + 1) * entryBytes);
    const type = guidText(entry.subarray(0, 16));
    if (type === "00000000-0000-0000-0000-000000000000") continue;
    const first = Number(entry.readBigUInt64LE(32));
    const last = Number(entry.readBigUInt64LE(40));
    const offset = first * sectorBytes;
    const sizeBytes = (last - first + 1) * sectorBytes;
    checkInside(disk, offset, sizeBytes, `partition ${index + 1}`);
    const uuid = guidText(entry.subarray(16, 32));
    partitions.push({ number: index + 1, offset, sizeBytes, type, uuid });
  }
  return partitions;
}

/** The table of the first sound header of the two, each with a sound list of entries. */
async function readGpt(disk: DiskBytes): Promise<PartitionTable> {
  for (const sectorBytes of [SECTOR_BYTES, 4096]) {
    for (const sector of [1, Math.floor(disk.sizeBytes / sectorBytes) - 1]) {
      const header = await gptHeader(disk, sector, sectorBytes);
      const table = header && (await gptEntries(disk, header));
      if (header === undefined || table === undefined) continue;
      const partitions = gptPartitions(disk, table, header.entryBytes, sectorBytes);
      return { scheme: "gpt", partitions };
    }
  }
  throw damaged("the GUID partition table", "neither of its copies is sound");
}

function checkOverlap(partitions: readonly Partition[]): void {
  const sorted = partitions.toSorted((a, b) => a.offset - b.offset);
  for (const [index, partition] of sorted.entries()) {
    const next = sorted[index + 1];
    if (next === undefined || partition.offset + partition.sizeBytes <= next.offset) continue;
    throw damaged(`partition ${partition.number}`, `it overlaps partition ${next.number}`);
  }
}

/**
 * The partitions of a disk; `none` where it has no table, as when a file system fills it whole.
 *
 * @throws `import.image-damaged` (corrupt): overlapping or reaching beyond the disk, or a GPT of
 *   which neither copy is sound
 */
export async function readPartitions(disk: DiskBytes): Promise<PartitionTable> {
  if (disk.sizeBytes < 2 * SECTOR_BYTES) return { scheme: "none", partitions: [] };
  const sector = await bytesAt(disk, 0, SECTOR_BYTES);
  if (sector.readUInt16LE(510) !== MBR_MAGIC) return { scheme: "none", partitions: [] };
  const used = mbrEntries(sector).filter(isUsed);
  /* A boot sector of a file system has the magic number too, and text where entries would be. */
  if (used.length === 0) return { scheme: "none", partitions: [] };
  const isGpt = used.some(({ type }) => type === PROTECTIVE);
  const table = isGpt ? await readGpt(disk) : await readMbr(disk, sector);
  checkOverlap(table.partitions);
  return table;
}
