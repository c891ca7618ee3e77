/** The plan of a simulated migration, by the real planner. */
import { TesseraError, type Digest, type Plan } from "#core";
import { makePlan, type ComponentMove, type PlanInput } from "#migration";
import { forecastOf } from "./hot-memory.ts";
import type { Parts } from "./parts.ts";

export function planOf(parts: Parts, machine: number, from: number, to: number): Plan {
  const { clouds, components, costs, policy, population, repositories, revisions } = parts;
  const { queue, scenario } = parts;
  const revision = revisions.list[population.revision[machine] as number];
  if (revision === undefined) throw noRevision();
  const monolithic = policy.transfer === "monolithic";
  const held: Digest[] = [];
  const moves = new Map<Digest, ComponentMove>();
  for (const component of monolithic ? [] : revision.components) {
    const id = components.references[component]?.id as Digest;
    if (repositories.holds(to, component)) held.push(id);
    else moves.set(id, costs.component(component, from, to));
  }
  const all = population.userDataBytes[machine] as number;
  const { rawBytes, lineage } = monolithic
    ? { rawBytes: all, lineage: false }
    : costs.userData(machine, to, queue.now_s);
  const bytes = Math.ceil(rawBytes * scenario.machines.userDataRatio);
  return makePlan({
    machine: String(machine),
    source: clouds.names[from] ?? "",
    destination: clouds.names[to] ?? "",
    ...modeOf(parts, machine, from, to),
    appliance: revision.appliance,
    held,
    ratios: components.ratiosById,
    moves,
    userData: { allocatedBytes: all, bytes, lineage },
    rate: { bitsPerSecond: clouds.rate_bps(from, to), from: "offer" },
    pricePerGB: clouds.egressPricePerGB[from] as number,
    notes: [],
  });
}

/** Memory is forecast by the real strategy. */
function modeOf(
  parts: Parts,
  machine: number,
  from: number,
  to: number,
): Pick<PlanInput, "mode" | "hot"> {
  const { policy, scenario } = parts;
  if (policy.hot === undefined) return { mode: "cold" };
  const { memoryBytes } = scenario.machines;
  const forecast = forecastOf(parts, machine, from, to);
  return { mode: "hot", hot: { memory: policy.hot, storage: "hybrid", memoryBytes, forecast } };
}

function noRevision(): TesseraError {
  return new TesseraError("bug", "simulator.no-revision", "a machine is made of nothing");
}
