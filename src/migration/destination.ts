import { stepper, type Table } from "./table.ts";

/**
 * The destination's side of a cold migration.
 *
 * - `accepted`: resources are reserved; missing components are being fetched.
 * - `composing`: all components are held; the composed image is being cloned.
 * - `replicating`: of a warm migration alone: the user data block is being brought up to date, again
 *   and again, while the machine runs at the source.
 * - `prepared`: the destination waits for the source to freeze the user data block.
 * - `receiving`: the user data block is being fetched.
 * - `received`: it is whole, verified and durable; the destination waits for the token.
 * - `starting`: the token is durable; the machine is the destination's to start.
 * - `running`: it runs, or has run, here: there is no way back.
 * - `ready`: the guest has booted (or its time is up); the receipt is made and signed.
 * - `aborting`, `aborted`: the machine never ran here and never will; leftovers are removed.
 * - `fencing`, `fenced`: the source's operator took the machine back by force; the copy here is
 *   stopped and kept.
 */
export type DestinationPhase =
  | "accepted"
  | "composing"
  | "replicating"
  | "prepared"
  | "receiving"
  | "received"
  | "starting"
  | "running"
  | "ready"
  | "completed"
  | "aborting"
  | "aborted"
  | "fencing"
  | "fenced";

export type DestinationEvent =
  /** What the source says of itself. */
  | "peer-frozen"
  /** With the hand-over token, checked against its announced digest. */
  | "peer-handed-over"
  | "peer-completed"
  | "peer-aborted"
  | "peer-unknown"
  | "peer-timeout"
  | "components-held"
  | "composed"
  /** Of a warm migration, in place of `composed`. */
  | "composed-warm"
  | "replicated"
  | "user-data-held"
  | "started"
  /** The hypervisor could not start it, and it never ran here. */
  | "start-failed"
  | "booted"
  | "cleaned"
  | "stopped"
  | "failed"
  | "cancel"
  | "resolve-keep"
  | "resolve-give-up";

/** Before the token: every failure, silence or cancel leads back. */
export const DESTINATION_UNDO = {
  "peer-aborted": "aborting",
  "peer-unknown": "aborting",
  "peer-timeout": "aborting",
  failed: "aborting",
  cancel: "aborting",
  "resolve-give-up": "aborting",
} as const;

/** After it: only the source's operator, or its word, does. */
export const DESTINATION_FENCE = {
  "peer-aborted": "fencing",
  "resolve-give-up": "fencing",
} as const;

export const DESTINATION: Table<DestinationPhase, DestinationEvent> = {
  accepted: { "components-held": "composing", ...DESTINATION_UNDO },
  composing: { composed: "prepared", "composed-warm": "replicating", ...DESTINATION_UNDO },
  replicating: { replicated: "prepared", ...DESTINATION_UNDO },
  prepared: { "peer-frozen": "receiving", ...DESTINATION_UNDO },
  receiving: { "user-data-held": "received", ...DESTINATION_UNDO },
  received: { "peer-handed-over": "starting", ...DESTINATION_UNDO },
  starting: { started: "running", "start-failed": "aborting", ...DESTINATION_FENCE },
  running: { booted: "ready", ...DESTINATION_FENCE },
  ready: { "peer-completed": "completed", "resolve-keep": "completed", ...DESTINATION_FENCE },
  completed: {},
  aborting: { cleaned: "aborted" },
  aborted: {},
  fencing: { stopped: "fenced" },
  fenced: {},
};

/** What the destination must do while in a phase; each is idempotent. */
export type DestinationEffect =
  | "fetch-components"
  | "compose"
  /** Read the user data block while it is written to, until that pays no more. */
  | "replicate"
  | "fetch-user-data"
  | "start-machine"
  /** Wait for the guest's own word, then make and sign the receipt. */
  | "await-ready"
  | "finish"
  | "clean-up"
  | "stop-machine";

const EFFECTS: Readonly<Record<DestinationPhase, readonly DestinationEffect[]>> = {
  accepted: ["fetch-components"],
  composing: ["compose"],
  replicating: ["replicate"],
  prepared: [],
  receiving: ["fetch-user-data"],
  received: [],
  starting: ["start-machine"],
  running: ["await-ready"],
  ready: [],
  completed: ["finish"],
  aborting: ["clean-up"],
  aborted: [],
  fencing: ["stop-machine"],
  fenced: [],
};

export function destinationEffects(phase: DestinationPhase): readonly DestinationEffect[] {
  return EFFECTS[phase];
}

/** The pure step of the destination's side. */
export const stepDestination = stepper(DESTINATION, EFFECTS);
