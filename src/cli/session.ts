/** What a command works with: its agent, and where its results and progress go. */
import type { Command } from "commander";
import { agentSocket } from "./agent-socket.ts";
import { connectAgent, type AgentClient } from "./client.ts";
import { showProgress, type ProgressView } from "./progress.ts";
import type { Surroundings, TextOutput } from "./surroundings.ts";

export interface Session {
  readonly surroundings: Surroundings;
  readonly json: boolean;
  /** Calls the agent; ends when the user interrupts. */
  readonly call: AgentClient["call"];
  /** The result: the value as JSON, or what `render` makes of it. */
  print<T>(value: T, render: (value: T) => string): void;
  /** A remark for people, which is no result. */
  remark(text: string): void;
  progress<T>(render: (event: T, columns: number) => readonly string[]): ProgressView<T>;
}

interface CommonOptions {
  readonly json?: boolean;
  readonly agent?: string;
}

function openSession(surroundings: Surroundings, options: CommonOptions): Session {
  const { output, errorOutput, interrupted } = surroundings;
  const client = connectAgent(agentSocket(options.agent, surroundings));
  const json = options.json === true;
  const lines: TextOutput = {
    write: (text) => errorOutput.write(text),
    isTerminal: false,
    columns: 0,
  };
  return {
    surroundings,
    json,
    call: (name, input, options = {}) =>
      client.call(name, input, { signal: interrupted, ...options }),
    print: (value, render) =>
      output.write(json ? `${JSON.stringify(value, null, 2)}\n` : render(value)),
    remark: (text) => {
      if (!json) errorOutput.write(text);
    },
    progress: (render) => showProgress(json ? lines : errorOutput, render),
  };
}

/** Words, in order; a variadic argument gives its words one after the other. */
type Words = readonly (string | undefined)[];

export type Act<O> = (session: Session, words: Words, options: O) => Promise<number | void>;

/** What commands share: where they are declared, and how their actions are run. */
export interface Bench {
  readonly surroundings: Surroundings;
  /** The arguments as given, without the program. */
  readonly argv: readonly string[];
  /** Told once by the command that ran. */
  readonly finish: (exitCode: number) => void;
}

export interface LeafText {
  readonly summary: string;
  readonly examples: readonly string[];
}

/** Declares a command that talks to the agent, with the options that all of them have. */
export function leaf(parent: Command, usage: string, { summary, examples }: LeafText): Command {
  return parent
    .command(usage)
    .description(summary)
    .option("--json", "print JSON, as doc/openapi.json describes it")
    .option("--agent <socket>", "the agent's socket or state directory (or TESSERA_AGENT)")
    .addHelpText("after", exampleText(examples));
}

export function exampleText(examples: readonly string[]): string {
  return `\nExamples:\n${examples.map((line) => `  ${line}`).join("\n")}`;
}

export function act<O>(bench: Bench, command: Command, run: Act<O>): void {
  command.action(async () => {
    const options = command.opts<O & CommonOptions>();
    const session = openSession(bench.surroundings, options);
    const words = (command.processedArgs as (string | string[] | undefined)[]).flat();
    bench.finish((await run(session, words, options)) ?? 0);
  });
}
