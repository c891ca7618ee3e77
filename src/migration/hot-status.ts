import type { HotDestinationEvent, HotDestinationPhase } from "./hot-destination.ts";
import type { HotSourceEvent, HotSourcePhase } from "./hot-source.ts";

/** What event the destination's phase is at the source of a hot migration; see `status.ts`. */
const TO_SOURCE: Readonly<Record<HotDestinationPhase, HotSourceEvent>> = {
  accepted: "peer-accepted",
  composing: "peer-accepted",
  copying: "peer-copying",
  listening: "peer-listening",
  arming: "peer-listening",
  armed: "peer-armed",
  starting: "peer-armed",
  filling: "peer-resumed",
  ready: "peer-ready",
  completed: "peer-ready",
  aborting: "peer-aborted",
  aborted: "peer-aborted",
  fencing: "peer-aborted",
  fenced: "peer-aborted",
};

const TO_DESTINATION: Readonly<Record<HotSourcePhase, HotDestinationEvent | undefined>> = {
  proposed: undefined,
  serving: undefined,
  copying: undefined,
  moving: undefined,
  switching: "peer-switching",
  "handed-over": "peer-handed-over",
  supplying: undefined,
  releasing: undefined,
  released: undefined,
  completed: "peer-completed",
  aborting: "peer-aborted",
  aborted: "peer-aborted",
};

export function hotEventFromDestination(phase: HotDestinationPhase | "unknown"): HotSourceEvent {
  return phase === "unknown" ? "peer-unknown" : TO_SOURCE[phase];
}

export function hotEventFromSource(
  phase: HotSourcePhase | "unknown",
): HotDestinationEvent | undefined {
  return phase === "unknown" ? "peer-unknown" : TO_DESTINATION[phase];
}
