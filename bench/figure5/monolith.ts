/** The same machine as one block, over the same shaped link, by `socat`. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { makeImage } from "../demo/monolith.ts";
import { run } from "../demo/screen.ts";
import { ADDRESSES, type Link, type Side } from "../transfer/link.ts";

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
  from: Side,
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
  const transfer_s = await copyOver(link, from, image, copy);
  await run("cmp", [image, copy]);
  const { size } = statSync(copy);
  rmSync(directory, { recursive: true });
  return { bytes: size, prepare_s, transfer_s };
}

async function copyOver(link: Link, from: Side, image: string, copy: string): Promise<number> {
  const to = from === "sender" ? "receiver" : "sender";
  const into = ["-u", `TCP-LISTEN:${PORT},reuseaddr`, `CREATE:${copy}`];
  const listener = spawn(...link.command(to, "socat", into));
  const received = once(listener, "exit");
  await link.listening(to, PORT);
  const begin = performance.now();
  const out = ["-u", `FILE:${image}`, `TCP:${ADDRESSES[to]}:${PORT}`];
  await run(...link.command(from, "socat", out));
  await received;
  return (performance.now() - begin) / 1000;
}
