import { formatBytes, formatDuration, type Offer } from "#core";
import { bytesMissing, objections, type Request } from "./choose.ts";
import type {
  CloudLoad,
  GuestLoad,
  MoveCost,
  PlacementPolicy,
  PlacementSettings,
} from "./contract.ts";
import { chooseReceiver, weigh, type Choice, type Receiver, type Verdict } from "./gate.ts";
import { guestsToSend, loadWith, sends, takes, trendShare } from "./policies.ts";

/** A machine that runs here, and what its migration would take besides components. */
export interface Resident extends GuestLoad {
  readonly machine: string;
  readonly request: Request;
  /** From off here to on there, as earlier migrations had it. */
  downtime_s(to: string, bytes: number): number;
}

/** Another cloud; without `load` it does not tell how busy it is. */
export interface Neighbour {
  readonly offer: Offer;
  readonly load?: CloudLoad;
}

export interface Situation {
  readonly policy: PlacementPolicy;
  readonly here: CloudLoad;
  readonly egressPricePerGB: number;
  readonly residents: readonly Resident[];
  readonly neighbours: readonly Neighbour[];
  /** Bits per second from here, and from a cloud that tells none. */
  readonly linkRate: number;
}

/** What should become of one machine, and why. */
export interface Advice {
  readonly machine: string;
  /** Absent: it should stay. */
  readonly to?: string;
  readonly reasons: readonly string[];
  readonly verdict?: Verdict;
}

export interface Advised {
  /** Whether this cloud should send machines at all, and why. */
  readonly sends: boolean;
  readonly reason: string;
  readonly machines: readonly Advice[];
}

/**
 * Which machines should leave this cloud, and where to. Every cloud is considered; each move that
 * is advised counts as done for the next. Pure.
 */
export function advise(situation: Situation, settings: PlacementSettings): Advised {
  const { policy, here, residents, neighbours } = situation;
  const loads = neighbours.flatMap(({ load }) => (load === undefined ? [] : [load]));
  const mean = [here, ...loads].reduce((sum, { load }) => sum + load, 0) / (loads.length + 1);
  const reason = reasonOf(policy, here, mean, settings);
  if (!sends(policy, here, mean, settings)) {
    const stay = residents.map(({ machine }) => ({ machine, reasons: ["its cloud sends none"] }));
    return { sends: false, reason, machines: stay };
  }
  const going = new Set(guestsToSend(policy, here, residents, mean, settings));
  const scene = { situation, settings, here, neighbours: [...neighbours] };
  const machines = [...going].map((resident) => place(scene, resident));
  const staying = residents
    .filter((resident) => !going.has(resident))
    .map(({ machine }) => ({ machine, reasons: ["others are enough, or better ones to go"] }));
  return { sends: true, reason, machines: [...machines, ...staying] };
}

const percent = (share: number): string => `${(100 * share).toFixed(0)}%`;

function reasonOf(
  policy: PlacementPolicy,
  { load, trend }: CloudLoad,
  mean: number,
  { high, margin }: PlacementSettings,
): string {
  switch (policy) {
    case "none":
      return "the policy moves nothing";
    case "least-loaded":
      return `load ${percent(load)}, mean of the known clouds ${percent(mean)}, margin ${percent(margin)}`;
    case "threshold":
      return `load ${percent(load)}, high mark ${percent(high)}`;
    case "selective":
      return trend.change === "none"
        ? `no change of load detected (${trend.samples} observations)`
        : `the load has changed: ${trend.change}`;
  }
}

interface Scene {
  readonly situation: Situation;
  readonly settings: PlacementSettings;
  /** As it will be once what has been advised is done. */
  here: CloudLoad;
  readonly neighbours: Neighbour[];
}

