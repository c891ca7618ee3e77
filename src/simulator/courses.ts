/** Migrations under way: plans them by the real planner, and does in simulated time what their phases ask for. */
import {
  destinationBegins,
  destinationHappens,
  DESTINATION_EVENTS,
  isOver,
  SOURCE_EVENTS,
  sourceHappens,
  tellOfDestination,
  tellOfSource,
  type Course,
  type CourseWork,
} from "./course.ts";
import { EVENT } from "./event-kinds.ts";
import { Fetches, type FetchOwner } from "./fetches.ts";
import { HotCourses, type HotOwner } from "./hot-courses.ts";
import { objectionsTo } from "./offers.ts";
import type { Parts } from "./parts.ts";
import { planOf } from "./planning.ts";
import {
  sidesOf,
  type DestinationHappening,
  type DestinationSide,
  type DestinationWork,
  type SourceHappening,
  type SourceSide,
  type SourceWork,
} from "./sides.ts";

/** How long a side waits for the other before it gives up. */
const PEER_TIMEOUT_s = 60;

type Phase = SourceSide | DestinationSide;
/** Called for each phase that a side enters. */
export type PhaseListener = (course: Course, phase: Phase) => void;

export class Courses implements CourseWork, FetchOwner, HotOwner {
  readonly fetches: Fetches;
  /** Under way, by slot. */
  readonly #courses: (Course | undefined)[] = [];
  readonly #free: number[] = [];
  readonly #parts: Parts;
  readonly #listener: PhaseListener | undefined;
  readonly #hot: HotCourses;
  active = 0;

  constructor(parts: Parts, listener?: PhaseListener) {
    this.#parts = parts;
    this.#listener = listener;
    this.fetches = new Fetches(parts, this);
    this.#hot = new HotCourses(parts, this.fetches, this);
  }

  /**
   * Plans a migration and proposes it.
   *
   * @returns false where the destination has an objection, or one of the clouds does not answer
   */
  begin(machine: number, to: number, named = -1): boolean {
    const { clouds, population, queue } = this.#parts;
    const from = population.cloud[machine] as number;
    if (from === to || clouds.up[from] === 0 || clouds.open[to] === 0) return false;
    if (objectionsTo(this.#parts, machine, to).length > 0) return false;
    const revision = population.revision[machine] as number;
    const plan = planOf(this.#parts, machine, from, to);
    for (const component of this.componentsOf(revision)) {
      this.#parts.repositories.request(to, component, queue.now_s);
    }
    const slot = this.#free.pop() ?? this.#courses.length;
    const times = {
      asked_s: queue.now_s,
      off_s: Number.NaN,
      on_s: Number.NaN,
      ready_s: Number.NaN,
    };
    const counts = { reservedLoad: 0, fetching: 0, pending: 0 };
    const sides = { source: "proposed", destination: undefined, hot: undefined } as const;
    const course = {
      slot,
      machine,
      revision,
      from,
      to,
      plan,
      named,
      ...sides,
      ...counts,
      ...times,
    };
    this.#courses[slot] = course;
    this.active += 1;
    population.moving[machine] = 1;
    this.#reserve(course);
    // The plan is asked for and answered, then the proposal goes.
    this.#later(course, 1.5 * clouds.roundTrip_s(from, to), EVENT.propose, 0);
    return true;
  }

  get isMonolithic(): boolean {
    return this.#parts.policy.transfer === "monolithic";
  }

  /** What the machine of a course is composed of: nothing that a repository knows, as a monolith. */
  componentsOf(revision: number): readonly number[] {
    return this.isMonolithic ? [] : (this.#parts.revisions.list[revision]?.components ?? []);
  }

  /** The destination keeps room for the machine. */
  #reserve(course: Course): void {
    const { clouds, population, scenario } = this.#parts;
    const { to, machine } = course;
    course.reservedLoad = population.load[machine] as number;
    clouds.load[to] = (clouds.load[to] as number) + course.reservedLoad;
    clouds.memoryFreeBytes[to] =
      (clouds.memoryFreeBytes[to] as number) - scenario.machines.memoryBytes;
  }

  /** An event of the queue that is about a course. */
  happens(kind: number, slot: number, detail: number): void {
    const course = this.#courses[slot];
    if (course === undefined) return;
    course.pending -= 1;
    if (kind === EVENT.toSource) this.#toSource(course, detail);
    else this.#toDestination(course, kind, detail);
    if (isOver(course) && course.pending === 0) this.#forget(course);
  }

  /** What is told to an agent that is down is lost; when it is back, both tell again. */
  #toSource(course: Course, detail: number): void {
    const { up } = this.#parts.clouds;
    if (up[course.from] === 0 || (detail === SOURCE_TIMEOUT && up[course.to] === 1)) return;
    sourceHappens(course, SOURCE_EVENTS[detail] as SourceHappening, this);
  }

  #toDestination(course: Course, kind: number, detail: number): void {
    const { up } = this.#parts.clouds;
    if (up[course.to] === 0) return;
    if (kind === EVENT.propose) this.#proposed(course);
    else if (detail !== TIMEOUT || up[course.from] === 0) {
      destinationHappens(course, DESTINATION_EVENTS[detail] as DestinationHappening, this);
    }
  }

  #proposed(course: Course): void {
    if (course.destination !== undefined || course.source !== "proposed") return;
    for (const component of this.componentsOf(course.revision)) {
      this.#parts.repositories.use(course.to, component);
    }
    destinationBegins(course, this);
  }

