/** What the demo says, in one place. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { basename, join, resolve } from "node:path";

const ROOT = resolve(import.meta.dirname, "../..");
const TESSERA = join(ROOT, "bin", "tessera");
const begin = performance.now();

const bold = (text: string): string => (process.stdout.isTTY ? `\u001b[1m${text}\u001b[0m` : text);

export function headline(text: string): void {
  process.stdout.write(`\n${bold(`== ${text}`)}\n`);
}

export function say(text: string): void {
  const seconds = String(Math.round((performance.now() - begin) / 1000)).padStart(4);
  process.stdout.write(`[${seconds} s] ${text}\n`);
}

interface Ended {
  readonly status: number | null;
  readonly output: string;
  readonly errorText: string;
}

async function ended(child: ChildProcess): Promise<Ended> {
  let output = "";
  let errorText = "";
  child.stdout?.on("data", (chunk: Buffer) => (output += chunk.toString("utf8")));
  child.stderr?.on("data", (chunk: Buffer) => (errorText += chunk.toString("utf8")));
  const [status] = (await once(child, "close")) as [number | null];
  return { status, output, errorText };
}

/** Runs a command of Tessera as a user would type it, and shows it. */
export async function tessera(cloud: string, args: readonly string[]): Promise<void> {
  const line = `$ tessera ${args.join(" ")}`;
  process.stdout.write(`\n${bold(line)}    (at ${basename(cloud)})\n`);
  const child = spawn(TESSERA, args, {
    env: { ...process.env, TESSERA_AGENT: join(cloud, "agent.sock") },
    stdio: ["ignore", "inherit", process.stdout.isTTY ? "inherit" : "pipe"],
  });
  const { status, errorText } = await ended(child);
  if (status !== 0) throw new Error(`${line} ended with ${status}: ${errorText.slice(-2000)}`);
}

/** Runs a program to its end and returns what it printed. */
export async function run(program: string, args: readonly string[]): Promise<string> {
  const path = `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin`;
  const child = spawn(program, args, {
    env: { ...process.env, PATH: path },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const { status, output, errorText } = await ended(child);
  if (status === 0) return output;
  throw new Error(`${program} ended with ${status}: ${errorText.slice(-2000)}`);
}
