/** What destinations fetch: who sends which components, user data blocks, and what is fetched ahead. */
import { fetchSeconds, rankHolders, type Holder } from "#delta";
import type { Course } from "./course.ts";
import { EVENT } from "./event-kinds.ts";
import type { Job } from "./flows.ts";
import type { Parts } from "./parts.ts";

/** Frames, TLS and negotiation, as the plan counts them. */
const WIRE_SHARE = 1.005;

/** Where fetches belong, and who is told that all of a kind are whole. */
export interface FetchOwner {
  courseAt(slot: number): Course | undefined;
  componentsOf(revision: number): readonly number[];
  isMonolithic: boolean;
  componentsHeld(course: Course): void;
  userDataHeld(course: Course): void;
  memoryHeld(course: Course): void;
}

export class Fetches {
  /** Jobs whose connection is being opened. */
  readonly #jobs: (Job | undefined)[] = [];
  readonly #free: number[] = [];
  readonly #parts: Parts;
  readonly #owner: FetchOwner;

  constructor(parts: Parts, owner: FetchOwner) {
    this.#parts = parts;
    this.#owner = owner;
  }

  fetchComponents(course: Course): void {
    if (course.fetching > 0) return;
    const { clouds, costs, repositories } = this.#parts;
    const missing = this.#owner
      .componentsOf(course.revision)
      .filter((component) => !repositories.holds(course.to, component));
    if (missing.length === 0) {
      this.#owner.componentsHeld(course);
      return;
    }
    // Where the source does not answer, its recovery begins this again.
    if (clouds.up[course.from] === 0) return;
    for (const [from, components] of this.#sources(course, missing)) {
      const bytes = components.reduce(
        (sum, component) => sum + costs.component(component, from, course.to).bytes,
        0,
      );
      this.#fetch(course, { kind: "components", from, bytes: bytes * WIRE_SHARE, components });
    }
  }

