/** The table of commands, and how one is run. */
import { reportOf, TesseraError, type ErrorReport } from "#core";
import { Argument, Command, CommanderError } from "commander";
import { addAdviseCommand } from "./commands-advice.ts";
import { addAgentCommands } from "./commands-agent.ts";
import { addComponentCommands } from "./commands-component.ts";
import { addExportCommand } from "./commands-export.ts";
import { addImportCommand } from "./commands-import.ts";
import { addApplianceCommands, addMachineCommands } from "./commands-machine.ts";
import {
  addCloudCommands,
  addMigrateCommands,
  addMigrationCommands,
} from "./commands-migration.ts";
import { addSweepCommand } from "./commands-sweep.ts";
import { addSimulateCommand } from "./commands-simulate.ts";
import { SHELLS, completionScript, type Shell } from "./completion.ts";
import { EXIT_OK, EXIT_USAGE, exitCodeOf } from "./exit-codes.ts";
import { renderError, renderErrorJson } from "./render-error.ts";
import { exampleText, type Bench } from "./session.ts";
import type { Surroundings } from "./surroundings.ts";

const OUTLINE = `
Exit codes: 0 done; 1 failed; 2 wrong usage or input; 3 refused (a constraint, a state, another
cloud); 4 not found; 5 the environment (no agent, no space); 6 corrupt data; 130 interrupted.
Results go to standard output; progress, remarks and errors to standard error.`;

const EXAMPLES = [
  "tessera agent run /var/lib/tessera",
  "tessera component build examples/components/nginx.yaml",
  "tessera plan web-1 --to inquadro",
  "tessera migrate web-1 --to inquadro --bwlimit 50Mbit/s",
];

/**
 * Runs the command of `argv` (without the program) and returns the exit code. All errors are
 * told on standard error; with `--json` as `{"error": …}`.
 */
export async function runCli(
  argv: readonly string[],
  surroundings: Surroundings,
  version: string,
): Promise<number> {
  let exitCode = EXIT_OK;
  const finish = (code: number): void => {
    exitCode = code;
  };
  const program = makeProgram({ surroundings, argv, finish }, version);
  try {
    await program.parseAsync(argv, { from: "user" });
    return exitCode;
  } catch (error) {
    return fail(error, argv, surroundings);
  }
}

function fail(error: unknown, argv: readonly string[], { errorOutput }: Surroundings): number {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return EXIT_OK;
    if (error.code === "commander.help") return EXIT_USAGE;
  }
  const report = error instanceof CommanderError ? usageReport(error) : reportOf(error);
  errorOutput.write(argv.includes("--json") ? renderErrorJson(report) : renderError(report));
  return exitCodeOf(report);
}

function usageReport({ message }: CommanderError): ErrorReport {
  const text = message.replace(/^error: /, "");
  return reportOf(
    new TesseraError("misuse", "cli.usage", text, { remedy: "see --help of the command" }),
  );
}

function makeProgram(bench: Bench, version: string): Command {
  const { output, errorOutput } = bench.surroundings;
  const program = new Command("tessera")
    .description(
      "Moves virtual machines between clouds; only bytes never seen there cross the wire.",
    )
    .version(version)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => output.write(text),
      writeErr: (text) => errorOutput.write(text),
      outputError: () => undefined,
      getOutHelpWidth: () => output.columns,
      getErrHelpWidth: () => errorOutput.columns,
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    })
    .addHelpText("after", `${exampleText(EXAMPLES)}\n${OUTLINE}`);
  addAgentCommands(program, bench);
  addComponentCommands(program, bench);
  addApplianceCommands(program, bench);
  addMachineCommands(program, bench);
  addImportCommand(program, bench);
  addExportCommand(program, bench);
  addCloudCommands(program, bench);
  addMigrateCommands(program, bench);
  addAdviseCommand(program, bench);
  addMigrationCommands(program, bench);
  addSimulateCommand(program, bench);
  addSweepCommand(program, bench);
  addCompletion(program, bench);
  return program;
}

function addCompletion(program: Command, bench: Bench): void {
  program
    .command("completion")
    .description("print a script that completes commands in a shell")
    .addArgument(new Argument("<shell>").choices(SHELLS))
    .addHelpText(
      "after",
      exampleText([
        "tessera completion bash > /etc/bash_completion.d/tessera",
        "tessera completion fish > ~/.config/fish/completions/tessera.fish",
      ]),
    )
    .action((shell: Shell) => bench.surroundings.output.write(completionScript(program, shell)));
}
