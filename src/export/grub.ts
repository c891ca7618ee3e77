/** GRUB, made by `grub-mkimage` of the files of Debian's packages and put in its places by ourselves. */
import { join } from "node:path";
import { hasCode, type World } from "#core";
import { toolFailed, toolMissing } from "./errors.ts";
import { BOOT_CODE_BYTES, SECTOR_BYTES } from "./gpt.ts";

const DIRECTORY = "/usr/lib/grub";
const PC = "i386-pc";
const EFI = "x86_64-efi";
/** Where the core's configuration lies in the root, with what it starts. */
export const BOOT_DIRECTORY = "boot/tessera";
const COMMON = [
  ..."normal linux search search_fs_uuid part_gpt ext2 configfile echo test true".split(" "),
  ..."minicmd ls cat help halt reboot sleep serial terminal".split(" "),
];
const MODULES = {
  [PC]: [...COMMON, "biosdisk"],
  [EFI]: [...COMMON, "efi_gop", "efi_uga", "fat"],
} as const;
const IMAGE_BYTES_MAX = 8 * 2 ** 20;
const TIMEOUT_MS = 120_000;

/** In boot.img (GRUB, include/grub/i386/pc/boot.h): the core's first sector, and a jump that is skipped for hard disks. */
const BOOT_SECTOR_AT = 0x5c;
const DRIVE_CHECK_AT = 0x66;
const NO_OPERATIONS = 0x9090;
/** In the core's first sector: the list of the others, their number, and the segment where they go. */
const BLOCKS_AT = 0x1f4;
const SEGMENT = 0x820;

export interface BootLoader {
  /** The first bytes of the disk. */
  readonly bootCode: Buffer;
  /** What the BIOS boot partition holds. */
  readonly core: Buffer;
  /** The program in the EFI system partition. */
  readonly efi: Buffer;
}

/** @throws `export.boot-loader-missing` (environment) */
export async function requireGrub(world: World): Promise<void> {
  const needs = [
    [`${DIRECTORY}/${PC}/boot.img`, "grub-pc-bin"],
    [`${DIRECTORY}/${EFI}/modinfo.sh`, "grub-efi-amd64-bin"],
  ] as const;
  for (const [path, name] of needs) {
    if ((await world.files.status(path))?.kind !== "file") throw toolMissing(path, name);
  }
}

/** What GRUB does before it has found its configuration. */
function firstLines(fileSystem: string): string {
  return `search.fs_uuid ${fileSystem} root\nset prefix=($root)/${BOOT_DIRECTORY}\n`;
}

async function makeImage(
  world: World,
  target: keyof typeof MODULES,
  directory: string,
  fileSystem: string,
): Promise<Buffer> {
  const config = join(directory, `${target}.cfg`);
  const image = join(directory, `${target}.img`);
  await world.files.writeFileAtomic(config, firstLines(fileSystem));
  const places = ["-d", `${DIRECTORY}/${target}`, "-p", `/${BOOT_DIRECTORY}`];
  const args = ["-O", target, ...places, "-c", config, "-o", image, ...MODULES[target]];
  try {
    const result = await world.processes.run("grub-mkimage", args, { timeout_ms: TIMEOUT_MS });
    if (result.exitCode !== 0) throw toolFailed("grub-mkimage", result.errorText);
  } catch (cause) {
    if (hasCode(cause, "system.program-missing")) throw toolMissing("grub-mkimage", "grub-common");
    throw cause;
  }
  return Buffer.from(await world.files.readFile(image, IMAGE_BYTES_MAX));
}

/** As grub-install does (GRUB, util/setup.c): each part is told where the next one lies. */
function placed(
  boot: Buffer,
  core: Buffer,
  firstSector: number,
): Pick<BootLoader, "bootCode" | "core"> {
  const bootCode = Buffer.from(boot.subarray(0, BOOT_CODE_BYTES));
  bootCode.writeBigUInt64LE(BigInt(firstSector), BOOT_SECTOR_AT);
  bootCode.writeUInt16LE(NO_OPERATIONS, DRIVE_CHECK_AT);
  const sectors = Math.ceil(core.length / SECTOR_BYTES);
  const padded = Buffer.alloc(sectors * SECTOR_BYTES);
  padded.set(core);
  padded.writeBigUInt64LE(BigInt(firstSector + 1), BLOCKS_AT);
  padded.writeUInt16LE(sectors - 1, BLOCKS_AT + 8);
  padded.writeUInt16LE(SEGMENT, BLOCKS_AT + 10);
  return { bootCode, core: padded };
}

/**
 * @param firstSector of the BIOS boot partition
 * @throws `export.boot-loader-missing`, `export.tool-failed` (environment)
 */
export async function makeBootLoader(
  world: World,
  directory: string,
  fileSystem: string,
  firstSector: number,
): Promise<BootLoader> {
  const boot = await world.files.readFile(`${DIRECTORY}/${PC}/boot.img`, SECTOR_BYTES);
  const core = await makeImage(world, PC, directory, fileSystem);
  const efi = await makeImage(world, EFI, directory, fileSystem);
  return { ...placed(Buffer.from(boot), core, firstSector), efi };
}

/** `grub.cfg`: one entry, on the screen and on the first serial line. */
export function grubConfig(name: string, fileSystem: string, kernelPath: string): string {
  return `# Written by tessera export. grub-install and update-grub of the distribution may replace it.
if serial --unit=0 --speed=115200; then
  terminal_input console serial
  terminal_output console serial
fi
set default=0
set timeout=1
menuentry "${name}" {
  linux /${kernelPath} root=UUID=${fileSystem} ro console=tty0 console=ttyS0,115200n8
  initrd /${BOOT_DIRECTORY}/initramfs
}
`;
}
