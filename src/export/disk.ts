/** The exported disk as a raw file: table, boot loader, EFI system partition, root. */
import { createFileDevice, type BlockDevice } from "#block";
import { hasCode, type World } from "#core";
import { writeExt4 } from "#import";
import { encodeEfiFat } from "./fat.ts";
import { encodeGpt, SECTOR_BYTES, type Piece } from "./gpt.ts";
import type { BootLoader } from "./grub.ts";
import { unsuitable } from "./errors.ts";
import { uuidBytes, type DiskIdentity } from "./identity.ts";
import { ESP_BYTES, partitionsOf, tooSmall, type DiskLayout } from "./layout.ts";
import type { FineTree } from "#import";

const LABEL = "root";

function bootPieces(layout: DiskLayout, identity: DiskIdentity, loader: BootLoader): Piece[] {
  if (loader.core.length > layout.biosBytes) {
    throw unsuitable("GRUB's core", "is too large", "use the GRUB of Debian 12");
  }
  const sectors = layout.diskBytes / SECTOR_BYTES;
  const partitions = partitionsOf(layout, identity);
  const esp = encodeEfiFat(ESP_BYTES, identity.volume, loader.efi);
  return [
    ...encodeGpt(sectors, identity.disk, partitions, loader.bootCode),
    { offset: layout.biosSector * SECTOR_BYTES, bytes: loader.core },
    ...esp.map(({ offset, bytes }) => ({ offset: layout.espAt + offset, bytes })),
  ];
}

async function writeRoot(
  disk: BlockDevice,
  { rootAt, rootBytes, diskBytes }: DiskLayout,
  root: FineTree,
  fileSystem: string,
): Promise<void> {
  const target = {
    sizeBytes: rootBytes,
    write: (source: Uint8Array, offset: number) => disk.write(source, rootAt + offset),
  };
  try {
    await writeExt4(target, root, { uuid: uuidBytes(fileSystem), label: LABEL });
  } catch (cause) {
    throw hasCode(cause, "import.data-size-invalid") ? tooSmall(diskBytes) : cause;
  }
}

/**
 * Writes the disk at `path`, where nothing is; equal machines and boot loaders give equal bytes.
 *
 * @throws `export.size-invalid`, `import.xattr-unsuitable` (misuse), `system.disk-full`
 */
export async function writeDisk(
  world: World,
  path: string,
  layout: DiskLayout,
  identity: DiskIdentity,
  loader: BootLoader,
  root: FineTree,
): Promise<void> {
  const disk = await createFileDevice(world, path, layout.diskBytes);
  try {
    for (const { offset, bytes } of bootPieces(layout, identity, loader)) {
      await disk.write(bytes, offset);
    }
    await writeRoot(disk, layout, root, identity.fileSystem);
    await disk.flush();
  } finally {
    await disk.close();
  }
}
