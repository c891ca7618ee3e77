/** The same machine as one block, over the same shaped link, by `socat`. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { makeImage } from "../demo/monolith.ts";
import { run } from "../demo/screen.ts";
import { ADDRESSES, type Link } from "../transfer/link.ts";

export interface Monolith {
  readonly bytes: number;
  readonly prepare_s: number;
  readonly transfer_s: number;
}

const PORT = 9000;

/**
 * Makes a qcow2 with zstd-compressed clusters of the stopped machine, which favours the monolith
 * over the paper's, and copies it.
 *
 * @param layers EROFS images, lowest first
 */
export async function moveMonolith(
  link: Link,
  directory: string,
  layers: readonly string[],
  data: string,
): Promise<Monolith> {
  const disk = await makeImage(directory, layers, data);
  const image = join(directory, "machine.qcow2");
  const begin = performance.now();
  const format = ["-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd"];
  await run("qemu-img", ["convert", ...format, disk, image]);
  const prepare_s = (performance.now() - begin) / 1000;
  const copy = join(directory, "copy.qcow2");
  const transfer_s = await copyOver(link, image, copy);
  await run("cmp", [image, copy]);
  const { size } = statSync(copy);
  rmSync(directory, { recursive: true });
  return { bytes: size, prepare_s, transfer_s };
}

async function copyOver(link: Link, image: string, copy: string): Promise<number> {
  const into = ["-u", `TCP-LISTEN:${PORT},reuseaddr`, `CREATE:${copy}`];
  const listener = spawn(...link.command("receiver", "socat", into));
  const received = once(listener, "exit");
  await link.listening("receiver", PORT);
  const begin = performance.now();
  const from = ["-u", `FILE:${image}`, `TCP:${ADDRESSES.receiver}:${PORT}`];
  await run(...link.command("sender", "socat", from));
  await received;
  return (performance.now() - begin) / 1000;
}
