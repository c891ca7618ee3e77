/** How much memory a run takes, told before it begins. */
import { formatBytes, TesseraError } from "#core";
import type { PolicySpec, Scenario } from "./contract.ts";
import { machinesMost } from "./machines.ts";

/** The program itself, and what is garbage until it is collected. */
const BASE_BYTES = 200e6;
const MACHINE_BYTES = 61;
/** How much it writes to its memory. */
const HOT_MACHINE_BYTES = 8;
const EVENT_BYTES = 33;
/** References, digests and their entries in maps. */
const COMPONENT_BYTES = 1200;
const REVISION_BYTES = 1500;
const CLOUD_BYTES = 1500;
const SEEN_BYTES = 40;
/** A request to a bounded repository, kept for the clairvoyant bound. */
const STAY_BYTES = 60;

/** Bytes at most, by the sizes of what is kept; within about a third of what is seen. */
export function estimateMemory(scenario: Scenario, { transfer, hot }: PolicySpec): number {
  const { catalogue, clouds, duration_s, machines, migrations } = scenario;
  const count = clouds.reduce((sum, group) => sum + group.count, 0);
  const versions = 1 + duration_s / (catalogue.releaseEvery_s ?? Number.POSITIVE_INFINITY);
  const components = catalogue.components.length * versions;
  const perAppliance = catalogue.programsMean + 2;
  const appliances = Math.max(catalogue.named.length, catalogue.appliances);
  const slots = machinesMost(scenario);
  const births = slots * (1 + duration_s / (machines.lifetime_s ?? Number.POSITIVE_INFINITY));
  const revisions = Math.min(births, appliances * (1 + (versions - 1) * perAppliance));
  const bounded = clouds
    .filter(({ repository }) => repository.policy !== "unlimited")
    .reduce((sum, group) => sum + group.count, 0);
  const timers =
    Number(machines.lifetime_s !== undefined) + Number(machines.load.changeEvery_s !== undefined);
  const stays = bounded > 0 && transfer !== "monolithic" ? migrations.count * perAppliance : 0;
  return (
    BASE_BYTES +
    count * components * 5 +
    bounded * components * 8 +
    count * CLOUD_BYTES +
    components * COMPONENT_BYTES +
    revisions * REVISION_BYTES +
    slots * (MACHINE_BYTES + (hot === undefined ? 0 : HOT_MACHINE_BYTES)) +
    // The queue doubles when it is full, and holds old and new while it does.
    slots * timers * EVENT_BYTES * 3 +
    Math.min(births + migrations.count, count * revisions) * SEEN_BYTES +
    stays * STAY_BYTES
  );
}

/** @throws `simulator.memory-exceeded` (misuse) */
export function checkMemory(scenario: Scenario, policy: PolicySpec): void {
  const bytes = estimateMemory(scenario, policy);
  if (bytes <= scenario.memoryMaxBytes) return;
  const message = `the run would take about ${formatBytes(bytes)} of memory, and ${formatBytes(scenario.memoryMaxBytes)} are allowed`;
  throw new TesseraError("misuse", "simulator.memory-exceeded", message, {
    subject: scenario.name,
    remedy: "lower the number of machines, clouds or versions, or raise `memory` of the scenario",
  });
}