  courseAt(slot: number): Course | undefined {
    return this.#courses[slot];
  }

  componentsHeld(course: Course): void {
    destinationHappens(course, "components-held", this);
  }

  userDataHeld(course: Course): void {
    if (course.hot !== undefined) this.#hot.userDataHeld(course);
    else destinationHappens(course, "user-data-held", this);
  }

  memoryHeld(course: Course): void {
    this.#hot.memoryHeld(course);
  }

  #forget(course: Course): void {
    if (this.#courses[course.slot] !== course) return;
    this.#courses[course.slot] = undefined;
    this.#free.push(course.slot);
  }

  #later(course: Course, delay_s: number, kind: number, detail: number): void {
    course.pending += 1;
    this.#parts.queue.add(this.#parts.queue.now_s + delay_s, kind, course.slot, detail);
  }

  tellSource(course: Course, event: SourceHappening): void {
    const delay_s = this.#parts.clouds.roundTrip_s(course.from, course.to) / 2;
    this.#later(course, delay_s, EVENT.toSource, SOURCE_EVENTS.indexOf(event as never));
  }

  tellDestination(course: Course, event: DestinationHappening): void {
    const delay_s = this.#parts.clouds.roundTrip_s(course.from, course.to) / 2;
    this.#later(course, delay_s, EVENT.toDestination, DESTINATION_EVENTS.indexOf(event as never));
  }

  destinationLater(course: Course, delay_s: number, event: number): void {
    this.#later(course, delay_s, EVENT.toDestination, event);
  }

  entered(course: Course, phase: Phase): void {
    const { now_s } = this.#parts.queue;
    if (phase === "frozen" || phase === "switching") course.off_s = now_s;
    else if (phase === "running" || phase === "filling") course.on_s = now_s;
    else if (phase === "ready") course.ready_s = now_s;
    else if (phase === "released" && course.hot !== undefined) this.#askAgain(course);
    this.#listener?.(course, phase);
  }

  /** The word that it is ready came when the machine had still to be released. */
  #askAgain(course: Course): void {
    const roundTrip_s = this.#parts.clouds.roundTrip_s(course.from, course.to);
    this.#later(course, roundTrip_s, EVENT.toSource, READY);
  }

  settled(course: Course): void {
    this.active -= 1;
    this.#parts.population.moving[course.machine] = 0;
    this.#parts.recorder.settled(course);
  }

  sourceEffect(course: Course, effect: SourceWork): void {
    if (effect === "stop-machine") {
      this.#later(course, this.#parts.scenario.machines.stop_s, EVENT.toSource, STOPPED);
    } else if (effect === "release-machine") {
      this.#releaseMachine(course);
      sourceHappens(course, "released", this);
    } else if (effect === "withdraw") {
      // What is still being fetched is of no use any more; after a hand-over nothing is.
      if (course.source === "aborting") this.fetches.cancelOf(course);
    } else if (effect === "roll-back") {
      if (course.destination === undefined) this.#freeRoom(course);
      sourceHappens(course, "rolled-back", this);
    } else this.#hot.sourceEffect(course, effect);
  }

  #releaseMachine({ machine, revision, from, to, reservedLoad }: Course): void {
    const { clouds, population, queue, repositories, recorder, scenario } = this.#parts;
    population.move(machine, to, queue.now_s);
    const load = population.load[machine] as number;
    clouds.load[from] = (clouds.load[from] as number) - load;
    clouds.load[to] = (clouds.load[to] as number) + load - reservedLoad;
    clouds.memoryFreeBytes[from] =
      (clouds.memoryFreeBytes[from] as number) + scenario.machines.memoryBytes;
    recorder.seen(to, revision);
    for (const component of this.componentsOf(revision)) {
      repositories.release(from, component, queue.now_s);
    }
  }

  destinationEffect(course: Course, effect: DestinationWork): void {
    const { machines } = this.#parts.scenario;
    if (effect === "fetch-components") this.fetches.fetchComponents(course);
    else if (effect === "compose") {
      this.#later(course, machines.compose_s, EVENT.toDestination, COMPOSED);
    } else if (effect === "fetch-user-data") this.fetches.fetchUserData(course);
    else if (effect === "start-machine") {
      this.#later(course, machines.start_s, EVENT.toDestination, STARTED);
    } else if (effect === "await-ready") {
      this.#later(course, machines.boot_s, EVENT.toDestination, BOOTED);
    } else if (effect === "clean-up") this.#cleanUp(course);
    else if (effect === "stop-machine") destinationHappens(course, "stopped", this);
    else this.#hot.destinationEffect(course, effect);
  }

  #cleanUp(course: Course): void {
    const { queue, repositories } = this.#parts;
    this.fetches.cancelOf(course);
    this.#freeRoom(course);
    for (const component of this.componentsOf(course.revision)) {
      repositories.release(course.to, component, queue.now_s);
    }
    destinationHappens(course, "cleaned", this);
  }

  #freeRoom({ to, reservedLoad }: Course): void {
    const { clouds, scenario } = this.#parts;
    clouds.load[to] = (clouds.load[to] as number) - reservedLoad;
    clouds.memoryFreeBytes[to] =
      (clouds.memoryFreeBytes[to] as number) + scenario.machines.memoryBytes;
  }

  /** A cloud's agent, links and machines are gone; who waits for it gives up after a while. */
  cloudFails(cloud: number): void {
    this.fetches.cloudFails(cloud);
    for (const course of this.#of(cloud)) {
      if (course.from === cloud) this.#later(course, PEER_TIMEOUT_s, EVENT.toDestination, TIMEOUT);
      else this.#later(course, PEER_TIMEOUT_s, EVENT.toSource, SOURCE_TIMEOUT);
    }
  }

  /** Its agent is back: both sides do again what their phases ask for, and tell them. */
  cloudRecovers(cloud: number): void {
    for (const course of this.#of(cloud)) {
      if (course.destination === undefined) {
        // The proposal may have been lost.
        if (course.source === "proposed") this.#later(course, 0, EVENT.propose, 0);
        continue;
      }
      const sides = sidesOf(course);
      for (const effect of sides.sourceEffects(course.source)) {
        if (AGAIN.has(effect)) this.sourceEffect(course, effect);
      }
      for (const effect of sides.destinationEffects(course.destination)) {
        if (effect !== "finish" && effect !== "clean-up") this.destinationEffect(course, effect);
      }
      tellOfSource(course, this);
      tellOfDestination(course, this);
    }
  }

  #of(cloud: number): Course[] {
    return this.#courses.filter(
      (course): course is Course =>
        course !== undefined && (course.from === cloud || course.to === cloud) && !isOver(course),
    );
  }
}

/** What a source has to do again when one of the clouds is back. */
const AGAIN: ReadonlySet<SourceWork> = new Set([
  "stop-machine",
  "emigrate",
  "switch-over",
  "supply-memory",
]);
const READY = SOURCE_EVENTS.indexOf("peer-ready");
const STOPPED = SOURCE_EVENTS.indexOf("stopped");
const SOURCE_TIMEOUT = SOURCE_EVENTS.indexOf("peer-timeout");
const TIMEOUT = DESTINATION_EVENTS.indexOf("peer-timeout");
const COMPOSED = DESTINATION_EVENTS.indexOf("composed");
const STARTED = DESTINATION_EVENTS.indexOf("started");
const BOOTED = DESTINATION_EVENTS.indexOf("booted");
