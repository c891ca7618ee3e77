/** What the phases of a hot migration ask for beside what those of a cold one do. */
import { BESIDES_MS, usualMemoryLink } from "#migration";
import {
  destinationHappens,
  DESTINATION_EVENTS,
  sourceHappens,
  type Course,
  type CourseWork,
  type HotCourse,
} from "./course.ts";
import type { Fetches } from "./fetches.ts";
import { beginMemory, guestOf, passEnds, termsOf } from "./hot-memory.ts";
import type { Parts } from "./parts.ts";
import type { DestinationWork, SourceWork } from "./sides.ts";

/** Who owns the courses. */
export interface HotOwner extends CourseWork {
  /** An event of the destination comes later. */
  destinationLater(course: Course, delay_s: number, event: number): void;
}

const LISTENING = DESTINATION_EVENTS.indexOf("listening");
const ARMED = DESTINATION_EVENTS.indexOf("armed");

export class HotCourses {
  readonly #parts: Parts;
  readonly #fetches: Fetches;
  readonly #owner: HotOwner;

  constructor(parts: Parts, fetches: Fetches, owner: HotOwner) {
    this.#parts = parts;
    this.#fetches = fetches;
    this.#owner = owner;
  }

  sourceEffect(course: Course, effect: SourceWork): void {
    if (effect === "emigrate") this.#emigrate(course);
    else if (effect === "switch-over") this.#switchOver(course);
    else if (effect === "supply-memory") this.#supplyMemory(course);
  }

  destinationEffect(course: Course, effect: DestinationWork): void {
    if (effect === "copy-ahead") this.#copyAhead(course);
    else if (effect === "arm") this.#arm(course);
    else if (effect === "resume-machine") destinationHappens(course, "resumed", this.#owner);
    else if (effect === "fill") this.#fill(course);
  }

  /** One pass: what is written meanwhile is fetched after the switch, as the default of agents is. */
  #copyAhead(course: Course): void {
    const { queue } = this.#parts;
    if (course.fetching > 0) return;
    course.hot = {
      play: beginMemory(guestOf(this.#parts, course.machine), termsOf(this.#parts)),
      passBegan_s: queue.now_s,
      copied_s: queue.now_s,
      memoryWhole: false,
      filling: false,
    };
    this.#fetches.fetchUserData(course);
  }

  userDataHeld(course: Course): void {
    if (course.destination === "copying") {
      this.#owner.destinationLater(course, this.#parts.scenario.machines.start_s, LISTENING);
    } else this.#wholePerhaps(course);
  }

  /** The flow of memory begins, or begins anew. */
  #emigrate(course: Course): void {
    if (course.fetching > 0 || !this.#areUp(course)) return;
    const play = beginMemory(guestOf(this.#parts, course.machine), termsOf(this.#parts));
    this.#pass(course, { ...hotOf(course), play, memoryWhole: false });
  }

  #pass(course: Course, hot: HotCourse): void {
    course.hot = { ...hot, passBegan_s: this.#parts.queue.now_s };
    this.#send(course);
  }

  /** What remains, compressed as the first pass or as what is sent again. */
  #send(course: Course): void {
    const { remainingBytes, passes } = hotOf(course).play.facts;
    const { clouds } = this.#parts;
    const { wireRatio, againRatio, coder_Bps } = usualMemoryLink(
      clouds.rate_bps(course.from, course.to),
    );
    const ratio = passes > 1 ? againRatio : wireRatio;
    this.#fetches.sendMemory(course, remainingBytes * ratio, coder_Bps * ratio * 8);
  }

  memoryHeld(course: Course): void {
    const hot = hotOf(course);
    if (course.source === "moving") this.#passEnded(course, hot);
    else if (course.source !== "aborting") {
      course.hot = { ...hot, memoryWhole: true };
      this.#armPerhaps(course);
      this.#wholePerhaps(course);
    }
  }

  #passEnded(course: Course, hot: HotCourse): void {
    const { queue, recorder } = this.#parts;
    const took_ms = (queue.now_s - hot.passBegan_s) * 1000;
    const guest = guestOf(this.#parts, course.machine);
    const play = passEnds(hot.play, took_ms, guest, termsOf(this.#parts));
    course.hot = { ...hot, play };
    if (play.next === "pass") this.#pass(course, course.hot);
    else if (play.next === "give-up") {
      recorder.givenUp();
      sourceHappens(course, "failed", this.#owner);
    } else sourceHappens(course, "paused", this.#owner);
  }

  /** By pre-copy the rest follows now, while the machine is paused. */
  #switchOver(course: Course): void {
    const { play, memoryWhole } = hotOf(course);
    const sent = course.fetching > 0 || memoryWhole || play.next === "postcopy";
    if (!sent && this.#areUp(course)) this.#send(course);
  }

  #arm(course: Course): void {
    this.#armPerhaps(course);
  }

  /** Once it is known what is lacking, and by pre-copy all memory is here. */
  #armPerhaps(course: Course): void {
    const { play, memoryWhole } = hotOf(course);
    if (course.destination !== "arming" || !(memoryWhole || play.next === "postcopy")) return;
    // The two messages that follow are a part of what the pause has besides memory.
    const roundTrip_s = this.#parts.clouds.roundTrip_s(course.from, course.to);
    this.#owner.destinationLater(course, Math.max(0, BESIDES_MS / 1000 - roundTrip_s), ARMED);
  }

  /** By post-copy the rest follows once the machine is the destination's. */
  #supplyMemory(course: Course): void {
    const { play, memoryWhole } = hotOf(course);
    if (play.next !== "postcopy" || memoryWhole || course.fetching > 0) return;
    if (this.#areUp(course)) this.#send(course);
  }

  /** What was written to the user data block since its copy began. */
  #fill(course: Course): void {
    const { population, scenario } = this.#parts;
    const hot = hotOf(course);
    if (hot.filling || !this.#areUp(course)) return;
    course.hot = { ...hot, filling: true };
    const { writes_Bps, userDataRatio } = scenario.machines;
    const all = population.userDataBytes[course.machine] as number;
    const written = Math.min(all, (course.off_s - hot.copied_s) * writes_Bps);
    this.#fetches.fetchRest(course, Math.ceil(written * userDataRatio));
  }

  #wholePerhaps(course: Course): void {
    const { memoryWhole, filling } = hotOf(course);
    if (course.fetching > 0 || !memoryWhole || !filling) return;
    destinationHappens(course, "whole", this.#owner);
  }

  #areUp({ from, to }: Course): boolean {
    const { up } = this.#parts.clouds;
    return up[from] === 1 && up[to] === 1;
  }
}

function hotOf({ hot }: Course): HotCourse {
  if (hot === undefined) throw new Error("a machine's memory moves before its user data");
  return hot;
}
