/** What every tool is measured with: two files, the link, and programs on either side of it. */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import type { Link, Side } from "./link.ts";

/** A file that the receiver holds and the one that it shall get. */
export interface Pair {
  readonly name: string;
  /** A directory with the file `image`; absent where the receiver holds nothing. */
  readonly old?: string;
  /** The same. */
  readonly new: string;
  /** A disk of user data, not a component. */
  readonly disk?: boolean;
}

/** The link of one measurement and the directories of its two sides. */
export interface Scene {
  readonly pair: Pair;
  readonly link: Link;
  /** Prepared files of the tool and the pair, kept for further rates. */
  readonly prepared: string;
  /** Empty at first: what is received goes here. */
  readonly target: string;
}

export interface Measure {
  readonly pair: string;
  readonly tool: string;
  /** Of the link; absent where it was not limited. */
  readonly bitsPerSecond?: number;
  /** Of the relay; absent where there was none. */
  readonly roundTrip_ms?: number;
  /** From the start of the sending program until the file is durable and its sha256 known. */
  readonly seconds: number;
  /** On the link, both directions, all headers. */
  readonly bytes: number;
  /** Processor seconds of both sides together, where they are known. */
  readonly cpu_s?: number;
  /** Further figures, by name with unit. */
  readonly more?: Readonly<Record<string, number>>;
}

/** A peer: a command line and how to run it. */
export interface Tool {
  readonly name: string;
  /** For readers of a result: what is run, and what of it counts. */
  readonly how: string;
  /** Too slow to be the fastest at any rate; measured for its bytes alone. */
  readonly slow?: boolean;
  /** What can be done before it is known to whom the file goes; not counted. */
  prepare?(pair: Pair, directory: string): void;
  /** Starts what serves the file; not counted. */
  serve?(scene: Scene): Promise<void>;
  /** Counted. Ends when the file is received. */
  fetch(scene: Scene): Promise<Fetched>;
}

export interface Fetched {
  /** The file, to be made durable and checked; absent where the tool has done that. */
  readonly path?: string;
  /** As {@link Measure} has it. */
  readonly more?: Readonly<Record<string, number>>;
}

export const PORT = 7000;

/** Programs that were started and have not ended. */
class Started {
  readonly #children = new Set<Promise<unknown>>();

  add(child: ChildProcess): void {
    const end = new Promise((resolve) => child.once("close", resolve));
    this.#children.add(end);
    void end.then(() => this.#children.delete(end));
  }

  /** Resolves when all have ended, so that their processor time is known. */
  async ended(): Promise<void> {
    await Promise.all(this.#children);
  }
}

export const started = new Started();

/** Starts a program on one side; it ends with the link. */
export function start(link: Link, side: Side, script: string): ChildProcess {
  const [program, args] = link.command(side, "bash", ["-c", `set -eo pipefail; ${script}`]);
  const child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"] });
  started.add(child);
  return child;
}

/** Resolves when the program ends well. */
export async function ended(child: ChildProcess, what: string): Promise<void> {
  const errors: Buffer[] = [];
  child.stderr?.on("data", (data: Buffer) => errors.push(data));
  const code = await new Promise((resolve) => child.once("close", resolve));
  if (code === 0) return;
  throw new Error(`${what} ended with ${String(code)}: ${Buffer.concat(errors).toString()}`);
}

export async function run(link: Link, side: Side, script: string): Promise<void> {
  await ended(start(link, side, script), script);
}

/** Outside of the link; for preparation. */
export function prepare(script: string): void {
  const options = { encoding: "utf8", maxBuffer: 2 ** 26 } as const;
  const { status, stderr } = spawnSync("bash", ["-c", `set -eo pipefail; ${script}`], options);
  if (status !== 0) throw new Error(`${script} ended with ${status}: ${stderr}`);
}

/** Seconds of processor time that all ended children of this process and of the link's took. */
export function childrenCpu_s(): number {
  const text = readFileSync("/proc/self/stat", "utf8");
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[13]) + Number(fields[14])) / 100;
}
