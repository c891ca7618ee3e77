/** A new FAT32 file system that holds the boot loader of UEFI (Microsoft, FAT32 specification 1.03). */
import type { Piece } from "./gpt.ts";

const SECTOR_BYTES = 512;
const RESERVED_SECTORS = 32;
const FATS = 2;
/** Fewer clusters would be FAT16 to every reader. */
const CLUSTERS_MIN = 65_525;
const END = 0x0fff_ffff;
const DIRECTORY = 0x10;
const VOLUME_LABEL = 0x08;
const ARCHIVE = 0x20;
/** 1980-01-01, the first day that there is. */
const FIRST_DAY = 0x21;
const ENTRY_BYTES = 32;
/** Root, `EFI` and `BOOT`, of one cluster each; the file follows. */
const CLUSTER = { root: 2, efi: 3, boot: 4, file: 5 } as const;
const LABEL = "EFI        ";

interface Geometry {
  readonly sectors: number;
  readonly fatSectors: number;
  readonly clusters: number;
}

/** One sector is one cluster. */
function geometryOf(sizeBytes: number): Geometry {
  const sectors = Math.floor(sizeBytes / SECTOR_BYTES);
  const entriesPerSector = SECTOR_BYTES / 4;
  const rest = sectors - RESERVED_SECTORS;
  const fatSectors = Math.ceil((rest + 2) / (entriesPerSector + FATS));
  const clusters = rest - FATS * fatSectors;
  if (clusters < CLUSTERS_MIN) throw new RangeError(`no FAT32 in ${sizeBytes} bytes`);
  return { sectors, fatSectors, clusters };
}

function bootSector({ sectors, fatSectors }: Geometry, volume: number): Buffer {
  const bytes = Buffer.alloc(SECTOR_BYTES);
  bytes.set([0xeb, 0x58, 0x90]);
  bytes.write("TESSERA ", 3, "latin1");
  bytes.writeUInt16LE(SECTOR_BYTES, 11);
  bytes.writeUInt8(1, 13);
  bytes.writeUInt16LE(RESERVED_SECTORS, 14);
  bytes.writeUInt8(FATS, 16);
  bytes.writeUInt8(0xf8, 21);
  bytes.writeUInt16LE(63, 24);
  bytes.writeUInt16LE(255, 26);
  bytes.writeUInt32LE(sectors, 32);
  bytes.writeUInt32LE(fatSectors, 36);
  bytes.writeUInt32LE(CLUSTER.root, 44);
  bytes.writeUInt16LE(1, 48);
  bytes.writeUInt16LE(6, 50);
  bytes.writeUInt8(0x80, 64);
  bytes.writeUInt8(0x29, 66);
  bytes.writeUInt32LE(volume, 67);
  bytes.write(LABEL, 71, "latin1");
  bytes.write("FAT32   ", 82, "latin1");
  bytes.writeUInt16LE(0xaa55, 510);
  return bytes;
}

function infoSector(free: number, next: number): Buffer {
  const bytes = Buffer.alloc(SECTOR_BYTES);
  bytes.writeUInt32LE(0x4161_5252, 0);
  bytes.writeUInt32LE(0x6141_7272, 484);
  bytes.writeUInt32LE(free, 488);
  bytes.writeUInt32LE(next, 492);
  bytes.writeUInt32LE(0xaa55_0000, 508);
  return bytes;
}

/** A directory entry with a name of 11 characters, as it is stored. */
function entry(name: string, attributes: number, cluster: number, sizeBytes = 0): Buffer {
  const bytes = Buffer.alloc(ENTRY_BYTES);
  bytes.write(name, 0, 11, "latin1");
  bytes.writeUInt8(attributes, 11);
  for (const at of [16, 18, 24]) bytes.writeUInt16LE(FIRST_DAY, at);
  bytes.writeUInt16LE(cluster >>> 16, 20);
  bytes.writeUInt16LE(cluster & 0xffff, 26);
  bytes.writeUInt32LE(sizeBytes, 28);
  return bytes;
}

function directory(entries: readonly Buffer[]): Buffer {
  const bytes = Buffer.alloc(SECTOR_BYTES);
  for (const [index, item] of entries.entries()) bytes.set(item, index * ENTRY_BYTES);
  return bytes;
}

function table(fileClusters: number): Buffer {
  const used = CLUSTER.file + fileClusters;
  const bytes = Buffer.alloc(Math.ceil((used * 4) / SECTOR_BYTES) * SECTOR_BYTES);
  bytes.writeUInt32LE(0x0fff_fff8, 0);
  bytes.writeUInt32LE(END, 4);
  for (const cluster of [CLUSTER.root, CLUSTER.efi, CLUSTER.boot]) {
    bytes.writeUInt32LE(END, cluster * 4);
  }
  for (let cluster = CLUSTER.file; cluster < used; cluster += 1) {
    bytes.writeUInt32LE(cluster === used - 1 ? END : cluster + 1, cluster * 4);
  }
  return bytes;
}

/**
 * A file system of `sizeBytes` with the one file `/EFI/BOOT/BOOTX64.EFI`, as pieces of an otherwise
 * zero partition. Equal files give equal pieces.
 *
 * @throws RangeError where there is no room, which the caller prevents
 */
export function encodeEfiFat(sizeBytes: number, volume: number, loader: Buffer): Piece[] {
  const geometry = geometryOf(sizeBytes);
  const fileClusters = Math.ceil(loader.length / SECTOR_BYTES);
  const used = CLUSTER.file - 2 + fileClusters;
  if (used > geometry.clusters) throw new RangeError(`${loader.length} bytes have no room`);
  const boot = bootSector(geometry, volume);
  const info = infoSector(geometry.clusters - used, CLUSTER.file + fileClusters);
  const fat = table(fileClusters);
  const fatAt = (index: number): number => RESERVED_SECTORS + index * geometry.fatSectors;
  const clusterAt = (cluster: number): number => fatAt(FATS) + cluster - 2;
  const sectors: readonly (readonly [sector: number, bytes: Buffer])[] = [
    [0, boot],
    [1, info],
    [6, boot],
    [7, info],
    [fatAt(0), fat],
    [fatAt(1), fat],
    [
      clusterAt(CLUSTER.root),
      directory([entry(LABEL, VOLUME_LABEL, 0), entry("EFI        ", DIRECTORY, CLUSTER.efi)]),
    ],
    [
      clusterAt(CLUSTER.efi),
      directory([
        entry(".          ", DIRECTORY, CLUSTER.efi),
        entry("..         ", DIRECTORY, 0),
        entry("BOOT       ", DIRECTORY, CLUSTER.boot),
      ]),
    ],
    [
      clusterAt(CLUSTER.boot),
      directory([
        entry(".          ", DIRECTORY, CLUSTER.boot),
        entry("..         ", DIRECTORY, CLUSTER.efi),
        entry("BOOTX64 EFI", ARCHIVE, CLUSTER.file, loader.length),
      ]),
    ],
    [clusterAt(CLUSTER.file), loader],
  ];
  return sectors.map(([sector, bytes]) => ({ offset: sector * SECTOR_BYTES, bytes }));
}
