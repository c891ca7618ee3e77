/** The command line's process: the only place where it meets the real one. */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { constants, homedir } from "node:os";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { TesseraError } from "#core";
import { runCli } from "./program.ts";
import type { Surroundings, TextOutput } from "./surroundings.ts";

const ROOT = resolve(import.meta.dirname, "..", "..");
const AGENT = resolve(ROOT, "src", "agent", "main.ts");
const COLUMNS_ELSEWHERE = 100;

function outputOf(stream: NodeJS.WriteStream): TextOutput {
  return {
    write: (text) => void stream.write(text),
    isTerminal: stream.isTTY,
    get columns() {
      return stream.columns || COLUMNS_ELSEWHERE;
    },
  };
}

/** The agent gets the signals that we get, so that stopping us stops it. */
function runAgent(args: readonly string[]): Promise<number> {
  const agent = spawn(process.execPath, [...process.execArgv, AGENT, ...args], {
    stdio: "inherit",
  });
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
    process.removeAllListeners(signal);
    process.on(signal, () => agent.kill(signal));
  }
  return new Promise((resolve, reject) => {
    agent.once("error", reject);
    agent.once("exit", (code, signal) => resolve(code ?? signalExitCode(signal)));
  });
}

/** As shells tell it: 128 and the signal's number. */
function signalExitCode(signal: NodeJS.Signals | null): number {
  return 128 + (signal === null ? 0 : constants.signals[signal]);
}

/** The first interruption ends the command in order; the second ends the process. */
function interruption(): AbortSignal {
  const controller = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => {
      controller.abort(new TesseraError("environment", "cli.interrupted", "interrupted"));
    });
  }
  return controller.signal;
}

function version(): string {
  const text = readFileSync(resolve(ROOT, "package.json"), "utf8");
  return String((JSON.parse(text) as { version: unknown }).version);
}

function realSurroundings(): Surroundings {
  return {
    environment: process.env,
    directory: process.cwd(),
    home: homedir(),
    isRoot: process.getuid?.() === 0,
    output: outputOf(process.stdout),
    errorOutput: outputOf(process.stderr),
    interrupted: interruption(),
    runAgent,
    now: () => new Date().getTime(),
    sleep: async (milliseconds, signal) => {
      try {
        await sleep(milliseconds, undefined, { signal });
      } catch {
        throw signal.reason;
      }
    },
  };
}

// A reader such as `head` that has seen enough is no error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  process.exit(error.code === "EPIPE" ? 0 : 1);
});

process.exitCode = await runCli(process.argv.slice(2), realSurroundings(), version());
