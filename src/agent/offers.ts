import type { Machine, Offer, World } from "#core";
import type { HypervisorCapabilities } from "#hypervisor";
import { summaryOf, type ComponentStore } from "#repository";
import { hostResources, type Config } from "./config.ts";
import type { Layout } from "./layout.ts";

/** An offer is refreshed well before it expires. */
export const OFFER_LIFE_MS = 90_000;

export interface OfferSources {
  readonly world: World;
  readonly config: Config;
  readonly layout: Layout;
  readonly store: ComponentStore;
  readonly capabilities: HypervisorCapabilities;
  machines(): Promise<Machine[]>;
}

/** Makes offers of what is free now; each has a higher `seq` than the one before. */
export function createOffers(sources: OfferSources): () => Promise<Offer> {
  const { world, config, layout, store, capabilities } = sources;
  let seq = world.clock.now();
  return async () => {
    const running = (await sources.machines()).filter(({ state }) => state === "running");
    const { cpus, memoryBytes } = hostResources(config);
    seq = Math.max(seq + 1, world.clock.now());
    const { accelerators, cpuModels, formats, architectures } = capabilities;
    return {
      cloud: config.cloud,
      region: config.region,
      cpusFree: Math.max(0, cpus - sum(running, ({ cpus: used }) => used)),
      memoryFreeBytes: Math.max(0, memoryBytes - sum(running, (needs) => needs.memoryBytes)),
      storageFreeBytes: await world.files.freeBytes(layout.root),
      accelerators,
      cpuModels,
      formats,
      architectures,
      ...(config.link === undefined ? {} : { linkRate: config.link }),
      egressPricePerGB: config.egressPricePerGB,
      receives: config.receives,
      repository: summaryOf(await store.list()),
      seq,
      expires_ms: world.clock.now() + OFFER_LIFE_MS,
    };
  };
}

function sum(
  machines: readonly Machine[],
  of: (resources: Machine["appliance"]["resources"]) => number,
): number {
  return machines.reduce((total, { appliance }) => total + of(appliance.resources), 0);
}
