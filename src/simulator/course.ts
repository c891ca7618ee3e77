/** One simulated migration: both sides' phases, which move by the real tables alone. */
import type { Plan } from "#core";
import {
  eventFromDestination,
  eventFromSource,
  isTerminal,
  stepDestination,
  stepSource,
  type DestinationEffect,
  type DestinationEvent,
  type DestinationPhase,
  type SourceEffect,
  type SourceEvent,
  type SourcePhase,
} from "#migration";

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
] as const satisfies readonly SourceEvent[];
export const DESTINATION_EVENTS = [
  "peer-frozen",
  "peer-handed-over",
  "peer-completed",
  "peer-aborted",
  "peer-timeout",
  "composed",
  "started",
  "booted",
] as const satisfies readonly DestinationEvent[];

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
  source: SourcePhase;
  /** Undefined until the proposal has come. */
  destination: DestinationPhase | undefined;
  /** The destination's CPUs that are kept for it. */
  reservedLoad: number;
  /** Fetches that are not whole. */
  fetching: number;
  /** Events in the queue that are about this course. */
  pending: number;
  off_s: number;
  on_s: number;
  ready_s: number;
}

/** What the phases ask for, and how one side's word comes to the other. */
export interface CourseWork {
  sourceEffect(course: Course, effect: SourceEffect): void;
  destinationEffect(course: Course, effect: DestinationEffect): void;
  /** Called in each new phase, before its effects. */
  entered(course: Course, phase: SourcePhase | DestinationPhase): void;
  tellSource(course: Course, event: SourceEvent): void;
  tellDestination(course: Course, event: DestinationEvent): void;
  settled(course: Course): void;
}

export function sourceHappens(course: Course, event: SourceEvent, work: CourseWork): void {
  const { phase, effects } = stepSource(course.source, event);
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
  event: DestinationEvent,
  work: CourseWork,
): void {
  if (course.destination === undefined) return;
  const { phase, effects } = stepDestination(course.destination, event);
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
  effects: readonly DestinationEffect[],
  work: CourseWork,
): void {
  const phase = course.destination as DestinationPhase;
  work.entered(course, phase);
  for (const effect of effects) work.destinationEffect(course, effect);
  if (course.destination !== phase) return;
  tellOfDestination(course, work);
  if (isOver(course)) work.settled(course);
}

/** A phase that says nothing to the other side is not told. */
export function tellOfSource(course: Course, work: CourseWork): void {
  const event = eventFromSource(course.source);
  if (event !== undefined) work.tellDestination(course, event);
}

export function tellOfDestination(course: Course, work: CourseWork): void {
  if (course.destination === undefined) return;
  work.tellSource(course, eventFromDestination(course.destination));
}

/** Neither side will do anything more. */
export function isOver({ source, destination }: Course): boolean {
  return isTerminal(source) && (destination === undefined || isTerminal(destination));
}
