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
import type { MemoryTunnel } from "#transfer";
import { decodeMemory, MemoryEncoder, type MemoryFigures } from "#memory";
import { realWorld } from "#system";
import { SourceFlow } from "../../src/agent/migrations/hot/source-flow.ts";
import { Qmp } from "../../src/hypervisor/qemu/qmp.ts";
import { Clouds, portOf, soon, sourceOf } from "../../src/transfer/fixture.suite.ts";
import { startRelay, type Relay } from "../../src/transfer/relay.suite.ts";
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

const conditions = () => ({ bitsPerSecond: 500e6, cores: 1 });

/** What lies between two QEMUs. */
export interface MemoryLink {
  readonly done: Promise<MemoryFigures>;
  close(): Promise<void> | void;
}

/** Takes the source's connection at `from` and one to the destination at `to`. */
export async function link(from: string, to: string): Promise<MemoryLink> {
  const server = createServer();
  await once(server.listen(from), "listening");
  const sockets: Socket[] = [];
  const run = async (): Promise<MemoryFigures> => {
    const [source] = (await once(server, "connection")) as [Socket];
    const destination = connect(to);
    sockets.push(source, destination);
    const encoder = new MemoryEncoder({
      clock: world.clock,
      conditions,
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

const RATE_Bps = 8e6;
/** What comes before the link is cut again. */
const BETWEEN_BYTES = 2 ** 20;

async function* cutting(tunnel: MemoryTunnel, relay: Relay): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  for await (const chunk of tunnel.chunks) {
    yield chunk;
    bytes += chunk.length;
    if (bytes < BETWEEN_BYTES) continue;
    bytes = 0;
    relay.cutAll();
  }
}

/** As {@link link}, but over the tunnel of a session whose connection is cut again and again. */
export async function cutLink(from: string, to: string): Promise<MemoryLink & { cuts(): number }> {
  const clouds = await Clouds.start();
  const components = { count: 0, pages: { find: () => Promise.resolve(undefined) } };
  const flow = await SourceFlow.listen(world, { socketPath: from, components, conditions });
  const source = { ...sourceOf([]), openMemory: () => Promise.resolve(flow.tunnel) };
  const server = await clouds.serving(source, { bytesPerSecondMax: RATE_Bps });
  const relay = await startRelay({ target: { host: "127.0.0.1", port: portOf(server) } });
  clouds.onDispose(() => relay.close());
  const tunnel = await clouds.receiving(relay.port).tunnelMemory(soon());
  const socket = connect(to);
  clouds.onDispose(() => Promise.resolve(socket.destroy()));
  const back = async (): Promise<void> => {
    for await (const bytes of socket.iterator({ destroyOnReturn: false })) {
      await tunnel.reply(bytes as Buffer);
    }
  };
  const run = async (): Promise<MemoryFigures> => {
    const replies = back().catch(() => undefined);
    const memory = decodeMemory(cutting(tunnel, relay), { images: [] });
    await pipeline(memory, socket, { end: false });
    socket.end();
    await replies;
    return flow.figures;
  };
  const done = run();
  done.catch(() => undefined);
  const close = (): Promise<void> => clouds[Symbol.asyncDispose]();
  return { done, close, cuts: () => relay.connections() - 1 };
}
