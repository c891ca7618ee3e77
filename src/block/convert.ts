/** A user data block from one disk format into another, by qemu-img. */
import { DISK_FORMATS, TesseraError, type DiskFormat, type World } from "#core";

export interface FormattedDisk {
  readonly path: string;
  readonly format: DiskFormat;
}

/** VHD rounds a size to its geometry unless it is told not to. */
const OPTIONS: Readonly<Record<DiskFormat, readonly string[]>> = {
  raw: [],
  qcow2: ["-o", "compat=1.1,lazy_refcounts=off"],
  vmdk: ["-o", "subformat=monolithicSparse"],
  vdi: [],
  vpc: ["-o", "subformat=dynamic,force_size=on"],
  vhdx: ["-o", "subformat=dynamic"],
};

const VPC_BYTES_MAX = 2040 * 2 ** 30;
const SECTOR_BYTES = 512;
const OUTPUT_BYTES_MAX = 2 ** 20;
/** A day: only bounds a tool that hangs. */
const TIME_MAX_ms = 86_400_000;

const LIMITS = ["--as=3221225472", "--cpu=7200", "--nofile=256", "--core=0"];

/**
 * The command that runs qemu-img within limits: 3 GiB of address space, two hours of processor time.
 *
 * @param limits more of prlimit(1)'s
 */
export function qemuImgCommand(
  args: readonly string[],
  limits: readonly string[] = [],
): readonly [program: string, args: readonly string[]] {
  return ["prlimit", [...LIMITS, ...limits, "--", "qemu-img", ...args]];
}

/** Why a disk of this size cannot be kept so, in words; undefined where it can. */
export function formatFault(format: DiskFormat, sizeBytes: number): string | undefined {
  if (format === "raw") return undefined;
  if (sizeBytes % SECTOR_BYTES !== 0) return `a disk of ${sizeBytes} bytes has no whole sectors`;
  const isLarge = format === "vpc" && sizeBytes > VPC_BYTES_MAX;
  return isLarge ? `a disk of ${sizeBytes} bytes does not fit into vpc` : undefined;
}

/** The formats that qemu-img of this host knows, of those that we do; raw alone without it. */
export async function knownFormats(world: World): Promise<readonly DiskFormat[]> {
  const told = await world.processes
    .run("qemu-img", ["--help"])
    .then(({ output }) => Buffer.from(output).toString("utf8"))
    .catch(() => "");
  const words = new Set(/^Supported formats: (.*)$/m.exec(told)?.[1]?.split(" "));
  return DISK_FORMATS.filter((format) => format === "raw" || words.has(format));
}

function failed(path: string, why: string, cause?: unknown): TesseraError {
  const message = `the disk cannot be brought into another format: ${why}`;
  return new TesseraError("environment", "block.convert-failed", message, {
    subject: path,
    remedy: "see that qemu-utils is installed and that there is space for both",
    cause,
  });
}

async function qemuImg(world: World, path: string, args: readonly string[]): Promise<string> {
  const options = { timeout_ms: TIME_MAX_ms, outputBytesMax: OUTPUT_BYTES_MAX };
  const [program, all] = qemuImgCommand(args);
  const { exitCode, output, errorText } = await world.processes.run(program, all, options);
  if (exitCode === 0) return Buffer.from(output).toString("utf8");
  throw failed(path, errorText.trim().slice(-500));
}

async function virtualBytes(world: World, { path, format }: FormattedDisk): Promise<number> {
  const text = await qemuImg(world, path, ["info", "-f", format, "--output=json", path]);
  try {
    const told = JSON.parse(text) as { readonly "virtual-size"?: unknown };
    return Number(told["virtual-size"]);
  } catch (cause) {
    throw failed(path, "qemu-img tells no size", cause);
  }
}

/**
 * Makes `to`, where nothing of use is, of a disk that nobody writes to: beside, durable, then renamed.
 * Zeroes stay holes. Of a failure nothing is left.
 *
 * @throws `block.convert-failed` (environment)
 */
export async function convertDisk(
  world: World,
  from: FormattedDisk,
  to: FormattedDisk,
): Promise<void> {
  const { files } = world;
  const beside = { path: `${to.path}.new`, format: to.format };
  await files.remove(beside.path);
  try {
    /* It holds user data: readable by its owner only from the first byte on. */
    await (await files.open(beside.path, "exclusive", 0o600)).close();
    await replayLog(world, from);
    const formats = ["-f", from.format, "-O", to.format, ...OPTIONS[to.format]];
    await qemuImg(world, from.path, ["convert", ...formats, from.path, beside.path]);
    const [before, after] = [await virtualBytes(world, from), await virtualBytes(world, beside)];
    if (before !== after) throw failed(from.path, `${before} bytes became ${after}`);
    await makeDurable(world, beside.path);
    await files.rename(beside.path, to.path);
  } catch (cause) {
    await files.remove(beside.path);
    throw cause;
  }
}

/**
 * A VHDX whose writer was killed is not opened to be read before its log has been replayed, which
 * checking it does. Whatever else a check says, reading will say it again.
 */
export async function replayLog(world: World, { path, format }: FormattedDisk): Promise<void> {
  if (format !== "vhdx") return;
  await world.processes.run(...qemuImgCommand(["check", "-q", "-r", "all", "-f", format, path]));
}

async function makeDurable({ files }: World, path: string): Promise<void> {
  const file = await files.open(path, "write");
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
