/** Offers and requests as the agent's placement knows them, and what it objects to. */
import { summaryHead, type Offer } from "#core";
import { objections, type Request } from "#placement";
import type { Parts } from "./parts.ts";

const EXPIRES_ms = 60_000;

/** The summary names only what the machine is composed of: nothing else is asked of it. */
export function offerOf(parts: Parts, machine: number, cloud: number): Offer {
  const { clouds, components, population, repositories, revisions, queue } = parts;
  const revision = revisions.list[population.revision[machine] as number];
  const held = (revision?.components ?? []).filter((one) => repositories.holds(cloud, one));
  const heads = held.flatMap((one) => {
    const id = components.references[one]?.id;
    return id === undefined ? [] : [summaryHead(id)];
  });
  return {
    cloud: clouds.names[cloud] ?? "",
    region: clouds.groups[cloud]?.region ?? "",
    // Processors are shared: a cloud that has enough of them takes a machine, and is the busier.
    cpusFree: clouds.cpus[cloud] as number,
    memoryFreeBytes: clouds.memoryFreeBytes[cloud] as number,
    storageFreeBytes: Number.MAX_SAFE_INTEGER,
    accelerators: ["kvm"],
    cpuModels: ["host"],
    formats: ["raw"],
    architectures: ["amd64"],
    linkRate: clouds.downlink_bps[cloud] as number,
    egressPricePerGB: clouds.egressPricePerGB[cloud] as number,
    receives: clouds.open[cloud] === 1,
    repository: { components: held.length, heads, complete: true },
    seq: 1,
    expires_ms: queue.now_s * 1000 + EXPIRES_ms,
  };
}

export function requestOf(parts: Parts, machine: number): Request | undefined {
  const { clouds, population, revisions, queue } = parts;
  const revision = revisions.list[population.revision[machine] as number];
  if (revision === undefined) return undefined;
  return {
    appliance: revision.appliance,
    allocatedBytes: population.userDataBytes[machine] as number,
    linkRate: clouds.uplink_bps[population.cloud[machine] as number] as number,
    now_ms: queue.now_s * 1000,
  };
}

/** Why the cloud would not take the machine, by the agent's own words. */
export function objectionsTo(parts: Parts, machine: number, cloud: number): string[] {
  const request = requestOf(parts, machine);
  return request === undefined ? [] : objections(request, offerOf(parts, machine, cloud));
}
