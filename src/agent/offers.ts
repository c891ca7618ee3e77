import { reportOf, type Appliance, type Machine, type Offer, type World } from "#core";
import type { HypervisorCapabilities } from "#hypervisor";
import { summaryOf, type ComponentStore } from "#repository";
import { hostResources, type Config } from "./config.ts";
import type { Layout } from "./layout.ts";

/** An offer is announced afresh well before it expires. */
export const OFFER_LIFE_MS = 90_000;

type Resources = Appliance["resources"];

export interface OfferSources {
  readonly world: World;
  readonly config: Config;
  readonly layout: Layout;
  readonly store: ComponentStore;
  readonly capabilities: HypervisorCapabilities;
  machines(): Promise<Machine[]>;
  /** Share of the processors that is busy. */
  load(): number;
  /** What is on its way here and will run here. */
  incoming(): readonly Incoming[];
}

/** A machine that a migration is bringing. */
export interface Incoming {
  readonly machine: { readonly uuid: string };
  readonly appliance: Appliance;
  readonly wasRunning: boolean;
}

/** Makes offers of what is free now; each has a higher `seq` than the one before. */
export function createOffers(sources: OfferSources): () => Promise<Offer> {
  const { world, config, layout, store, capabilities } = sources;
  let seq = Math.ceil(world.clock.now());
  return async () => {
    const used = neededBy(await sources.machines(), sources.incoming());
    const { cpus, memoryBytes } = hostResources(config);
    seq = Math.max(seq + 1, Math.ceil(world.clock.now()));
    const { accelerators, cpuModels, formats, architectures } = capabilities;
    return {
      cloud: config.cloud,
      region: config.region,
      cpus,
      load: sources.load(),
      cpusFree: Math.max(0, cpus - sum(used, (needs) => needs.cpus)),
      memoryFreeBytes: Math.max(0, memoryBytes - sum(used, (needs) => needs.memoryBytes)),
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

/** Each machine counts once: one that is being landed is among both for a moment. */
function neededBy(machines: readonly Machine[], incoming: readonly Incoming[]): Resources[] {
  const running = machines.filter(({ state }) => state === "running");
  const here = new Set(running.map(({ uuid }) => uuid));
  const coming = incoming.filter(
    ({ machine, wasRunning }) => wasRunning && !here.has(machine.uuid),
  );
  return [...running, ...coming].map(({ appliance }) => appliance.resources);
}

function sum(all: readonly Resources[], of: (resources: Resources) => number): number {
  return all.reduce((total, resources) => total + of(resources), 0);
}

/** Changes within this time are announced together. */
const GATHER_MS = 500;
/** Free storage changes without any event of ours. */
const REPEAT_MS = OFFER_LIFE_MS / 3;

/** Announces the offer after every change, and afresh before it expires. */
export class Announcer {
  readonly #world: Pick<World, "clock" | "log">;
  #publish: () => Promise<void> = () => Promise.resolve();
  #running = false;
  #cancel: () => void = () => undefined;
  #waiting = false;

  constructor(world: Pick<World, "clock" | "log">) {
    this.#world = world;
  }

  /** What announces; it may fail: then the next time counts. */
  serve(publish: () => Promise<void>): void {
    this.#publish = publish;
  }

  start(): void {
    this.#running = true;
    void this.announce();
  }

  stop(): void {
    this.#running = false;
    this.#cancel();
  }

  /** Something that the offer tells has changed. */
  changed(): void {
    if (!this.#running || this.#waiting) return;
    this.#waiting = true;
    this.#after(GATHER_MS);
  }

  /** Never fails: what was done is done, whether others hear of it or not. */
  async announce(): Promise<void> {
    this.#waiting = false;
    try {
      await this.#publish();
    } catch (error) {
      this.#world.log.log("warn", "the offer is not announced", { ...reportOf(error) });
    }
    if (this.#running && !this.#waiting) this.#after(REPEAT_MS);
  }

  #after(wait_ms: number): void {
    this.#cancel();
    this.#cancel = this.#world.clock.after(wait_ms, () => void this.announce());
  }
}
