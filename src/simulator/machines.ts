/** Machines that come, change their load and end. */
import { TesseraError } from "#core";
import type { Scenario } from "./contract.ts";
import { EVENT } from "./event-kinds.ts";
import type { Parts } from "./parts.ts";
import { RandomStream, WeightedDraw } from "./random.ts";

const DAY_s = 86_400;
/** A machine that is on its way when its time has come ends this much later. */
const END_LATER_s = 600;
const PLACES_TRIED = 64;
/** Arrivals come at random, so there may be more machines at a time than on average. */
const SPARE_SHARE = 1.1;
const SPARE_MACHINES = 100;

export class Machines {
  readonly #parts: Parts;
  /** Streams of their own, so that all policies meet the same machines. */
  readonly #births: RandomStream;
  readonly #loads: RandomStream;
  readonly #writes: RandomStream;
  readonly #places: WeightedDraw;
  readonly #composed: boolean;

  constructor(parts: Parts) {
    const { scenario, clouds, policy } = parts;
    this.#parts = parts;
    this.#births = new RandomStream(scenario.seed, 21);
    this.#loads = new RandomStream(scenario.seed, 22);
    this.#writes = new RandomStream(scenario.seed, 24);
    this.#places = new WeightedDraw(clouds.memoryFreeBytes);
    this.#composed = policy.transfer !== "monolithic";
  }

