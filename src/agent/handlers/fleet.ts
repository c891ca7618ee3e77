import type { Handlers, Input, Output } from "#api";
import type { Machine } from "#core";
import { inOrder, planFleet, type FleetEntry, type FleetPlan } from "../migrations/fleet.ts";
import { planView, route } from "./migrations.ts";
import type { Parts } from "./parts.ts";

export function fleetHandlers(parts: Parts): Pick<Handlers, "plan.fleet"> {
  return {
    "plan.fleet": async ({ machines: names, ...rest }) => {
      const machines = await machinesOf(parts, names);
      const routes = machines.map(({ uuid }) => route(parts, { ...rest, machine: uuid }));
      return view(await planFleet(parts, await Promise.all(routes)));
    },
  };
}

/** In the order given, each once; without names all that are here. */
async function machinesOf(
  { machines }: Parts,
  names: Input<"plan.fleet">["machines"],
): Promise<Machine[]> {
  if (names === undefined) {
    return inOrder((await machines.list()).filter(({ state }) => state !== "gone"));
  }
  const named = await Promise.all(names.map((text) => machines.store.resolve(text)));
  return [...new Map(named.map(({ machine }) => [machine.uuid, machine])).values()];
}

function view({ entries, sharedBytes }: FleetPlan): Output<"plan.fleet"> {
  const plans = entries.flatMap((entry) => ("planned" in entry ? [entry.planned.plan] : []));
  const sum = (of: (plan: (typeof plans)[number]) => number): number =>
    plans.reduce((total, plan) => total + of(plan), 0);
  return {
    machines: entries.map(entryView),
    totalBytes: sum(({ totalBytes }) => totalBytes),
    sharedBytes,
    expected_ms: sum(({ expected_ms }) => expected_ms),
    price: sum(({ price }) => price),
  };
}

function entryView(entry: FleetEntry): Output<"plan.fleet">["machines"][number] {
  const { uuid: machine, name: machineName } = entry.machine;
  const more = "planned" in entry ? planView(entry.planned) : { error: entry.error };
  return { machine, machineName, ...more };
}
