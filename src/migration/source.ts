import { stepper, type Table } from "./table.ts";

/**
 * The source's side of a cold migration.
 *
 * - `proposed`: the destination has been asked; the machine runs.
 * - `serving`: accepted; the destination fetches components and composes; the machine runs.
 * - `stopping`: everything but user data is there; the machine is being stopped.
 * - `frozen`: the machine is off; the user data block does not change and is being fetched.
 * - `handed-over`: the hand-over token is durable and was given. From here the machine never runs
 *   at the source again, unless the destination has durably said that it aborted, or an operator
 *   who has fenced the destination says so.
 * - `releasing`: the destination runs the machine; the source turns its copy into lineage.
 * - `released`: waiting for the receipt.
 * - `aborting`, `aborted`: rolling back; the machine is again as it was before.
 */
export type SourcePhase =
  | "proposed"
  | "serving"
  | "stopping"
  | "frozen"
  | "handed-over"
  | "releasing"
  | "released"
  | "completed"
  | "aborting"
  | "aborted";

export type SourceEvent =
  /** What the destination says of itself. */
  | "peer-accepted"
  | "peer-prepared"
  | "peer-received"
  | "peer-running"
  | "peer-ready"
  | "peer-aborted"
  /** The destination has no record of this migration. */
  | "peer-unknown"
  | "peer-timeout"
  | "stopped"
  | "released"
  | "rolled-back"
  | "failed"
  | "cancel"
  /** The operator says that the destination is fenced: the machine stays here. */
  | "resolve-keep"
  /** The operator says that the machine is the destination's for good. */
  | "resolve-give-up";

/** Before the token: every failure, silence or cancel leads back. */
export const SOURCE_UNDO = {
  "peer-aborted": "aborting",
  "peer-timeout": "aborting",
  failed: "aborting",
  cancel: "aborting",
} as const;

export const SOURCE: Table<SourcePhase, SourceEvent> = {
  // The destination may not know of a proposal that has not reached it: "unknown" says nothing.
  proposed: { "peer-accepted": "serving", "peer-prepared": "serving", ...SOURCE_UNDO },
  serving: { "peer-prepared": "stopping", "peer-unknown": "aborting", ...SOURCE_UNDO },
  stopping: { stopped: "frozen", "peer-unknown": "aborting", ...SOURCE_UNDO },
  frozen: { "peer-received": "handed-over", "peer-unknown": "aborting", ...SOURCE_UNDO },
  "handed-over": {
    "peer-running": "releasing",
    "peer-ready": "releasing",
    "peer-aborted": "aborting",
    "resolve-keep": "aborting",
    "resolve-give-up": "releasing",
  },
  releasing: { released: "released" },
  released: { "peer-ready": "completed", "resolve-give-up": "completed" },
  completed: {},
  aborting: { "rolled-back": "aborted" },
  aborted: {},
};

/** What the source must do while in a phase; each is idempotent. */
export type SourceEffect =
  /** Serve components, and the user data block once it is frozen, to this destination alone. */
  | "serve"
  | "stop-machine"
  | "release-machine"
  /** Bring the machine back to what it was before the migration. */
  | "roll-back"
  | "withdraw";

const EFFECTS: Readonly<Record<SourcePhase, readonly SourceEffect[]>> = {
  proposed: ["serve"],
  serving: ["serve"],
  stopping: ["serve", "stop-machine"],
  frozen: ["serve"],
  "handed-over": ["withdraw"],
  releasing: ["release-machine"],
  released: [],
  completed: [],
  aborting: ["withdraw", "roll-back"],
  aborted: [],
};

export function sourceEffects(phase: SourcePhase): readonly SourceEffect[] {
  return EFFECTS[phase];
}

/** The pure step of the source's side. */
export const stepSource = stepper(SOURCE, EFFECTS);
