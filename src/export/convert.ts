/** From the raw disk to another format: by `qemu-img`, which reads only what we wrote ourselves. */
import { qemuImgCommand } from "#block";
import { hasCode, TesseraError, type World } from "#core";
import { toolFailed } from "./errors.ts";

/** What `qemu-img` makes; an OVA holds a VMDK that can be read in one go. */
export type DiskFormat = "qcow2" | "vmdk" | "stream-vmdk" | "vpc" | "vhdx" | "vdi";

const FORMATS: Readonly<Record<DiskFormat, readonly [driver: string, options: string]>> = {
  qcow2: ["qcow2", "compat=1.1"],
  vmdk: ["vmdk", "subformat=monolithicSparse"],
  "stream-vmdk": ["vmdk", "subformat=streamOptimized"],
  /* Without force_size the disk would be rounded to cylinders, and its table's end not at its end. */
  vpc: ["vpc", "subformat=dynamic,force_size=on"],
  vhdx: ["vhdx", "subformat=dynamic"],
  vdi: ["vdi", "static=off"],
};

const TIMEOUT_MS = 4 * 3_600_000;
/** What a format may need beside the disk's bytes. */
const FORMAT_BYTES = 2 ** 30;

async function qemuImg(
  world: World,
  args: readonly string[],
  limits: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const [program, all] = qemuImgCommand(args, limits);
  const options = { timeout_ms: TIMEOUT_MS, signal };
  const { exitCode, output, errorText } = await world.processes.run(program, all, options);
  if (exitCode === 0) return;
  signal.throwIfAborted();
  throw toolFailed("qemu-img", `${errorText}${Buffer.from(output).toString("utf8")}`);
}

/**
 * Makes `target` of a raw disk and compares the two, block by block.
 *
 * @throws `export.tool-failed`, `system.program-missing` (environment)
 */
export async function convertDisk(
  world: World,
  {
    raw,
    target,
    diskBytes,
  }: { readonly raw: string; readonly target: string; readonly diskBytes: number },
  format: DiskFormat,
  signal: AbortSignal,
): Promise<void> {
  const [driver, options] = FORMATS[format];
  const most = [`--fsize=${diskBytes + Math.ceil(diskBytes / 10) + FORMAT_BYTES}`];
  const convert = ["convert", "-f", "raw", "-O", driver, "-o", options, raw, target];
  try {
    /* Its mode stays: a machine's disk is not for everybody. */
    await (await world.files.open(target, "exclusive", 0o600)).close();
    await qemuImg(world, convert, most, signal);
    await qemuImg(world, ["compare", "-f", "raw", "-F", driver, raw, target], [], signal);
  } catch (cause) {
    if (!hasCode(cause, "system.program-missing")) throw cause;
    throw new TesseraError("environment", "export.tool-failed", "qemu-img cannot be started", {
      remedy: "install the Debian packages qemu-utils and util-linux",
      cause,
    });
  }
}