  /** Which cloud sends which components. */
  #sources(course: Course, missing: readonly number[]): Map<number, number[]> {
    const { transfer } = this.#parts.policy;
    const nearest = transfer === "cic-nearest" || transfer === "cic-prefetch";
    const sources = new Map<number, number[]>();
    for (const component of missing) {
      const from = nearest ? this.nearestHolder(component, course.to, course.from) : course.from;
      sources.set(from, [...(sources.get(from) ?? []), component]);
    }
    return sources;
  }

  /**
   * The cloud that brings it soonest, by the delta room's ranking, of those that got it last.
   *
   * @param from holds it besides; -1 for none
   * @returns -1 where no cloud is known to hold it
   */
  nearestHolder(component: number, to: number, from: number): number {
    const { clouds, components, holders } = this.#parts;
    const known = holders.of(component, to);
    if (from >= 0 && !known.includes(from)) known.push(from);
    const ranked: Holder[] = known.map((cloud) => ({
      cloud: String(cloud),
      bitsPerSecond: clouds.rate_bps(cloud, to),
      roundTrip_ms: clouds.roundTrip_s(cloud, to) * 1000,
      pricePerGB: clouds.egressPricePerGB[cloud] as number,
    }));
    const [best] = rankHolders(ranked, components.sizes[component] as number);
    return best === undefined ? -1 : Number(best.cloud);
  }

  fetchUserData(course: Course): void {
    const { from, plan } = course;
    if (course.fetching > 0 || this.#parts.clouds.up[from] === 0) return;
    const bytes = this.#owner.isMonolithic ? plan.monolithicBytes : plan.userData.bytes;
    this.#fetch(course, { kind: "user-data", from, bytes: bytes * WIRE_SHARE, components: [] });
  }

  /** What is left of user data after the switch. */
  fetchRest(course: Course, bytes: number): void {
    const { from } = course;
    this.#fetch(course, { kind: "user-data", from, bytes: bytes * WIRE_SHARE, components: [] });
  }

  /**
   * Memory that the source sends.
   *
   * @param most_bps what its coder makes of it
   */
  sendMemory(course: Course, bytes: number, most_bps: number): void {
    const { from } = course;
    const job = { kind: "memory", from, bytes: bytes * WIRE_SHARE, components: [] } as const;
    this.#fetch(course, { ...job, most_bps });
  }

  /** For the time when somebody asks for it. */
  prefetch(component: number, from: number, to: number): void {
    const bytes = this.#parts.costs.component(component, from, to).bytes * WIRE_SHARE;
    this.#open({ kind: "prefetch", from, to, bytes, course: -1, components: [component] });
  }

  #fetch(course: Course, what: Omit<Job, "to" | "course">): void {
    course.fetching += 1;
    this.#open({ ...what, to: course.to, course: course.slot });
  }

  /** Opens a connection for the job, then lets its bytes flow. */
  #open(job: Job): void {
    const { clouds, queue } = this.#parts;
    const at = this.#free.pop() ?? this.#jobs.length;
    this.#jobs[at] = job;
    const roundTrip_s = clouds.roundTrip_s(job.from, job.to);
    queue.add(queue.now_s + setupSeconds(job, roundTrip_s), EVENT.begin, at);
  }

  /** The connection is open. */
  begin(at: number): void {
    const job = this.#jobs[at];
    this.#jobs[at] = undefined;
    this.#free.push(at);
    // It was cancelled meanwhile.
    if (job === undefined) return;
    if (job.bytes > 0) this.#parts.flows.start(job);
    else this.done(job);
  }

  /** All bytes of a job have come. */
  done(job: Job): void {
    const { holders, queue, recorder, repositories } = this.#parts;
    recorder.carried({ job, bytes: job.bytes });
    for (const component of job.components) {
      repositories.admit(job.to, component, queue.now_s);
      holders.add(component, job.to);
    }
    const course = job.course < 0 ? undefined : this.#owner.courseAt(job.course);
    if (course === undefined) return;
    course.fetching -= 1;
    if (job.kind === "memory") this.#owner.memoryHeld(course);
    else if (course.fetching === 0) this.#allDone(course, job);
  }

  #allDone(course: Course, job: Job): void {
    // What another holder failed to send is still missing.
    if (job.kind === "components") this.fetchComponents(course);
    else this.#owner.userDataHeld(course);
  }

  cancelOf(course: Course): void {
    this.#cancel((job) => job.course === course.slot);
    course.fetching = 0;
  }

  /** Ends all that comes from the cloud or goes to it. */
  cloudFails(cloud: number): void {
    const broken = this.#cancel((job) => job.from === cloud || job.to === cloud);
    for (const { course, kind, to } of broken) {
      const owner = course < 0 ? undefined : this.#owner.courseAt(course);
      if (owner === undefined) continue;
      owner.fetching -= 1;
      if (owner.hot !== undefined) owner.hot = { ...owner.hot, filling: false };
      // Another holder failed: the source sends what that one would have sent.
      const helped = kind === "components" && owner.from !== cloud && to !== cloud;
      if (helped && owner.fetching === 0) this.fetchComponents(owner);
    }
  }

  /** @returns what was cancelled */
  #cancel(matches: (job: Job) => boolean): Job[] {
    const cancelled = this.#parts.flows.cancel(matches);
    for (const one of cancelled) this.#parts.recorder.carried(one);
    const waiting: Job[] = [];
    for (const [at, job] of this.#jobs.entries()) {
      if (job === undefined || !matches(job)) continue;
      this.#jobs[at] = undefined;
      waiting.push(job);
    }
    return [...cancelled.map(({ job }) => job), ...waiting];
  }
}

/** User data come over the session that brought the components; memory is sent unasked. */
function setupSeconds({ kind }: Job, roundTrip_s: number): number {
  if (kind === "memory") return 0;
  if (kind === "user-data") return roundTrip_s;
  return fetchSeconds({ roundTrip_ms: roundTrip_s * 1000 }, 0);
}
