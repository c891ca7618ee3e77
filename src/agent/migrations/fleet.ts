/** Plans for several machines that leave together. */
import { reportOf, type ErrorReport, type Machine, type Offer, type Plan, type World } from "#core";
import { sharePlans } from "#migration";
import { objections, reserve } from "#placement";
import { refusal } from "./refusal.ts";
import { refuseObjections, type Migrations } from "./migrations.ts";
import type { Planned, Route } from "./planner.ts";

/** One of the machines; `error` says why it cannot leave. */
export type FleetEntry = { readonly machine: Machine } & (
  | { readonly planned: Planned }
  | { readonly error: ErrorReport }
);

export interface FleetPlan {
  readonly entries: readonly FleetEntry[];
  /** What would move besides, if each left alone. */
  readonly sharedBytes: number;
}

interface FleetTools {
  readonly migrations: Migrations;
  readonly world: World;
}

/**
 * Plans in the order given: each machine is placed on what those before it have left, and components
 * that several bring to one cloud are counted once.
 */
export async function planFleet(tools: FleetTools, routes: readonly Route[]): Promise<FleetPlan> {
  let offers: readonly Offer[] = tools.migrations.planner.offers();
  const entries: FleetEntry[] = [];
  for (const route of routes) {
    const entry = await planOne(tools, { ...route, offers });
    entries.push(entry);
    if ("planned" in entry) offers = taken(tools, entry, offers);
  }
  return withShared(entries);
}

async function planOne(tools: FleetTools, route: Route): Promise<FleetEntry> {
  const { machine } = route;
  try {
    await tools.migrations.requireFree(machine.uuid);
    const planned = await tools.migrations.planner.plan(route);
    refuseObjections(planned);
    refuseLack(tools, route, planned);
    return { machine, planned };
  } catch (error) {
    return { machine, error: reportOf(error) };
  }
}

/** The destination answers for one machine alone: that it has room for all is found here. */
function refuseLack(
  { world }: FleetTools,
  { machine, offers = [] }: Route,
  planned: Planned,
): void {
  const { destination } = planned.plan;
  const offer = offers.find(({ cloud }) => cloud === destination);
  if (offer === undefined) return;
  const reasons = objections(requestOf(world, machine, planned), offer);
  const [first] = reasons;
  if (first !== undefined) {
    throw refusal(`${destination} ${first} beside the machines before`, machine.uuid, reasons);
  }
}

function requestOf(world: World, { appliance }: Machine, { userData }: Planned) {
  return { appliance, allocatedBytes: userData.allocatedBytes, now_ms: world.clock.now() };
}

function taken(
  { world }: FleetTools,
  { machine, planned }: Extract<FleetEntry, { planned: Planned }>,
  offers: readonly Offer[],
): Offer[] {
  const request = requestOf(world, machine, planned);
  const { destination } = planned.plan;
  return offers.map((offer) => (offer.cloud === destination ? reserve(request, offer) : offer));
}

function withShared(entries: readonly FleetEntry[]): FleetPlan {
  const alone = entries.flatMap((one) => ("planned" in one ? [one.planned.plan] : []));
  const plans = sharePlans(alone);
  const byMachine = new Map(plans.map((plan) => [plan.machine, plan]));
  const shared = entries.map((entry) => {
    const plan = byMachine.get(entry.machine.uuid);
    return "planned" in entry && plan !== undefined
      ? { ...entry, planned: { ...entry.planned, plan } }
      : entry;
  });
  return { entries: shared, sharedBytes: totalBytesOf(alone) - totalBytesOf(plans) };
}

function totalBytesOf(plans: readonly Plan[]): number {
  return plans.reduce((sum, { totalBytes }) => sum + totalBytes, 0);
}

/** The order in which a cloud is emptied: what matters most first, then what is hardest to place. */
export function inOrder(machines: readonly Machine[]): Machine[] {
  return machines.toSorted(
    (one, other) =>
      priorityOf(other) - priorityOf(one) ||
      memoryOf(other) - memoryOf(one) ||
      (one.name < other.name ? -1 : 1),
  );
}

const priorityOf = ({ appliance }: Machine): number => appliance.serviceLevel.priority;
const memoryOf = ({ appliance }: Machine): number => appliance.resources.memoryBytes;
