/** `tessera sweep`: many simulations that differ in some fields, on all processors. */
import { availableParallelism } from "node:os";
import { dirname, join, resolve } from "node:path";
import { TesseraError } from "#core";
import type { Command } from "commander";
import { act, exampleText, type Bench } from "./session.ts";
import { runSweep } from "./sweep.ts";
import { readText, writeText } from "./texts.ts";

const THREADS_MAX = 1024;

interface SweepCommandOptions {
  readonly out?: string;
  readonly threads?: string;
}

export function addSweepCommand(root: Command, bench: Bench): void {
  const sweep = root
    .command("sweep <file>")
    .description("simulate a scenario with some of its fields varied; goes on where it was")
    .option("--json", "print the results as JSON")
    .option("--out <directory>", "where runs and the table are kept (default: FILE.out)")
    .option("--threads <number>", "simulations at a time (default: one for each processor)")
    .addHelpText(
      "after",
      exampleText(["tessera sweep examples/scenarios/zipf.sweep.yaml --out build/zipf"]),
    );
  act<SweepCommandOptions>(bench, sweep, async (session, [file = ""], options) => {
    const { directory, interrupted } = session.surroundings;
    const path = resolve(directory, file);
    // Other commands need not wait until the simulator is loaded.
    const { parseSweep, sweepCsv, sweepRuns } = await import("#simulator");
    const plan = parseSweep(await readText(path), file);
    const runs = sweepRuns(plan, await readText(resolve(dirname(path), plan.scenario)));
    const out = resolve(directory, options.out ?? `${file}.out`);
    const view = session.progress((done: number) => [`${done} of ${runs.length} runs`]);
    const results = await runSweep(runs, {
      directory: out,
      threads: threadsOf(options.threads),
      interrupted,
      progress: view.show,
    }).finally(view.end);
    const rows = runs.flatMap((run, index) => {
      const result = results[index];
      return result === undefined ? [] : [{ run, result }];
    });
    const csv = sweepCsv(rows);
    await writeText(join(out, "sweep.csv"), csv);
    session.print(
      rows.map(({ run: { values }, result }) => ({ values, ...result })),
      () => csv,
    );
  });
}

function threadsOf(text: string | undefined): number {
  if (text === undefined) return availableParallelism();
  const count = /^\d+$/.test(text) ? Number(text) : 0;
  if (count >= 1 && count <= THREADS_MAX) return count;
  throw new TesseraError("misuse", "cli.usage", `"${text}" is not a number of threads`, {
    subject: "--threads",
    remedy: `give a whole number from 1 to ${THREADS_MAX}`,
  });
}
