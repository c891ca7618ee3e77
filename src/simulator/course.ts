/** One simulated migration: both sides' phases, which move by the real tables alone. */
import type { Plan } from "#core";
import { isTerminal } from "#migration";
import type { MemoryPlay } from "./hot-memory.ts";
import {
  sidesOf,
  type DestinationHappening,
  type DestinationSide,
  type DestinationWork,
  type SourceHappening,
  type SourceSide,
  type SourceWork,
} from "./sides.ts";

/** Events by the numbers with which they travel through the queue. */
export const SOURCE_EVENTS = [
  "peer-accepted",
  "peer-prepared",
  "peer-received",
  "peer-running",
  "peer-ready",
  "peer-aborted",
  "peer-timeout",
  "stopped",
  "peer-copying",
  "peer-listening",
  "peer-armed",
  "peer-resumed",
] as const satisfies readonly SourceHappening[];
export const DESTINATION_EVENTS = [
  "peer-frozen",
  "peer-handed-over",
  "peer-completed",
  "peer-aborted",
  "peer-timeout",
  "composed",
  "started",
  "booted",
  "peer-switching",
  "listening",
  "armed",
] as const satisfies readonly DestinationHappening[];

export interface Course {
  readonly slot: number;
  readonly machine: number;
  readonly revision: number;
  readonly from: number;
  readonly to: number;
  readonly plan: Plan;
  readonly asked_s: number;
  /** Index among the named migrations; -1 for drawn ones. */
  readonly named: number;
  source: SourceSide;
  /** Undefined until the proposal has come. */
  destination: DestinationSide | undefined;
  /** The destination's CPUs that are kept for it. */
  reservedLoad: number;
  /** Fetches that are not whole. */
  fetching: number;
  /** Events in the queue that are about this course. */
  pending: number;
  off_s: number;
  on_s: number;
  ready_s: number;
  /** Of a hot migration, once its memory flows. */
  hot: HotCourse | undefined;
}

export interface HotCourse {
  readonly play: MemoryPlay;
  readonly passBegan_s: number;
  /** When the copy of user data began that was made ahead. */
  readonly copied_s: number;
  /** Nothing of the memory is still to come. */
  readonly memoryWhole: boolean;
  /** What was written since is being fetched, or has been. */
  readonly filling: boolean;
}

/** What the phases ask for, and how one side's word comes to the other. */
export interface CourseWork {
  sourceEffect(course: Course, effect: SourceWork): void;
  destinationEffect(course: Course, effect: DestinationWork): void;
  /** Called in each new phase, before its effects. */
  entered(course: Course, phase: SourceSide | DestinationSide): void;
  tellSource(course: Course, event: SourceHappening): void;
  tellDestination(course: Course, event: DestinationHappening): void;
  settled(course: Course): void;
}

export function sourceHappens(course: Course, event: SourceHappening, work: CourseWork): void {
  const { phase, effects } = sidesOf(course).source(course.source, event);
  if (phase === course.source) return;
  course.source = phase;
  work.entered(course, phase);
  for (const effect of effects) work.sourceEffect(course, effect);
  // An effect that was done at once has led on, and told the later phase.
  if (course.source !== phase) return;
  tellOfSource(course, work);
  if (isOver(course)) work.settled(course);
}

export function destinationHappens(
  course: Course,
  event: DestinationHappening,
  work: CourseWork,
): void {
  if (course.destination === undefined) return;
  const { phase, effects } = sidesOf(course).destination(course.destination, event);
  if (phase === course.destination) return;
  course.destination = phase;
  enterDestination(course, effects, work);
}

/** The proposal has come and was accepted. */
export function destinationBegins(course: Course, work: CourseWork): void {
  course.destination = "accepted";
  enterDestination(course, ["fetch-components"], work);
}

function enterDestination(
  course: Course,
  effects: readonly DestinationWork[],
  work: CourseWork,
): void {
  const phase = course.destination as DestinationSide;
  work.entered(course, phase);
  for (const effect of effects) work.destinationEffect(course, effect);
  if (course.destination !== phase) return;
  tellOfDestination(course, work);
  if (isOver(course)) work.settled(course);
}

/** A phase that says nothing to the other side is not told. */
export function tellOfSource(course: Course, work: CourseWork): void {
  const event = sidesOf(course).fromSource(course.source);
  if (event !== undefined) work.tellDestination(course, event);
}

export function tellOfDestination(course: Course, work: CourseWork): void {
  if (course.destination === undefined) return;
  work.tellSource(course, sidesOf(course).fromDestination(course.destination));
}

/** Neither side will do anything more. */
export function isOver({ source, destination }: Course): boolean {
  return isTerminal(source) && (destination === undefined || isTerminal(destination));
}
