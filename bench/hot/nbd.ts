/**
 * Our NBD server against `nbdkit file`: the same file in a memory file system, each server a process
 * of its own on a unix socket, the clients in turn. Writes the rows `nbd-vs-nbdkit-seq` and
 * `nbd-vs-nbdkit-4k` of `bench/results/hot.json`.
 *
 *     node bench/hot/nbd.ts [--mib 1024] [--rounds 7]
 */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { randomFillSync } from "node:crypto";
import { closeSync, existsSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { openFileDevice } from "#block";
import { serveNbd } from "#nbd";
import { realWorld } from "#system";
import { writePage } from "../page.ts";
import { mergeResults, rowOf, tellRow } from "../rows.ts";

const MIB = 2 ** 20;
const FIO_SECONDS = 3;
const DEPTH = 16;

/** A server that runs. */
interface Side {
  readonly socket: string;
  readonly child: ChildProcess;
}

async function serve(file: string, path: string): Promise<void> {
  const world = realWorld();
  const device = await openFileDevice(world, file, { readOnly: true });
  await serveNbd(world, { address: { path }, exports: [{ name: "", device, readOnly: true }] });
}

function makeFile(path: string, sizeBytes: number): void {
  const file = openSync(path, "w");
  const chunk = Buffer.alloc(MIB);
  for (let at = 0; at < sizeBytes; at += MIB) writeSync(file, randomFillSync(chunk), 0, MIB, at);
  closeSync(file);
}

async function start(socket: string, program: string, ...args: readonly string[]): Promise<Side> {
  const child = spawn(program, args, { stdio: "inherit" });
  while (!existsSync(socket)) {
    if (child.exitCode !== null) throw new Error(`${program} ended with ${child.exitCode}`);
    await sleep(20);
  }
  return { socket, child };
}

function output(program: string, args: readonly string[], cwd: string): string {
  const { status, stdout, stderr } = spawnSync(program, args, { cwd, encoding: "utf8" });
  if (status !== 0) throw new Error(`${program} ended with ${status}: ${stderr}`);
  return stdout;
}

/** MB/s of `nbdcopy` to nowhere. */
function sequential({ socket }: Side, sizeBytes: number, cwd: string): number {
  const from_ms = performance.now();
  output("nbdcopy", [`nbd+unix:///?socket=${socket}`, "null:"], cwd);
  return sizeBytes / 1000 / (performance.now() - from_ms);
}

/** Reads of 4 KiB per second at random, 16 at a time. */
function random({ socket }: Side, cwd: string): number {
  const uri = `--uri=nbd+unix:///?socket=${socket}`;
  const load = ["--rw=randread", "--bs=4k", `--iodepth=${DEPTH}`, "--time_based"];
  const time = `--runtime=${FIO_SECONDS}`;
  const args = ["--name=r", "--ioengine=nbd", uri, ...load, time, "--output-format=json"];
  const stdout = output("fio", args, cwd);
  const report = JSON.parse(stdout.slice(stdout.indexOf("{"))) as {
    readonly jobs: readonly { readonly read: { readonly iops: number } }[];
  };
  return report.jobs[0]?.read.iops ?? Number.NaN;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >>> 1] ?? Number.NaN;
}

/** Medians of both sides, measured in turn, so that what else runs here slows both. */
function compare(rounds: number, sides: readonly [Side, Side], measure: (side: Side) => number) {
  const figures: [number[], number[]] = [[], []];
  for (let round = 0; round < rounds; round += 1) {
    figures[0].push(measure(sides[0]));
    figures[1].push(measure(sides[1]));
  }
  return { ours: median(figures[0]), peer: median(figures[1]) };
}

async function main(sizeBytes: number, rounds: number): Promise<void> {
  const directory = mkdtempSync("/dev/shm/tessera-nbd-");
  const children: ChildProcess[] = [];
  const side = async (name: string, program: string, ...args: readonly string[]): Promise<Side> => {
    const started = await start(join(directory, name), program, ...args);
    children.push(started.child);
    return started;
  };
  try {
    const file = join(directory, "disk");
    makeFile(file, sizeBytes);
    const [ours, kit] = [join(directory, "ours"), join(directory, "kit")];
    const sides: [Side, Side] = [
      await side("ours", process.execPath, import.meta.filename, "--serve", file, ours),
      await side("kit", "nbdkit", "--foreground", "--readonly", "--unix", kit, "file", file),
    ];
    const where = `a file of ${sizeBytes / MIB} MiB in tmpfs, on a unix socket; median of ${rounds} rounds in turn with \`nbdkit --readonly file\``;
    const target = ">= 0.7";
    const rows = [
      rowOf("nbd-vs-nbdkit-seq", {
        ...compare(rounds, sides, (one) => sequential(one, sizeBytes, directory)),
        target,
        unit: "MB/s",
        how: `\`nbdcopy\` to null:, its start included; ${where}`,
      }),
      rowOf("nbd-vs-nbdkit-4k", {
        ...compare(rounds, sides, (one) => random(one, directory)),
        target,
        unit: "reads/s",
        how: `fio's nbd engine, 4 KiB random reads, depth ${DEPTH}, ${FIO_SECONDS} s; ${where}`,
      }),
    ];
    rows.forEach(tellRow);
    mergeResults("hot", rows);
    writePage();
  } finally {
    for (const child of children) child.kill();
    rmSync(directory, { recursive: true, force: true });
  }
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    mib: { type: "string", default: "1024" },
    rounds: { type: "string", default: "7" },
    serve: { type: "boolean", default: false },
  },
});
const [file = "", socket = ""] = positionals;
if (values.serve) await serve(file, socket);
else await main(Number(values.mib) * MIB, Number(values.rounds));
