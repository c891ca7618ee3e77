/**
 * Two QEMUs under TCG, and between them the coder of memory: what a source and a destination agent
 * do with the stream of a migration, in one process.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { decodeMemory, MemoryEncoder, type MemoryFigures } from "#memory";
import { realWorld } from "#system";
import { Qmp } from "../../src/hypervisor/qemu/qmp.ts";
import { tinyGuest } from "./tiny-guest.ts";

const world = realWorld();

/** A QEMU with a guest of 128 MiB and its monitor. */
export interface TestQemu {
  readonly process: ChildProcess;
  readonly qmp: Qmp;
  readonly console: string;
}

export async function until<T>(what: string, probe: () => T | undefined | Promise<T | undefined>) {
  const end = performance.now() + 120_000;
  while (performance.now() < end) {
    const found = await probe();
    if (found !== undefined) return found;
    await world.clock.sleep(50);
  }
  throw new Error(`${what}: not within two minutes`);
}

export async function startQemu(
  directory: string,
  name: string,
  more: readonly string[] = [],
): Promise<TestQemu> {
  const guest = tinyGuest();
  const socket = join(directory, `${name}.qmp`);
  const console = join(directory, `${name}.console`);
  const options = {
    machine: "pc-q35-7.2",
    accel: "tcg",
    cpu: "qemu64",
    m: "131080K",
    display: "none",
    kernel: guest.kernelPath,
    initrd: guest.initramfsPath,
    append: "quiet console=ttyS0",
    drive: "driver=null-co,read-zeroes=on,size=16M,if=virtio",
    serial: `file:${console}`,
    qmp: `unix:${socket},server=on,wait=off`,
  };
  const args = Object.entries(options).flatMap(([option, value]) => [`-${option}`, value]);
  const process = spawn("qemu-system-x86_64", ["-nodefaults", ...args, ...more], {
    stdio: "inherit",
  });
  await until("QEMU's monitor", () => (existsSync(socket) ? true : undefined));
  return { process, qmp: await Qmp.open(socket, world.clock), console };
}

export async function endQemu({ process, qmp }: TestQemu): Promise<void> {
  await qmp.close();
  if (process.exitCode !== null || process.signalCode !== null) return;
  const ended = once(process, "exit");
  process.kill("SIGKILL");
  await ended;
}

/** Takes the source's connection at `from` and one to the destination at `to`. */
export async function link(
  from: string,
  to: string,
): Promise<{ readonly done: Promise<MemoryFigures>; close(): void }> {
  const server = createServer();
  await once(server.listen(from), "listening");
  const sockets: Socket[] = [];
  const run = async (): Promise<MemoryFigures> => {
    const [source] = (await once(server, "connection")) as [Socket];
    const destination = connect(to);
    sockets.push(source, destination);
    const encoder = new MemoryEncoder({
      clock: world.clock,
      conditions: () => ({ bitsPerSecond: 500e6, cores: 1 }),
    });
    const back = pipeline(destination, source);
    await pipeline(decodeMemory(encoder.encode(source), { images: [] }), destination, {
      end: false,
    });
    if (encoder.off !== undefined) throw new Error(`the stream has ${encoder.off}`);
    destination.end();
    await back.catch(() => undefined);
    return encoder.figures;
  };
  const done = run();
  done.catch(() => undefined);
  const close = (): void => {
    for (const socket of sockets) socket.destroy();
    server.close();
  };
  return { done, close };
}
