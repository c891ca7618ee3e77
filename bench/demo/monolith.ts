/**
 * The peer: the same machine as one monolithic block. Its composed file tree and its user data are
 * put on one ext4 disk, made a qcow2 with zstd-compressed clusters (unused and zero clusters take
 * no space), and copied over the same throttled link by `socat`. Measured, not modelled.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { startRelay } from "../../src/transfer/relay.suite.ts";
import { freePorts } from "./processes.ts";
import { run } from "./screen.ts";

export interface Monolith {
  readonly bytes: number;
  /** Making the compressed image from the disk: what an operator waits for before the copy. */
  readonly prepare_s: number;
  readonly transfer_s: number;
}

const DISK_BYTES = 4 * 2 ** 30;

/** The image of a stopped machine. @param layers EROFS images, lowest first */
export async function makeImage(
  directory: string,
  layers: readonly string[],
  data: string,
): Promise<string> {
  const root = join(directory, "root");
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(root, { recursive: true });
  for (const layer of layers) await run("fsck.erofs", [`--extract=${root}`, "--overwrite", layer]);
  const upper = join(directory, "upper");
  mkdirSync(upper);
  await run("debugfs", ["-R", `rdump /upper ${upper}`, data]);
  // The user data goes beside the tree: what it replaces or hides does not change the bytes much.
  for (const name of readdirSync(upper))
    await run("cp", ["-a", join(upper, name), join(root, `data-${name}`)]);
  const disk = join(directory, "disk.raw");
  writeFileSync(disk, "");
  truncateSync(disk, DISK_BYTES);
  await run("mke2fs", [
    "-q",
    "-F",
    "-t",
    "ext4",
    "-m",
    "0",
    "-E",
    "lazy_itable_init=1",
    "-d",
    root,
    disk,
  ]);
  rmSync(root, { recursive: true });
  return disk;
}

async function copyOverLink(image: string, copy: string, bitsPerSecond: number): Promise<number> {
  const [port = 0] = await freePorts(1);
  const listener = spawn("socat", ["-u", `TCP-LISTEN:${port},bind=127.0.0.1`, `CREATE:${copy}`]);
  const received = once(listener, "exit");
  await listening(port);
  const relay = await startRelay({ target: { host: "127.0.0.1", port }, bitsPerSecond });
  try {
    const begin = performance.now();
    await run("socat", ["-u", `FILE:${image}`, `TCP:127.0.0.1:${relay.port}`]);
    await received;
    return (performance.now() - begin) / 1000;
  } finally {
    listener.kill("SIGKILL");
    await relay.close();
  }
}

/** Waits until the kernel lists a listening socket on the port (proc(5), `/proc/net/tcp`). */
async function listening(port: number): Promise<void> {
  const needle = `:${port.toString(16).toUpperCase().padStart(4, "0")} 00000000:0000 0A`;
  const deadline = performance.now() + 10_000;
  while (!(await run("cat", ["/proc/net/tcp"])).includes(needle)) {
    if (performance.now() > deadline) throw new Error(`nothing listens on port ${port}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

export async function measureMonolith(
  directory: string,
  layers: readonly string[],
  data: string,
  bitsPerSecond: number,
): Promise<Monolith> {
  const disk = await makeImage(directory, layers, data);
  const image = join(directory, "machine.qcow2");
  const begin = performance.now();
  const format = ["-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd"];
  await run("qemu-img", ["convert", ...format, disk, image]);
  const prepare_s = (performance.now() - begin) / 1000;
  const copy = join(directory, "copy.qcow2");
  const transfer_s = await copyOverLink(image, copy, bitsPerSecond);
  const bytes = statSync(copy).size;
  await run("cmp", [image, copy]);
  rmSync(directory, { recursive: true });
  return { bytes, prepare_s, transfer_s };
}
