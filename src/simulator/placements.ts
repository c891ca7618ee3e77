/** The room `placement` as the simulator's policies: what a view shows, in the words of placement. */
import {
  chooseReceiver,
  guestsToSend,
  loadWith,
  observe,
  PLACEMENT_SETTINGS,
  sends,
  startTrend,
  takes,
  type CloudLoad,
  type GuestLoad,
  type LoadTrend,
  type MoveCost,
  type PlacementPolicy as Rule,
  type PlacementSettings,
  type Receiver,
} from "#placement";
import type { FederationView, PlacementDecision, PlacementPolicy, PolicySpec } from "./contract.ts";

type Rounds = Pick<PolicySpec, "candidates" | "round_s">;
/** Trends by cloud. */
type Trends = readonly LoadTrend[];

interface Guest extends GuestLoad {
  readonly machine: number;
}

/** What PolicySpec.placement may name, and how a policy of that name is made. */
export const PLACEMENTS: Readonly<Record<Rule, (rounds: Rounds) => PlacementPolicy<Trends>>> = {
  none: (rounds) => policyOf("none", rounds),
  "least-loaded": (rounds) => policyOf("least-loaded", rounds),
  threshold: (rounds) => policyOf("threshold", rounds),
  selective: (rounds) => policyOf("selective", rounds),
};

function policyOf(rule: Rule, { candidates, round_s }: Rounds): PlacementPolicy<Trends> {
  const settings = { ...PLACEMENT_SETTINGS, observation_s: round_s };
  return {
    start: (view) =>
      Array.from({ length: view.clouds }, (_none, each) => startTrend(share(view, each))),
    choose: (view, machine, among, trends) => forced(rule, view, machine, among, trends),
    decide: (view, before) => {
      if (rule === "none") return { decisions: [], memory: before };
      const memory = before.map((trend, cloud) => observe(trend, share(view, cloud)));
      return { decisions: decide({ rule, settings, view, trends: memory, candidates }), memory };
    },
  };
}

/** Load over capacity; a cloud without processors counts as full. */
function share({ load, capacity }: FederationView, cloud: number): number {
  const all = capacity[cloud] ?? 0;
  return all > 0 ? (load[cloud] ?? 0) / all : 1;
}

function loadOf(view: FederationView, cloud: number, trends: Trends): CloudLoad {
  const load = share(view, cloud);
  const capacity = Math.max(Number.MIN_VALUE, view.capacity[cloud] ?? 0);
  return { capacity, load, trend: trends[cloud] ?? startTrend(load) };
}

function guestOf({ machineLoad, machineLoadBefore }: FederationView, machine: number): Guest {
  const cpus = machineLoad[machine] ?? 0;
  const slope = cpus - (machineLoadBefore[machine] ?? cpus);
  return { machine, cpus, trend: { ...startTrend(cpus), slope } };
}

function fits(view: FederationView, cloud: number): boolean {
  return view.open[cloud] === 1 && (view.memoryFreeBytes[cloud] ?? 0) >= view.machineMemoryBytes;
}

/**
 * Where a machine goes that must: without a policy to the first of the candidates with room, else
 * to the lowest load, or projected trend, and of equal ones where the fewest bytes are missing.
 */
function forced(
  rule: Rule,
  view: FederationView,
  machine: number,
  among: readonly number[],
  trends: Trends,
): number | undefined {
  const able = among.filter((cloud) => fits(view, cloud));
  if (rule === "none") return able[0];
  const { cpus } = guestOf(view, machine);
  let best: { cloud: number; load: number; missing: number } | undefined;
  for (const cloud of able) {
    const load = loadWith(rule, loadOf(view, cloud, trends), cpus);
    const missing = view.missingBytes(machine, cloud);
    const better =
      best === undefined || load < best.load || (load === best.load && missing < best.missing);
    if (better) best = { cloud, load, missing };
  }
  return best?.cloud;
}

interface Round {
  readonly rule: Rule;
  readonly settings: PlacementSettings;
  readonly view: FederationView;
  readonly trends: Trends;
  readonly candidates: number;
}

function decide(round: Round): PlacementDecision[] {
  const { rule, settings, view, trends } = round;
  const mean = meanLoad(view);
  const decisions: PlacementDecision[] = [];
  /** CPUs that this round has already sent to a cloud. */
  const sent = new Map<number, number>();
  for (let cloud = 0; cloud < view.clouds; cloud += 1) {
    if (view.open[cloud] !== 1) continue;
    const here = loadOf(view, cloud, trends);
    if (!sends(rule, here, mean, settings)) continue;
    const guests = view.machinesOf(cloud).map((machine) => guestOf(view, machine));
    for (const guest of guestsToSend(rule, here, guests, mean, settings)) {
      const to = place(round, cloud, here, guest, sent);
      if (to === undefined) continue;
      sent.set(to, (sent.get(to) ?? 0) + guest.cpus);
      decisions.push({ machine: guest.machine, to });
    }
  }
  return decisions;
}

function meanLoad(view: FederationView): number {
  let sum = 0;
  let count = 0;
  for (let cloud = 0; cloud < view.clouds; cloud += 1) {
    if (view.open[cloud] !== 1) continue;
    sum += share(view, cloud);
    count += 1;
  }
  return count === 0 ? 0 : sum / count;
}

/** The best of a few clouds that are drawn, if it is worth the move. */
function place(
  { rule, settings, view, trends, candidates }: Round,
  from: number,
  here: CloudLoad,
  guest: Guest,
  sent: ReadonlyMap<number, number>,
): number | undefined {
  const receivers: Receiver<number>[] = [];
  for (const name of view.drawClouds(candidates)) {
    if (name === from || !fits(view, name)) continue;
    const cloud = withSent(loadOf(view, name, trends), sent.get(name) ?? 0);
    // The bytes are asked for last: they cost the most to know.
    if (!takes(rule, cloud, guest.cpus, settings)) continue;
    if (loadWith(rule, cloud, guest.cpus) >= loadWith(rule, here, 0)) continue;
    receivers.push({ name, cloud, cost: costOf(view, guest.machine, from, name) });
  }
  return chooseReceiver(rule, here, guest, receivers, settings)?.to;
}

function withSent({ capacity, load, trend }: CloudLoad, cpus: number): CloudLoad {
  const by = cpus / capacity;
  return { capacity, load: load + by, trend: { ...trend, level: trend.level + by } };
}

function costOf(view: FederationView, machine: number, from: number, to: number): MoveCost {
  return {
    missingBytes: view.missingBytes(machine, to),
    userDataBytes: view.userDataBytes(machine, to),
    bitsPerSecond: Math.min(view.uplink_bps[from] ?? 1, view.downlink_bps[to] ?? 1),
    egressPricePerGB: view.egressPricePerGB[from] ?? 0,
    downtime_s: view.downtime_s(machine, to),
  };
}