function place(scene: Scene, resident: Resident): Advice {
  const { policy } = scene.situation;
  const { receivers, against } = candidatesOf(scene, resident);
  const { machine } = resident;
  const choice = chooseReceiver(policy, scene.here, resident, receivers, scene.settings);
  if (choice === undefined) {
    const left = receivers.map((receiver) => whyNot(scene, resident, receiver));
    return { machine, reasons: [...against, ...left, "no cloud is worth the move"] };
  }
  const reasons = whyThere(scene, resident, choice);
  apply(scene, resident, choice.to);
  return { machine, to: choice.to, reasons, verdict: choice.verdict };
}

function candidatesOf(scene: Scene, resident: Resident) {
  const receivers: Receiver<string>[] = [];
  const against: string[] = [];
  for (const { offer, load } of scene.neighbours) {
    const why = objections(resident.request, offer);
    if (load === undefined) why.push("does not tell its load");
    if (load === undefined || why.length > 0) against.push(`${offer.cloud}: ${why.join("; ")}`);
    else receivers.push({ name: offer.cloud, cloud: load, cost: costOf(scene, resident, offer) });
  }
  return { receivers, against };
}

function costOf({ situation }: Scene, resident: Resident, offer: Offer): MoveCost {
  const missingBytes = bytesMissing(resident.request.appliance, offer);
  const userDataBytes = resident.request.allocatedBytes;
  const bitsPerSecond = Math.min(situation.linkRate, offer.linkRate ?? situation.linkRate);
  return {
    missingBytes,
    userDataBytes,
    bitsPerSecond,
    egressPricePerGB: situation.egressPricePerGB,
    downtime_s: resident.downtime_s(offer.cloud, userDataBytes),
  };
}

function whyThere({ situation, here }: Scene, resident: Resident, choice: Choice<string>) {
  const { verdict, to } = choice;
  const share = situation.policy === "selective" ? [shareText(here, resident)] : [];
  const moves = `${formatBytes(verdict.bytes)} to move in ${formatDuration(verdict.expected_s * 1000)}`;
  return [
    ...share,
    `load ${percent(verdict.loadHere)} here, ${percent(verdict.loadThere)} at ${to} with it`,
    `${moves}, downtime ${formatDuration(verdict.downtime_s * 1000)}, ${moneyText(verdict)}`,
  ];
}

function shareText(here: CloudLoad, resident: Resident): string {
  return `${percent(trendShare(here, resident))} of the rise is its own`;
}

function moneyText({ gain, cost }: Verdict): string {
  return `gain ${gain.toFixed(4)} against cost ${cost.toFixed(4)}`;
}

function whyNot(scene: Scene, resident: Resident, receiver: Receiver<string>): string {
  const { name, cloud, cost } = receiver;
  const { policy } = scene.situation;
  if (!takes(policy, cloud, resident.cpus, scene.settings)) {
    return `${name}: would be too busy with it (${percent(loadWith(policy, cloud, resident.cpus))})`;
  }
  const verdict = weigh(policy, scene.here, cloud, resident, cost, scene.settings);
  return `${name}: ${moneyText(verdict)} for ${formatBytes(verdict.bytes)}`;
}

/** What has been advised counts as done. */
function apply(scene: Scene, resident: Resident, to: string): void {
  const { resources } = resident.request.appliance;
  scene.here = shifted(scene.here, -resident.cpus);
  const index = scene.neighbours.findIndex(({ offer }) => offer.cloud === to);
  const neighbour = scene.neighbours[index];
  if (neighbour?.load === undefined) return;
  const { offer, load } = neighbour;
  const missing = bytesMissing(resident.request.appliance, offer);
  const left = {
    cpusFree: offer.cpusFree - resources.cpus,
    memoryFreeBytes: offer.memoryFreeBytes - resources.memoryBytes,
    storageFreeBytes: offer.storageFreeBytes - missing - resident.request.allocatedBytes,
  };
  scene.neighbours[index] = {
    offer: { ...offer, ...left },
    load: shifted(load, resident.cpus),
  };
}

function shifted({ capacity, load, trend }: CloudLoad, cpus: number): CloudLoad {
  const by = cpus / capacity;
  return { capacity, load: load + by, trend: { ...trend, level: trend.level + by } };
}