  /** Those of the beginning, with what comes of them. */
  populate(): void {
    const { named, count, lifetime_s } = this.#parts.scenario.machines;
    const { appliances } = this.#parts.components;
    for (const { cloud, appliance, userDataBytes } of named) {
      const place = this.#parts.clouds.names.indexOf(cloud);
      this.#create(
        place,
        appliances.findIndex(({ name }) => name === appliance),
        userDataBytes,
      );
    }
    if (named.length > 0) return;
    for (let machine = 0; machine < count; machine += 1) this.arrive();
    if (lifetime_s !== undefined) this.#expect(lifetime_s / count);
  }

  /** The next arrival, `mean_s` from now on average. */
  #expect(mean_s: number): void {
    const { queue } = this.#parts;
    queue.add(queue.now_s + this.#births.exponential(mean_s), EVENT.arrival, 0);
  }

  arrivalComes(): void {
    const { count, lifetime_s } = this.#parts.scenario.machines;
    this.arrive();
    if (lifetime_s !== undefined) this.#expect(lifetime_s / count);
  }

  /** A machine where there is room, more likely where there is more of it. */
  arrive(): void {
    const { scenario, components, clouds } = this.#parts;
    const { userDataMedianBytes, userDataSigma, memoryBytes } = scenario.machines;
    const appliance = components.popularity.draw(this.#births);
    const bytes = userDataMedianBytes * Math.exp(userDataSigma * this.#births.normal());
    for (let tries = 0; tries < PLACES_TRIED; tries += 1) {
      const cloud = this.#places.draw(this.#births);
      const fits = (clouds.memoryFreeBytes[cloud] as number) >= memoryBytes;
      if (clouds.open[cloud] === 0 || !fits) continue;
      this.#create(cloud, appliance, Math.ceil(bytes));
      return;
    }
  }

  #create(cloud: number, appliance: number, userDataBytes: number): void {
    const { clouds, population, queue, revisions, recorder, scenario } = this.#parts;
    const revision = revisions.currentOf(appliance);
    const machine = population.add(cloud, revision);
    if (machine === undefined) return;
    population.userDataBytes[machine] = userDataBytes;
    population.load[machine] = this.#loadAt(cloud);
    if (this.#parts.policy.hot !== undefined) {
      const { median_Bps, sigma } = scenario.machines.dirty;
      population.dirty_Bps[machine] = median_Bps * Math.exp(sigma * this.#writes.normal());
    }
    clouds.load[cloud] = (clouds.load[cloud] as number) + population.load[machine];
    clouds.memoryFreeBytes[cloud] =
      (clouds.memoryFreeBytes[cloud] as number) - scenario.machines.memoryBytes;
    recorder.seen(cloud, revision);
    this.#compose(cloud, revision);
    const { lifetime_s, load } = scenario.machines;
    const now_s = queue.now_s;
    if (lifetime_s !== undefined) {
      const end_s = now_s + this.#births.exponential(lifetime_s);
      population.endHandle[machine] = queue.add(end_s, EVENT.end, machine);
    }
    if (load.changeEvery_s === undefined) return;
    const change_s = now_s + this.#loads.exponential(load.changeEvery_s);
    population.loadHandle[machine] = queue.add(change_s, EVENT.load, machine);
  }

  #compose(cloud: number, revision: number): void {
    if (!this.#composed) return;
    const { holders, queue, repositories, revisions } = this.#parts;
    for (const component of revisions.list[revision]?.components ?? []) {
      repositories.use(cloud, component);
      if (repositories.holds(cloud, component)) continue;
      repositories.admit(cloud, component, queue.now_s);
      holders.add(component, cloud);
    }
  }

  end(machine: number): void {
    const { clouds, population, queue, repositories, revisions, scenario } = this.#parts;
    if (population.moving[machine] === 1) {
      population.endHandle[machine] = queue.add(queue.now_s + END_LATER_s, EVENT.end, machine);
      return;
    }
    const cloud = population.cloud[machine] as number;
    clouds.load[cloud] = (clouds.load[cloud] as number) - (population.load[machine] as number);
    clouds.memoryFreeBytes[cloud] =
      (clouds.memoryFreeBytes[cloud] as number) + scenario.machines.memoryBytes;
    const revision = revisions.list[population.revision[machine] as number];
    for (const component of this.#composed ? (revision?.components ?? []) : []) {
      repositories.release(cloud, component, queue.now_s);
    }
    if (population.loadHandle[machine] !== -1)
      queue.remove(population.loadHandle[machine] as number);
    population.endHandle[machine] = -1;
    population.loadHandle[machine] = -1;
    population.remove(machine);
  }

  loadChanges(machine: number): void {
    const { clouds, population, queue, scenario } = this.#parts;
    const { changeEvery_s } = scenario.machines.load;
    if (changeEvery_s === undefined) return;
    const cloud = population.cloud[machine] as number;
    const load = this.#loadAt(cloud);
    clouds.load[cloud] =
      (clouds.load[cloud] as number) + load - (population.load[machine] as number);
    population.load[machine] = load;
    const next_s = queue.now_s + this.#loads.exponential(changeEvery_s);
    population.loadHandle[machine] = queue.add(next_s, EVENT.load, machine);
  }

  #loadAt(cloud: number): number {
    const { clouds, queue, scenario } = this.#parts;
    const { load, cpus } = scenario.machines;
    const regions = Math.max(1, scenario.network.regions.length);
    const phase = queue.now_s / DAY_s + (clouds.regions[cloud] as number) / regions;
    const wave = 1 + load.daily * Math.sin(2 * Math.PI * phase);
    const share = load.mean * wave + load.spread * this.#loads.normal();
    return cpus * Math.min(1, Math.max(0, share));
  }
}

/** @throws `simulator.scenario-invalid` where the clouds cannot hold the machines */
export function checkRoom({ clouds, machines }: Scenario): void {
  const most = clouds
    .filter(({ joins_s }) => joins_s === 0)
    .reduce(
      (sum, group) => sum + group.count * Math.floor(group.memoryBytes / machines.memoryBytes),
      0,
    );
  if (machines.named.length > 0 || machines.count <= most) return;
  const message = `the clouds have memory for ${most} machines, and there are ${machines.count}`;
  throw new TesseraError("misuse", "simulator.scenario-invalid", message, {
    subject: "machines.count",
    remedy: "give clouds more memory, machines less, or lower machines.count",
  });
}

/** Slots for machines. */
export function machinesMost({ machines }: Scenario): number {
  if (machines.named.length > 0) return machines.named.length;
  if (machines.lifetime_s === undefined) return machines.count;
  return Math.ceil(machines.count * SPARE_SHARE) + SPARE_MACHINES;
}
