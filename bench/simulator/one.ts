/** Runs one scenario (its text on standard input) and prints what it took, as JSON: a process of its own, for its memory. */
import { readFileSync } from "node:fs";
import { estimateMemory, parseScenario, Run } from "#simulator";

export interface Took {
  readonly wall_s: number;
  readonly cpu_s: number;
  readonly events: number;
  readonly migrations: number;
  readonly peakBytes: number;
  readonly estimatedBytes: number;
}

const scenario = parseScenario(readFileSync(0, "utf8"), "bench.yaml");
const [policy] = scenario.policies;
if (policy === undefined) throw new Error("a scenario without a policy");
const begin = performance.now();
const cpuBefore = process.cpuUsage();
const run = new Run(scenario, policy);
while (run.advance(1_000_000));
const wall_s = (performance.now() - begin) / 1000;
const cpu = process.cpuUsage(cpuBefore);
const took: Took = {
  wall_s,
  cpu_s: (cpu.user + cpu.system) / 1e6,
  events: run.events,
  migrations: run.result().totals.migrations,
  peakBytes: process.resourceUsage().maxRSS * 1024,
  estimatedBytes: estimateMemory(scenario, policy),
};
process.stdout.write(JSON.stringify(took));
