import { DESTINATION_FENCE, DESTINATION_UNDO } from "./destination.ts";
import { stepper, type Table } from "./table.ts";

/**
 * The destination's side of a hot migration. As a cold one, with these in place of `prepared`,
 * `receiving`, `received` and `running`:
 *
 * - `copying`: the composed image is cloned; the user data block is being read ahead.
 * - `listening`: the hypervisor waits, paused, for memory.
 * - `arming`: the machine is paused at the source; the map of what is still to come of the user
 *   data block is being made durable, and by pre-copy the status is being loaded.
 * - `armed`: the machine could go on here at once; the destination waits for the token.
 * - `starting`: the token is durable; the machine is the destination's to resume.
 * - `filling`: it runs, or has run, here; what it lacks is fetched, first what it asks for. A
 *   hypervisor that dies now is started anew from the user data block, as after a power cut.
 * - `ready`: nothing here depends on the source any more; the receipt is made and signed.
 */
export type HotDestinationPhase =
  | "accepted"
  | "composing"
  | "copying"
  | "listening"
  | "arming"
  | "armed"
  | "starting"
  | "filling"
  | "ready"
  | "completed"
  | "aborting"
  | "aborted"
  | "fencing"
  | "fenced";

export type HotDestinationEvent =
  /** What the source says of itself. */
  | "peer-switching"
  | "peer-handed-over"
  | "peer-completed"
  | "peer-aborted"
  | "peer-unknown"
  | "peer-timeout"
  | "components-held"
  | "composed"
  /** The user data block was read ahead as far as it pays; the hypervisor waits. */
  | "listening"
  | "armed"
  | "resumed"
  /** The hypervisor could not resume it, and it never ran here. */
  | "start-failed"
  | "whole"
  | "cleaned"
  | "stopped"
  | "failed"
  | "cancel"
  | "resolve-keep"
  | "resolve-give-up";

export const HOT_DESTINATION: Table<HotDestinationPhase, HotDestinationEvent> = {
  accepted: { "components-held": "composing", ...DESTINATION_UNDO },
  composing: { composed: "copying", ...DESTINATION_UNDO },
  copying: { listening: "listening", ...DESTINATION_UNDO },
  listening: { "peer-switching": "arming", ...DESTINATION_UNDO },
  arming: { armed: "armed", ...DESTINATION_UNDO },
  armed: { "peer-handed-over": "starting", ...DESTINATION_UNDO },
  starting: { resumed: "filling", "start-failed": "aborting", ...DESTINATION_FENCE },
  filling: { whole: "ready", ...DESTINATION_FENCE },
  ready: { "peer-completed": "completed", "resolve-keep": "completed", ...DESTINATION_FENCE },
  completed: {},
  aborting: { cleaned: "aborted" },
  aborted: {},
  fencing: { stopped: "fenced" },
  fenced: {},
};

/** What the destination must do while in a phase; each is idempotent. */
export type HotDestinationEffect =
  | "fetch-components"
  | "compose"
  /** Read the user data block ahead, then start the hypervisor that waits for memory. */
  | "copy-ahead"
  /** Pass what comes of memory to the hypervisor. */
  | "take-memory"
  | "arm"
  | "resume-machine"
  /** Fetch what is lacking, then let the hypervisor have the plain file. */
  | "fill"
  | "finish"
  | "clean-up"
  | "stop-machine";

const EFFECTS: Readonly<Record<HotDestinationPhase, readonly HotDestinationEffect[]>> = {
  accepted: ["fetch-components"],
  composing: ["compose"],
  copying: ["copy-ahead"],
  listening: ["take-memory"],
  arming: ["take-memory", "arm"],
  armed: ["take-memory"],
  starting: ["take-memory", "resume-machine"],
  filling: ["take-memory", "fill"],
  ready: [],
  completed: ["finish"],
  aborting: ["clean-up"],
  aborted: [],
  fencing: ["stop-machine"],
  fenced: [],
};

export function hotDestinationEffects(phase: HotDestinationPhase): readonly HotDestinationEffect[] {
  return EFFECTS[phase];
}

/** The pure step of the destination's side of a hot migration. */
export const stepHotDestination = stepper(HOT_DESTINATION, EFFECTS);
