/** One run of a scenario under one policy. */
import { Clouds } from "./clouds.ts";
import { makeComponents, Revisions } from "./components.ts";
import type { PlacementPolicy, PolicySpec, RunResult, Scenario } from "./contract.ts";
import { Costs } from "./costs.ts";
import { Courses, type PhaseListener } from "./courses.ts";
import { EVENT } from "./event-kinds.ts";
import { EventQueue } from "./event-queue.ts";
import { Flows } from "./flows.ts";
import { Holders } from "./holders.ts";
import { Machines, machinesMost } from "./machines.ts";
import { checkMemory } from "./memory.ts";
import type { Parts } from "./parts.ts";
import { placementOf } from "./placement-of.ts";
import { Population } from "./population.ts";
import { RandomStream } from "./random.ts";
import { Recorder } from "./recorder.ts";
import { Repositories } from "./repositories.ts";
import { RunView } from "./view.ts";
import { Weather } from "./weather.ts";

const MACHINES_TRIED = 16;

export interface RunOptions {
  /** Called for each phase that a side of a migration enters. */
  readonly onPhase?: PhaseListener;
}

export class Run {
  readonly #parts: Parts;
  readonly #courses: Courses;
  readonly #machines: Machines;
  readonly #weather: Weather;
  readonly #view: RunView;
  readonly #placement: PlacementPolicy;
  #memory: unknown;
  readonly #demand: RandomStream;
  #asked = 0;

  /** @throws `simulator.scenario-invalid`, `simulator.memory-exceeded` (misuse) */
  constructor(scenario: Scenario, policy: PolicySpec, { onPhase }: RunOptions = {}) {
    checkMemory(scenario, policy);
    this.#parts = makeParts(scenario, policy);
    this.#courses = new Courses(this.#parts, onPhase);
    this.#machines = new Machines(this.#parts);
    this.#weather = new Weather(this.#parts, this.#courses, (machine) => this.#choose(machine));
    this.#demand = new RandomStream(scenario.seed, 23);
    this.#machines.populate();
    this.#weather.begin();
    this.#view = new RunView(this.#parts);
    this.#placement = placementOf(policy, this.#parts);
    this.#memory = this.#placement.start(this.#view);
    this.#beginClock();
  }

  get now_s(): number {
    return this.#parts.queue.now_s;
  }

  get events(): number {
    return this.#parts.queue.taken;
  }

