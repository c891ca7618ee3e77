/** Clouds that join, leave, fail and come back, and what idle links fetch ahead. */
import type { Courses } from "./courses.ts";
import { EVENT } from "./event-kinds.ts";
import type { Parts } from "./parts.ts";
import { RandomStream } from "./random.ts";

const EVACUATE_EVERY_s = 60;
/** Machines that a leaving cloud has on their way at a time. */
const EVACUATED_AT_ONCE = 4;
const PREFETCH_EVERY_s = 3600;
/** Components that are asked for most, from which a cloud takes the first that it lacks. */
const POPULAR = 64;

export class Weather {
  readonly #parts: Parts;
  readonly #courses: Courses;
  readonly #choose: (machine: number) => number | undefined;
  readonly #random: RandomStream;
  readonly #leaving: Uint8Array;
  /** How often each component was asked for, and the popular ones as of a time. */
  #popular: number[] = [];
  #popularUntil_s = 0;

  /** @param choose the cloud for a machine that has to go */
  constructor(parts: Parts, courses: Courses, choose: (machine: number) => number | undefined) {
    this.#parts = parts;
    this.#courses = courses;
    this.#choose = choose;
    this.#random = new RandomStream(parts.scenario.seed, 31);
    this.#leaving = new Uint8Array(parts.clouds.count);
  }

  begin(): void {
    const { clouds, policy, queue } = this.#parts;
    for (const [cloud, group] of clouds.groups.entries()) {
      this.#hold(cloud);
      if (group.joins_s > 0) queue.add(group.joins_s, EVENT.join, cloud);
      if (group.leaves_s !== undefined) queue.add(group.leaves_s, EVENT.leave, cloud);
      this.#expectFailure(cloud, group.joins_s);
      if (policy.transfer !== "cic-prefetch") continue;
      queue.add(this.#random.fraction() * PREFETCH_EVERY_s, EVENT.prefetch, cloud);
    }
  }

  /** What the scenario says that a cloud holds from the beginning. */
  #hold(cloud: number): void {
    const { clouds, components, holders, policy, repositories } = this.#parts;
    if (policy.transfer === "monolithic") return;
    for (const name of clouds.groups[cloud]?.holds ?? []) {
      const family = components.families.findIndex((one) => one.name === name);
      const component = components.firsts[family] as number;
      repositories.admit(cloud, component, 0);
      holders.add(component, cloud);
    }
  }

  #expectFailure(cloud: number, after_s: number): void {
    const every_s = this.#parts.clouds.groups[cloud]?.failEvery_s;
    if (every_s === undefined) return;
    this.#parts.queue.add(after_s + this.#random.exponential(every_s), EVENT.fail, cloud);
  }

  join(cloud: number): void {
    const { clouds } = this.#parts;
    clouds.up[cloud] = 1;
    clouds.open[cloud] = 1;
  }

  leave(cloud: number): void {
    this.#leaving[cloud] = 1;
    this.#parts.clouds.open[cloud] = 0;
    this.evacuate(cloud);
  }

  /** Some more machines of a leaving cloud go; the cloud is there until the last has gone. */
  evacuate(cloud: number): void {
    const { population, queue } = this.#parts;
    for (const machine of population.idleOf(cloud, EVACUATED_AT_ONCE)) {
      const to = this.#choose(machine);
      if (to === undefined || !this.#courses.begin(machine, to)) this.#parts.recorder.refused();
    }
    if ((population.countOf[cloud] as number) === 0) return;
    queue.add(queue.now_s + EVACUATE_EVERY_s, EVENT.evacuate, cloud);
  }

  fail(cloud: number): void {
    const { clouds, queue } = this.#parts;
    clouds.up[cloud] = 0;
    clouds.open[cloud] = 0;
    this.#courses.cloudFails(cloud);
    const repair_s = clouds.groups[cloud]?.repair_s ?? 0;
    queue.add(queue.now_s + this.#random.exponential(repair_s), EVENT.repair, cloud);
  }

  repair(cloud: number): void {
    const { clouds, queue } = this.#parts;
    clouds.up[cloud] = 1;
    clouds.open[cloud] = this.#leaving[cloud] === 1 ? 0 : 1;
    this.#courses.cloudRecovers(cloud);
    this.#expectFailure(cloud, queue.now_s);
  }

  /** An idle downlink fetches the component that is asked for most and is not held. */
  prefetch(cloud: number): void {
    const { clouds, flows, queue } = this.#parts;
    queue.add(queue.now_s + PREFETCH_EVERY_s, EVENT.prefetch, cloud);
    if (clouds.open[cloud] === 0 || !flows.isIdle(cloud)) return;
    for (const component of this.#popularNow()) {
      if (this.#parts.repositories.holds(cloud, component)) continue;
      const from = this.#courses.fetches.nearestHolder(component, cloud, -1);
      if (from < 0) continue;
      this.#courses.fetches.prefetch(component, from, cloud);
      return;
    }
  }

  #popularNow(): readonly number[] {
    const { queue, repositories } = this.#parts;
    if (queue.now_s < this.#popularUntil_s) return this.#popular;
    this.#popularUntil_s = queue.now_s + PREFETCH_EVERY_s;
    const { requests } = repositories;
    const asked = [...requests.keys()].filter((component) => (requests[component] as number) > 0);
    asked.sort((a, b) => (requests[b] as number) - (requests[a] as number) || a - b);
    this.#popular = asked.slice(0, POPULAR);
    // What was asked for long ago counts less.
    for (const component of asked) requests[component] = (requests[component] as number) / 2;
    return this.#popular;
  }
}
