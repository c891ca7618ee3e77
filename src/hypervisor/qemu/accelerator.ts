import { z } from "zod";
import { hasCode, type World } from "#core";
import type { Accelerator } from "./arguments.ts";

/** What decides the outcome of a probe. */
export interface ProbeSubject {
  readonly program: string;
  readonly version: string;
  readonly cpuModel: string;
  /** A Linux kernel to boot; without one, the firmware alone is booted, which proves less. */
  readonly kernelPath?: string;
}

const PROBE_TIMEOUT_MS = 8000;
const CACHE_BYTES_MAX = 64 * 1024;
const CACHE = z.object({ key: z.string(), works: z.boolean() });

/**
 * Does KVM run a guest here? The mere presence of `/dev/kvm` says little: some hosts offer a KVM
 * that takes a boot sector but hangs on an operating system, or lacks features of the processor
 * model. So two processors of the model that machines get boot a kernel until it misses its root
 * file system and restarts, which ends QEMU.
 */
export async function kvmWorks(world: World, subject: ProbeSubject): Promise<boolean> {
  if ((await world.files.status("/dev/kvm")) === undefined) return false;
  try {
    const result = await world.processes.run(subject.program, probeArguments(subject), {
      timeout_ms: PROBE_TIMEOUT_MS,
    });
    const text = Buffer.from(result.output).toString("latin1");
    return result.exitCode === 0 && isProof(text, subject);
  } catch (error) {
    if (hasCode(error, "system.timeout") || hasCode(error, "system.output-too-large")) return false;
    throw error;
  }
}

function isProof(text: string, { kernelPath }: ProbeSubject): boolean {
  return text.includes(kernelPath === undefined ? "No bootable device" : "Kernel panic");
}

function probeArguments({ cpuModel, kernelPath }: ProbeSubject): string[] {
  const guest =
    kernelPath === undefined
      ? ["-boot", "reboot-timeout=1", "-chardev", "stdio,id=out", ...FIRMWARE_LOG]
      : ["-kernel", kernelPath, "-append", "console=ttyS0 panic=-1", "-serial", "stdio"];
  const cpu = `${cpuModel},enforce=on`;
  const common = ["-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"];
  const machine = ["-machine", "q35", "-accel", "kvm", "-cpu", cpu, "-smp", "2", "-m", "256M"];
  return [...common, ...machine, ...guest];
}

/** SeaBIOS writes its log to port 0x402. */
const FIRMWARE_LOG = ["-device", "isa-debugcon,iobase=0x402,chardev=out"];

/** Chooses once per kernel and boot of the host; a file keeps the outcome between runs. */
export class AcceleratorChoice {
  readonly #world: World;
  readonly #cachePath: string | undefined;
  readonly #known = new Map<string, Promise<boolean>>();

  constructor(world: World, cachePath: string | undefined) {
    this.#world = world;
    this.#cachePath = cachePath;
  }

  async choose(subject: ProbeSubject): Promise<Accelerator> {
    const key = JSON.stringify([subject, await this.#bootId()]);
    const known = this.#known.get(key) ?? this.#prove(key, subject);
    this.#known.set(key, known);
    return (await known) ? "kvm" : "tcg";
  }

  async #prove(key: string, subject: ProbeSubject): Promise<boolean> {
    const cached = await this.#readCache();
    if (cached?.key === key) return cached.works;
    const works = await kvmWorks(this.#world, subject);
    this.#world.log.log("info", "probed the accelerator", { kvm: works, ...subject });
    if (this.#cachePath !== undefined) {
      await this.#world.files.writeFileAtomic(this.#cachePath, JSON.stringify({ key, works }));
    }
    return works;
  }

  async #bootId(): Promise<string> {
    const bytes = await this.#world.files.readFile("/proc/sys/kernel/random/boot_id", 4096);
    return Buffer.from(bytes).toString("utf8").trim();
  }

  /** A cache that cannot be read is as good as none: the probe is run again. */
  async #readCache(): Promise<z.infer<typeof CACHE> | undefined> {
    if (this.#cachePath === undefined) return undefined;
    try {
      const bytes = await this.#world.files.readFile(this.#cachePath, CACHE_BYTES_MAX);
      return CACHE.safeParse(JSON.parse(Buffer.from(bytes).toString("utf8"))).data;
    } catch {
      return undefined;
    }
  }
}
