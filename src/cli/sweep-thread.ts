/** A thread that runs simulations, one after the other, as it is told. */
import { parentPort } from "node:worker_threads";
import { reportOf } from "#core";
import { parseScenario, Run, type SweepRun } from "#simulator";

const EVENTS_AT_ONCE = 1_000_000;

parentPort?.on("message", ({ text, seed, policy }: SweepRun) => {
  try {
    const run = new Run(parseScenario(text, "(sweep)", seed), policy);
    while (run.advance(EVENTS_AT_ONCE));
    parentPort?.postMessage({ result: run.result() }, []);
  } catch (error) {
    parentPort?.postMessage({ error: reportOf(error) }, []);
  }
});