  #beginClock(): void {
    const { scenario, policy, queue, components } = this.#parts;
    queue.add(scenario.sample_s, EVENT.sample, 0);
    if (policy.placement !== "none") queue.add(policy.round_s, EVENT.round, 0);
    for (const { time_s, family } of components.releases) queue.add(time_s, EVENT.release, family);
    for (const [index, { at_s }] of scenario.migrations.named.entries()) {
      queue.add(at_s, EVENT.named, index);
    }
    this.#expectDemand();
  }

  /** Times of all that will be asked for are spread evenly over what is left. */
  #expectDemand(): void {
    const { scenario, queue } = this.#parts;
    const left = scenario.migrations.count - this.#asked;
    if (left <= 0) return;
    this.#asked += 1;
    const rest_s = scenario.duration_s - queue.now_s;
    const wait_s = rest_s * (1 - (1 - this.#demand.fraction()) ** (1 / left));
    queue.add(queue.now_s + wait_s, EVENT.demand, 0);
  }

  /**
   * Goes on for at most so many events.
   *
   * @returns false when the run is over: what is under way after the duration is not looked at
   */
  advance(eventsMax: number): boolean {
    const { flows, queue, scenario } = this.#parts;
    for (let count = 0; count < eventsMax; count += 1) {
      if (queue.nextTime_s() > scenario.duration_s) return false;
      queue.pop();
      this.#happens(queue.kind, queue.subject, queue.detail);
      flows.settle();
    }
    return true;
  }

  #happens(kind: number, subject: number, detail: number): void {
    const courses = this.#courses;
    switch (kind) {
      case EVENT.toSource:
      case EVENT.toDestination:
      case EVENT.propose:
        return courses.happens(kind, subject, detail);
      case EVENT.begin:
        return courses.fetches.begin(subject);
      case EVENT.flowEnd: {
        const job = this.#parts.flows.end(subject);
        if (job !== undefined) courses.fetches.done(job);
        return undefined;
      }
      case EVENT.flowRamp:
        return this.#parts.flows.ramp(subject);
      case EVENT.load:
        return this.#machines.loadChanges(subject);
      case EVENT.end:
        return this.#machines.end(subject);
      case EVENT.arrival:
        return this.#machines.arrivalComes();
      case EVENT.demand:
        return this.#demanded();
      default:
        return this.#rare(kind, subject);
    }
  }

  #rare(kind: number, subject: number): void {
    const weather = this.#weather;
    if (kind === EVENT.named) this.#named(subject);
    else if (kind === EVENT.sample) this.#sample();
    else if (kind === EVENT.round) this.#round();
    else if (kind === EVENT.release) this.#parts.revisions.release(subject);
    else if (kind === EVENT.join) weather.join(subject);
    else if (kind === EVENT.leave) weather.leave(subject);
    else if (kind === EVENT.evacuate) weather.evacuate(subject);
    else if (kind === EVENT.fail) weather.fail(subject);
    else if (kind === EVENT.repair) weather.repair(subject);
    else if (kind === EVENT.prefetch) weather.prefetch(subject);
  }

  #sample(): void {
    const { queue, recorder, scenario } = this.#parts;
    recorder.sample(queue.now_s, this.#courses.active);
    queue.add(queue.now_s + scenario.sample_s, EVENT.sample, 0);
  }

  #round(): void {
    const { policy, population, queue, recorder } = this.#parts;
    const { decisions, memory } = this.#placement.decide(this.#view, this.#memory);
    this.#memory = memory;
    for (const { machine, to } of decisions) {
      const idle = population.moving[machine] === 0 && (population.cloud[machine] as number) >= 0;
      if (!idle || !this.#courses.begin(machine, to)) recorder.refused();
    }
    this.#view.roundEnds();
    queue.add(queue.now_s + policy.round_s, EVENT.round, 0);
  }

  #demanded(): void {
    this.#expectDemand();
    const machine = this.#drawMachine();
    const to = machine === undefined ? undefined : this.#destination(machine);
    const begun = machine !== undefined && to !== undefined && this.#courses.begin(machine, to);
    if (!begun) this.#parts.recorder.refused();
  }

  #drawMachine(): number | undefined {
    const { clouds, population } = this.#parts;
    for (let tries = 0; tries < MACHINES_TRIED; tries += 1) {
      const machine = this.#demand.below(population.used);
      const cloud = population.cloud[machine] as number;
      if (cloud >= 0 && population.moving[machine] === 0 && clouds.up[cloud] === 1) return machine;
    }
    return undefined;
  }

  #destination(machine: number): number | undefined {
    const { clouds, population, scenario } = this.#parts;
    const back = population.cloudBefore[machine] as number;
    const returns = this.#demand.fraction() < scenario.migrations.returns;
    return returns && back >= 0 && clouds.open[back] === 1 ? back : this.#choose(machine);
  }

  #choose(machine: number): number | undefined {
    const here = this.#parts.population.cloud[machine] as number;
    const candidates = this.#view
      .drawClouds(this.#parts.policy.candidates + 1)
      .filter((cloud) => cloud !== here)
      .slice(0, this.#parts.policy.candidates);
    return this.#placement.choose(this.#view, machine, candidates, this.#memory);
  }

  #named(index: number): void {
    const { clouds, recorder, scenario } = this.#parts;
    const asked = scenario.migrations.named[index];
    const machine = scenario.machines.named.findIndex(({ name }) => name === asked?.machine);
    const to = clouds.names.indexOf(asked?.to ?? "");
    if (!this.#courses.begin(machine, to, index)) recorder.refused();
  }

  result(): RunResult {
    const { scenario, policy, clouds, population, recorder, queue, repositories } = this.#parts;
    const capacities = clouds.groups.map(({ repository }) => repository.capacityBytes);
    return {
      scenario: scenario.name,
      seed: scenario.seed,
      policy,
      clouds: clouds.count,
      machines: population.alive,
      simulated_s: scenario.duration_s,
      events: queue.taken,
      totals: recorder.totals(),
      hitRatioBound: repositories.hitBound(capacities, scenario.duration_s),
      series: recorder.series(),
      migrationTime: recorder.migrationTime.distribution(),
      downtime: recorder.downtime.distribution(),
      named: recorder.named,
    };
  }
}

function makeParts(scenario: Scenario, policy: PolicySpec): Parts {
  const queue = new EventQueue();
  const clouds = new Clouds(scenario);
  const components = makeComponents(scenario);
  const revisions = new Revisions(scenario, components);
  const repositories = new Repositories(clouds.groups, components.sizes);
  const population = new Population(machinesMost(scenario), clouds.count, policy.hot !== undefined);
  const holders = new Holders(clouds, repositories, components.count);
  const costs = new Costs(scenario, policy.transfer, { components, repositories, population });
  const flows = new Flows(queue, clouds, scenario.network.rampUp);
  const parts = { clouds, repositories, revisions };
  const recorder = new Recorder(scenario, policy.transfer === "monolithic", parts);
  const rest = { holders, costs, flows, recorder };
  return { scenario, policy, queue, ...parts, components, population, ...rest };
}
