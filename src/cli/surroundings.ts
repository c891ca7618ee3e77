/** What the command line needs of the process that it runs in, so that tests can stand in for it. */

export interface TextOutput {
  write(text: string): void;
  readonly isTerminal: boolean;
  /** Width of the terminal in characters. */
  readonly columns: number;
}

export interface Surroundings {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly directory: string;
  readonly home: string;
  readonly isRoot: boolean;
  /** Results, and nothing else. */
  readonly output: TextOutput;
  /** Progress, remarks and errors. */
  readonly errorOutput: TextOutput;
  /** Aborted with `cli.interrupted` when the user interrupts. */
  readonly interrupted: AbortSignal;
  /** Runs the agent's own program with our streams; returns its exit code. */
  runAgent(args: readonly string[]): Promise<number>;
  /** Milliseconds since the Unix epoch. */
  now(): number;
  sleep(milliseconds: number, signal: AbortSignal): Promise<void>;
}
