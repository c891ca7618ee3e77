/** `tessera simulate`: runs scenarios in this process; no agent takes part. */
import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { TesseraError } from "#core";
import type { PolicySpec, Run, RunResult, Scenario } from "#simulator";
import type { Command } from "commander";
import { act, exampleText, type Bench, type Session } from "./session.ts";
import { readText, writeText } from "./texts.ts";

/** Events between two looks at the user and the clock. */
const EVENTS_AT_ONCE = 250_000;
const BAR_WIDTH = 24;

interface SimulateOptions {
  readonly seed?: string;
  readonly policy?: string;
  readonly out?: string;
}

interface SimulateProgress {
  readonly policy: string;
  /** Part of the simulated time, 0 to 1. */
  readonly part: number;
  readonly events: number;
}

export function addSimulateCommand(root: Command, bench: Bench): void {
  const examples = [
    "tessera simulate examples/scenarios/paper.yaml",
    "tessera simulate examples/hundreds.yaml --out build/hundreds",
    "tessera simulate examples/hundreds.yaml --policy cic-delta --seed 7 --json",
  ];
  const simulate = root
    .command("simulate <scenario>")
    .description("simulate a federation of many clouds, under each policy of the scenario")
    .option("--json", "print the results as JSON, as doc/simulator.md describes them")
    .option("--seed <number>", "in place of the scenario's")
    .option("--policy <name>", "run only this policy of the scenario")
    .option("--out <directory>", "write results.json, series.csv and report.html there")
    .addHelpText("after", exampleText(examples));
  act<SimulateOptions>(bench, simulate, async (session, [file = ""], options) => {
    const { directory } = session.surroundings;
    const text = await readText(resolve(directory, file));
    const seed = seedOf(options.seed);
    // Other commands need not wait until the simulator and its plots are loaded.
    const { parseScenario, renderSummary, Run } = await import("#simulator");
    const scenario = parseScenario(text, file, seed);
    const results: RunResult[] = [];
    for (const policy of chosen(scenario, options.policy)) {
      results.push(await goThrough(session, new Run(scenario, policy), scenario, policy));
    }
    if (options.out !== undefined) await writeOut(resolve(directory, options.out), results);
    session.print(results, renderSummary);
  });
}

function seedOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const seed = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(seed)) return seed;
  throw new TesseraError("misuse", "cli.usage", `"${text}" is not a seed`, {
    subject: "--seed",
    remedy: "give a whole number of at least 0",
  });
}

function chosen({ policies }: Scenario, name: string | undefined): readonly PolicySpec[] {
  if (name === undefined) return policies;
  const found = policies.filter((policy) => policy.name === name);
  if (found.length > 0) return found;
  const message = `the scenario has no policy "${name}"`;
  const names = policies.map((policy) => policy.name).join(", ");
  throw new TesseraError("misuse", "cli.usage", message, {
    subject: "--policy",
    remedy: `name one of ${names}`,
  });
}

async function goThrough(
  session: Session,
  run: Run,
  scenario: Scenario,
  policy: PolicySpec,
): Promise<RunResult> {
  const { surroundings } = session;
  const view = session.progress(renderProgress);
  const show = (part: number): void => view.show({ policy: policy.name, part, events: run.events });
  while (run.advance(EVENTS_AT_ONCE)) {
    show(run.now_s / scenario.duration_s);
    surroundings.interrupted.throwIfAborted();
    await surroundings.sleep(0, surroundings.interrupted);
  }
  show(1);
  view.end();
  return run.result();
}

function renderProgress({ policy, part, events }: SimulateProgress): string[] {
  const filled = Math.round(part * BAR_WIDTH);
  const bar = "#".repeat(filled) + "-".repeat(BAR_WIDTH - filled);
  const percent = `${Math.floor(part * 100)}`.padStart(3);
  return [`[${bar}] ${percent} %  ${(events / 1e6).toFixed(1)} M events  ${policy}`];
}

async function writeOut(directory: string, results: readonly RunResult[]): Promise<void> {
  const { renderReport, seriesCsv } = await import("#simulator");
  await mkdir(directory, { recursive: true });
  await writeText(join(directory, "results.json"), `${JSON.stringify(results, null, 2)}\n`);
  await writeText(join(directory, "series.csv"), seriesCsv(results));
  const title = results[0]?.scenario ?? "simulation";
  await writeText(join(directory, "report.html"), renderReport(title, results));
}
