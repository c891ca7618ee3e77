/**
 * A real API server over a unix socket with handlers in memory, and a command line whose outputs
 * are kept: what the tests of this room stand on.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { serveApi } from "#agent";
import { OPERATION_NAMES, type Handlers, type OperationName } from "#api";
import { TesseraError } from "#core";
import { realWorld } from "#system";
import { runCli } from "./program.ts";
import type { Surroundings } from "./surroundings.ts";

export interface Call {
  readonly name: OperationName;
  readonly input: unknown;
}

export interface Agent {
  readonly directory: string;
  readonly socketPath: string;
  /** What was asked, in order. */
  readonly calls: Call[];
}

/** Runs `use` with an agent that answers by `handlers`, and with a directory of its own. */
export async function withAgent(
  handlers: Partial<Handlers>,
  use: (agent: Agent) => Promise<void>,
): Promise<void> {
  await withDirectory(async (directory) => {
    const socketPath = join(directory, "agent.sock");
    const calls: Call[] = [];
    const all = recording(handlers, calls);
    const server = await serveApi({ handlers: all, socketPath, world: realWorld() });
    try {
      await use({ directory, socketPath, calls });
    } finally {
      await server.close();
    }
  });
}

export async function withDirectory(use: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "tessera-cli-"));
  try {
    await use(directory);
  } finally {
    await rm(directory, { recursive: true });
  }
}

function recording(handlers: Partial<Handlers>, calls: Call[]): Handlers {
  const entries = OPERATION_NAMES.map((name) => {
    const handler = handlers[name] as ((input: unknown, context: unknown) => unknown) | undefined;
    const answer = async (input: unknown, context: unknown): Promise<unknown> => {
      calls.push({ name, input });
      if (handler === undefined) throw new Error(`the test has no handler for ${name}`);
      return handler(input, context);
    };
    return [name, answer];
  });
  return Object.fromEntries(entries);
}

/** What a clock shows here. */
export const NOW_MS = Date.UTC(2026, 10, 30, 12);

export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

export interface RunOptions {
  readonly directory?: string;
  readonly environment?: Readonly<Record<string, string>>;
  /** Width of a terminal on both outputs; absent means no terminal. */
  readonly columns?: number;
  readonly interrupted?: AbortSignal;
  readonly runAgent?: (args: readonly string[]) => Promise<number>;
  readonly sleep?: Surroundings["sleep"];
}

/** Runs a command line in this process. */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const out: string[] = [];
  const err: string[] = [];
  const keep = (texts: string[]) => ({
    write: (text: string) => void texts.push(text),
    isTerminal: options.columns !== undefined,
    columns: options.columns ?? 100,
  });
  const surroundings: Surroundings = {
    environment: options.environment ?? {},
    directory: options.directory ?? "/nonexistent",
    home: "/nonexistent",
    isRoot: false,
    output: keep(out),
    errorOutput: keep(err),
    interrupted: options.interrupted ?? new AbortController().signal,
    runAgent: options.runAgent ?? (() => Promise.reject(new Error("no agent program here"))),
    now: () => NOW_MS,
    sleep: options.sleep ?? (() => Promise.resolve()),
  };
  const code = await runCli(argv, surroundings, "0.0.0");
  return { code, out: out.join(""), err: err.join("") };
}

/** Runs a command line against an agent. */
export function runWith(agent: Agent, argv: readonly string[], options: RunOptions = {}) {
  const environment = { TESSERA_AGENT: agent.socketPath };
  return run(argv, { environment, directory: agent.directory, ...options });
}

export function refusal(code: string): TesseraError {
  return new TesseraError("misuse", code, "it was refused", { subject: "it", remedy: "do not" });
}
