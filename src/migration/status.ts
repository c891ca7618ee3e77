import type { DestinationEvent, DestinationPhase } from "./destination.ts";
import type { HotDestinationPhase } from "./hot-destination.ts";
import type { HotSourcePhase } from "./hot-source.ts";
import type { SourceEvent, SourcePhase } from "./source.ts";

/**
 * The two sides talk by telling each other their phase, as often as they like: a status that is
 * lost is told again, one that comes twice or late changes nothing. These tables say what event a
 * peer's phase is.
 */
const TO_SOURCE: Readonly<Record<DestinationPhase, SourceEvent>> = {
  accepted: "peer-accepted",
  composing: "peer-accepted",
  replicating: "peer-accepted",
  prepared: "peer-prepared",
  receiving: "peer-prepared",
  received: "peer-received",
  starting: "peer-received",
  running: "peer-running",
  ready: "peer-ready",
  completed: "peer-ready",
  // An aborting destination has journalled that it will never start the machine.
  aborting: "peer-aborted",
  aborted: "peer-aborted",
  fencing: "peer-aborted",
  fenced: "peer-aborted",
};

const TO_DESTINATION: Readonly<Record<SourcePhase, DestinationEvent | undefined>> = {
  proposed: undefined,
  serving: undefined,
  stopping: undefined,
  frozen: "peer-frozen",
  "handed-over": "peer-handed-over",
  releasing: undefined,
  released: undefined,
  completed: "peer-completed",
  aborting: "peer-aborted",
  aborted: "peer-aborted",
};

export function eventFromDestination(phase: DestinationPhase | "unknown"): SourceEvent {
  return phase === "unknown" ? "peer-unknown" : TO_SOURCE[phase];
}

export function eventFromSource(phase: SourcePhase | "unknown"): DestinationEvent | undefined {
  return phase === "unknown" ? "peer-unknown" : TO_DESTINATION[phase];
}

/** Nothing more will happen by itself on this side. */
export function isTerminal(
  phase: SourcePhase | DestinationPhase | HotSourcePhase | HotDestinationPhase,
): boolean {
  return ["completed", "aborted", "fenced"].includes(phase);
}
