/** A hypervisor that keeps its machines in memory, and sees a machine that runs twice. */
import { execFile } from "node:child_process";
import { open, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { DISK_FORMATS, TesseraError, type DiskFormat, type ProcessIdentity } from "#core";
import type {
  HotCapabilities,
  HotDescription,
  Hypervisor,
  IncomingMachine,
  MachineSpecification,
  RunningMachine,
} from "#hypervisor";
import { realWorld } from "#system";
import { openMachineData } from "./machine-data.ts";

/** What a guest of these tests writes when it runs, one line a start. */
const GUEST_OFFSET = 40 * 2 ** 20;

/** Everything that runs anywhere, so that a machine that runs twice is seen. */
export class Host {
  /** Clouds by the UUID of the machine that runs there. */
  readonly running = new Map<string, string>();
  readonly doubled: string[] = [];
  readonly starts: string[] = [];
}

interface Guest {
  readonly specification: MachineSpecification;
  readonly identity: ProcessIdentity;
  end(): void;
  readonly exited: Promise<void>;
}

/** Machines in memory; they outlive agents, and write to their user data block. */
export class MemoryHypervisor implements Hypervisor {
  /** Starts that are to fail. */
  failing = 0;
  /** What is told of machines that run and of this host; memory itself never moves. */
  hot: { readonly description: HotDescription; readonly there: HotCapabilities } | undefined;
  /** What it attaches; looked at when an agent starts. */
  formats: readonly DiskFormat[] = DISK_FORMATS;
  /** Guests that never say that they are ready. */
  mute = false;
  /** Of the next hypervisors; it lives as long as the tests. */
  identity = ownIdentity();
  readonly #cloud: string;
  readonly #host: Host;
  readonly #guests = new Map<string, Guest>();

  constructor(cloud: string, host: Host) {
    this.#cloud = cloud;
    this.#host = host;
  }

  capabilities(): ReturnType<Hypervisor["capabilities"]> {
    const architectures = ["amd64"];
    const { formats } = this;
    const common = { accelerators: ["tcg"], cpuModels: ["any"], formats, architectures };
    return Promise.resolve({ name: "memory", version: "1", ...common });
  }

  async start(specification: MachineSpecification): Promise<RunningMachine> {
    const known = this.#guests.get(specification.directory);
    if (known !== undefined) return this.#machine(known);
    if (this.failing > 0) {
      this.failing -= 1;
      throw new TesseraError("environment", "hypervisor.start-failed", "it does not start");
    }
    const { promise: exited, resolve } = Promise.withResolvers<void>();
    const { uuid, directory } = specification;
    const { identity } = this;
    const guest = {
      specification,
      identity,
      exited,
      end: () => this.#end(directory, uuid, resolve),
    };
    this.#guests.set(directory, guest);
    const { running, doubled, starts } = this.#host;
    if (running.has(uuid)) doubled.push(`${uuid} at ${running.get(uuid)} and ${this.#cloud}`);
    running.set(uuid, this.#cloud);
    starts.push(this.#cloud);
    await appendLine(specification, `ran at ${this.#cloud}\n`);
    return this.#machine(guest);
  }

  adopt(directory: string): Promise<RunningMachine | undefined> {
    const guest = this.#guests.get(directory);
    return Promise.resolve(guest === undefined ? undefined : this.#machine(guest));
  }

  hotCapabilities(): Promise<HotCapabilities | undefined> {
    return Promise.resolve(this.hot?.there);
  }

  startIncoming(): Promise<IncomingMachine> {
    return Promise.reject(notHot());
  }

  adoptIncoming(): Promise<undefined> {
    return Promise.resolve(undefined);
  }

  /** What the machine was started from. */
  specification(uuid: string): MachineSpecification | undefined {
    return [...this.#guests.values()].find(({ specification }) => specification.uuid === uuid)
      ?.specification;
  }

  /** The hypervisor dies, and nobody is told yet. */
  die(uuid: string): void {
    for (const [directory, { specification }] of this.#guests) {
      if (specification.uuid === uuid) this.#guests.delete(directory);
    }
    this.#host.running.delete(uuid);
  }

  /** The guest switches itself off. */
  powerOff(uuid: string): void {
    for (const guest of this.#guests.values()) if (guest.specification.uuid === uuid) guest.end();
  }

  #end(directory: string, uuid: string, exited: () => void): void {
    this.#guests.delete(directory);
    if (this.#host.running.get(uuid) === this.#cloud) this.#host.running.delete(uuid);
    exited();
  }

  #machine(guest: Guest): RunningMachine {
    const { specification, identity, exited } = guest;
    const { uuid, directory } = specification;
    const alive = (): boolean => this.#guests.has(directory);
    return {
      uuid,
      identity,
      hostPorts: { http: 8080 },
      consolePath: join(directory, "console.log"),
      state: () => Promise.resolve(alive() ? "running" : "exited"),
      ready: () => {
        const message = "no word from the guest";
        const error = new TesseraError("environment", "hypervisor.boot-timeout", message);
        return this.mute ? Promise.reject(error) : Promise.resolve();
      },
      stop: () => {
        guest.end();
        return Promise.resolve("graceful");
      },
      exited,
      describe: () => {
        if (this.hot === undefined) throw notHot();
        return this.hot.description;
      },
      hot: () => Promise.reject(notHot()),
      detach: () => Promise.resolve(),
    };
  }
}

function ownIdentity(): ProcessIdentity {
  const identity = realWorld().processes.identify(process.pid);
  if (identity === undefined) throw new Error("this process is not in /proc");
  return identity;
}

function notHot(): TesseraError {
  return new TesseraError("misuse", "hypervisor.hot-unsupported", "memory does not move hot");
}

/** Writes as a guest does: to the overlay where there is one. */
async function appendLine(specification: MachineSpecification, line: string) {
  const { dataPath, basePath, dataFormat = "raw", directory } = specification;
  const { bytes, length } = await guestLines(directory);
  bytes.write(line, length);
  if (basePath === undefined && dataFormat === "raw") {
    const file = await open(dataPath, "r+");
    try {
      await file.write(bytes, 0, 4096, GUEST_OFFSET);
    } finally {
      await file.close();
    }
    return;
  }
  const content = join(directory, "written");
  await writeFile(content, bytes);
  const format = basePath === undefined ? dataFormat : "qcow2";
  const command = `write -s ${content} ${GUEST_OFFSET} 4096`;
  await promisify(execFile)("qemu-io", ["-f", format, "-c", command, dataPath]);
  await rm(content);
}

/** What guests have written to the user data block in a machine's directory. */
export async function guestLines(directory: string): Promise<{ bytes: Buffer; length: number }> {
  const device = await openMachineData(realWorld(), directory);
  try {
    const bytes = Buffer.alloc(4096);
    await device.read(bytes, GUEST_OFFSET);
    const end = bytes.indexOf(0);
    return { bytes, length: end === -1 ? bytes.length : end };
  } finally {
    await device.close();
  }
}
