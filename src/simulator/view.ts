/** A run as a placement policy sees it. */
import type { FederationView } from "./contract.ts";
import { forecastOf } from "./hot-memory.ts";
import type { Parts } from "./parts.ts";
import { RandomStream } from "./random.ts";

const TRIES_PER_CLOUD = 8;

export class RunView implements FederationView {
  readonly loadBefore: Float64Array;
  readonly machineLoadBefore: Float64Array;
  readonly #parts: Parts;
  readonly #random: RandomStream;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#random = new RandomStream(parts.scenario.seed, 41);
    this.loadBefore = parts.clouds.load.slice();
    // Without rounds nobody asks what was before.
    const rounds = parts.policy.placement !== "none";
    this.machineLoadBefore = new Float64Array(rounds ? parts.population.capacity : 0);
  }

  get now_s(): number {
    return this.#parts.queue.now_s;
  }

  get clouds(): number {
    return this.#parts.clouds.count;
  }

  get machines(): number {
    return this.#parts.population.used;
  }

  get open(): Uint8Array {
    return this.#parts.clouds.open;
  }

  get load(): Float64Array {
    return this.#parts.clouds.load;
  }

  get capacity(): Float64Array {
    return this.#parts.clouds.cpus;
  }

  get memoryFreeBytes(): Float64Array {
    return this.#parts.clouds.memoryFreeBytes;
  }

  get egressPricePerGB(): Float64Array {
    return this.#parts.clouds.egressPricePerGB;
  }

  get uplink_bps(): Float64Array {
    return this.#parts.clouds.uplink_bps;
  }

  get downlink_bps(): Float64Array {
    return this.#parts.clouds.downlink_bps;
  }

  get cloudOf(): Int32Array {
    return this.#parts.population.cloud;
  }

  get machineLoad(): Float64Array {
    return this.#parts.population.load;
  }

  get machineMemoryBytes(): number {
    return this.#parts.scenario.machines.memoryBytes;
  }

  machinesOf(cloud: number): readonly number[] {
    return this.#parts.population.idleOf(cloud);
  }

  missingBytes(machine: number, cloud: number): number {
    const { components, costs, population, repositories, revisions } = this.#parts;
    const from = population.cloud[machine] as number;
    const revision = revisions.list[population.revision[machine] as number];
    let bytes = 0;
    for (const component of revision?.components ?? []) {
      if (this.#monolithic) {
        const size = components.sizes[component] as number;
        bytes += Math.ceil(size * (components.ratios[component] as number));
      } else if (!repositories.holds(cloud, component)) {
        bytes += costs.component(component, from, cloud).bytes;
      }
    }
    return bytes;
  }

  get #monolithic(): boolean {
    return this.#parts.policy.transfer === "monolithic";
  }

  userDataBytes(machine: number, cloud: number): number {
    const { costs, population, scenario } = this.#parts;
    const all = population.userDataBytes[machine] as number;
    const rawBytes = this.#monolithic ? all : costs.userData(machine, cloud, this.now_s).rawBytes;
    return Math.ceil(rawBytes * scenario.machines.userDataRatio);
  }

  downtime_s(machine: number, cloud: number): number {
    const { clouds, policy, population, scenario } = this.#parts;
    const from = population.cloud[machine] as number;
    if (policy.hot !== undefined)
      return forecastOf(this.#parts, machine, from, cloud).pause_ms / 1000;
    const whole = this.#monolithic ? this.missingBytes(machine, cloud) : 0;
    const bytes = this.userDataBytes(machine, cloud) + whole;
    const messages_s = 2.5 * clouds.roundTrip_s(from, cloud);
    const transfer_s = (bytes * 8) / clouds.rate_bps(from, cloud);
    return scenario.machines.start_s + messages_s + transfer_s;
  }

  drawClouds(count: number): readonly number[] {
    const { clouds } = this.#parts;
    const drawn: number[] = [];
    for (let tries = 0; tries < TRIES_PER_CLOUD * count && drawn.length < count; tries += 1) {
      const cloud = this.#random.below(clouds.count);
      if (clouds.open[cloud] === 1 && !drawn.includes(cloud)) drawn.push(cloud);
    }
    return drawn;
  }

  random(): number {
    return this.#random.fraction();
  }

  /** The round is over: what is now is before from here on. */
  roundEnds(): void {
    this.loadBefore.set(this.load);
    this.machineLoadBefore.set(this.machineLoad);
  }
}
